"""Live objects without the exposure of some revisions, made from the objects alone: it takes no spec.

For children for which no plan can be made. Never raises, whatever an object contains; tenants can write all of them.
"""

from collections.abc import Collection
from typing import Any

from modelsync.api import names
from modelsync.api.kinds import mapping, sequence
from modelsync.resources.objects import Object
from modelsync.resources.route import backend_ref


def route_without(route: Object, name: str, revisions: Collection[str]) -> Object | None:
    """A merge patch for the HTTPRoute of `name` without the backends of `revisions`; None if it lists none of them.

    A rule with matches of its own that loses all its traffic goes; of the others, one that loses it gets the blocked
    Service.
    """
    rules = sequence(mapping(route.get("spec")).get("rules"))
    kept = [found for rule in rules if (found := _rule_without(rule, name, revisions)) is not None]
    if kept == rules:
        return None
    return {"spec": {"rules": kept or [{"backendRefs": [backend_ref(name, names.BLOCKED, 1)]}]}}


def service_without(service: Object, name: str, revisions: Collection[str]) -> Object | None:
    """A merge patch that makes a Service of `name` select no pod; None if it selects none of `revisions`.

    A selector that does not name a revision selects all of them.
    """
    selector = mapping(mapping(service.get("spec")).get("selector"))
    selected = selector.get(names.REVISION_LABEL)
    if not selector or (selected is not None and selected not in revisions):
        return None
    return {"spec": {"selector": names.selector(name, names.BLOCKED)}}


def exposed_by_route(route: Object, name: str) -> set[str]:
    """The revisions that any rule of the route lists, even with weight 0."""
    return {
        revision
        for rule in sequence(mapping(route.get("spec")).get("rules"))
        for backend in sequence(mapping(rule).get("backendRefs"))
        if (revision := _revision(backend, name)) is not None
    }


def _rule_without(rule: Any, name: str, revisions: Collection[str]) -> Any:
    """The rule as it may stay; None if it must go."""
    backends = sequence(mapping(rule).get("backendRefs"))
    kept = [each for each in backends if _revision(each, name) not in revisions]
    if len(kept) == len(backends):
        return rule
    if any(mapping(each).get("weight", 1) != 0 for each in kept):
        return {**rule, "backendRefs": kept}
    if any(mapping(match).get("headers") for match in sequence(rule.get("matches"))):
        return None
    return {**rule, "backendRefs": [backend_ref(name, names.BLOCKED, 1)]}


def _revision(backend: Any, name: str) -> str | None:
    return names.revision_of(name, str(mapping(backend).get("name", "")))
