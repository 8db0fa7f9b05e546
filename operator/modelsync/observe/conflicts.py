"""Finds another route or ModelDeployment with the same host and path. The gateway could give its traffic to either one.

The older one wins, as in the Gateway API ("oldest route based on creation timestamp"), and the newer ModelDeployment
writes no route.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

from modelsync.api import names
from modelsync.api.kinds import Object, controller_uid, name_of, uid_of
from modelsync.api.traffic import Gateway
from modelsync.observe.claims import hosts_of_owner, hosts_of_route, paths_of_owner, paths_of_route
from modelsync.observe.family import Family
from modelsync.observe.fields import mapping, objects

_Claim: TypeAlias = tuple[int, str, str, str]
"""Sort key: existing routes before ModelDeployments without one, then by age, then by namespace and name."""

_Parent: TypeAlias = tuple[str, str, str, int | None]
"""Namespace and name of a Gateway, with listener and port if set."""


def conflict(family: Family, gateway: Gateway) -> str | None:
    """A message about an older claim on one of our host names and paths; None if there is none."""
    own = _claim(family.route, family.owner)
    older = [
        (claim, message) for claim, message in (*_routes(family, gateway), *_owners(family, gateway)) if claim < own
    ]
    return min(older)[1] if older else None


def _routes(family: Family, gateway: Gateway) -> Iterable[tuple[_Claim, str]]:
    for route in family.rival_routes:
        if controller_uid(route) == family.uid:
            continue
        spec = route.get("spec") or {}
        namespace = str(route["metadata"].get("namespace"))
        theirs = _parents(namespace, spec.get("parentRefs") or ())
        shared = _shared(family, gateway, hosts_of_route(route), paths_of_route(route), theirs)
        if shared is not None:
            yield _claim(route, route), _sentence("HTTPRoute", namespace, name_of(route), shared)


def _owners(family: Family, gateway: Gateway) -> Iterable[tuple[_Claim, str]]:
    with_route = {controller_uid(route) for route in family.rival_routes}
    for owner in family.rival_owners:
        if uid_of(owner) in (*with_route, family.uid):
            continue
        namespace = str(owner["metadata"].get("namespace"))
        gateway_spec = mapping(mapping(mapping(owner.get("spec")).get("traffic")).get("gateway"))
        theirs = _parents(namespace, objects(gateway_spec.get("parentRefs")))
        shared = _shared(family, gateway, hosts_of_owner(owner), paths_of_owner(owner), theirs)
        if shared is not None:
            yield _claim(None, owner), _sentence(names.KIND, namespace, name_of(owner), shared)


def _claim(route: Object | None, owner: Object) -> _Claim:
    metadata = (route or owner)["metadata"]
    place = owner["metadata"]
    created = str(metadata.get("creationTimestamp") or "")
    return 0 if route is not None else 1, created, str(place.get("namespace")), str(place.get("name"))


def _shared(
    family: Family, gateway: Gateway, hosts: Iterable[str], paths: Iterable[str], parents: set[_Parent]
) -> tuple[set[str], set[str]] | None:
    """The hosts and paths that both claim on the same listener; None if there are none."""
    our_hosts = set(hosts_of_owner(family.owner)) & set(hosts)
    our_paths = set(gateway.paths) & set(paths)
    ours = _parents(family.key.namespace, (ref.wire() for ref in gateway.parent_refs))
    return (our_hosts, our_paths) if our_hosts and our_paths and _meet(ours, parents) else None


def _sentence(kind: str, namespace: str, name: str, shared: tuple[set[str], set[str]]) -> str:
    hosts, paths = (", ".join(sorted(each)) for each in shared)
    where = "all host names of its Gateway" if hosts == "*" else hosts
    return (
        f"spec.traffic.gateway.hostnames: {kind} {namespace}/{name} is older and already uses {paths} of {where}; "
        "choose another host name or other paths, or delete the other one"
    )


def _parents(namespace: str, refs: Iterable[Any]) -> set[_Parent]:
    return {
        (
            _text(ref.get("namespace")) or namespace,
            _text(ref.get("name")),
            _text(ref.get("sectionName")),
            port if isinstance(port := ref.get("port"), int) else None,
        )
        for ref in refs
        if isinstance(ref, dict)
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _meet(ours: set[_Parent], theirs: set[_Parent]) -> bool:
    """Whether two sets of parents share a listener. A parent without `sectionName` or port stands for all of them."""
    return any(
        one[:2] == other[:2]
        and all(mine == their or not mine or not their for mine, their in zip(one[2:], other[2:], strict=True))
        for one in ours
        for other in theirs
    )
