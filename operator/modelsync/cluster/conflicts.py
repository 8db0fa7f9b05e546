"""Finds out whether someone else has our host and path already. Two routes for one would share its traffic by luck.

Gateway API lets the older HTTPRoute win ("oldest route based on creation timestamp"); so does this, and the younger
ModelDeployment writes no route at all.
"""

from collections.abc import Iterable
from typing import Any

from modelsync.api import names
from modelsync.api.spec import Gateway
from modelsync.cluster.cache import hosts_of_owner, hosts_of_route
from modelsync.cluster.family import Family
from modelsync.cluster.kinds import Object, controller_uid, name_of, uid_of
from modelsync.resources.route import PATH

_Claim = tuple[int, str, str, str]
"""Existing routes before wishes, then the older, then by namespace and name."""


def conflict(family: Family, gateway: Gateway) -> str | None:
    """The sentence about an older claim on one of our host names and `/v1`, if there is one."""
    own = _claim(family.route, family.owner)
    hosts = set(hosts_of_owner(family.owner))
    parents = _parents(family.key.namespace, (ref.wire() for ref in gateway.parent_refs))
    older = [
        (claim, told)
        for claim, told in (*_routes(family, hosts, parents), *_owners(family, hosts, parents))
        if claim < own
    ]
    return min(older)[1] if older else None


def _routes(family: Family, hosts: set[str], parents: set[tuple[str, str, str]]) -> Iterable[tuple[_Claim, str]]:
    for route in family.rival_routes:
        if controller_uid(route) == family.uid or not _has_path(route):
            continue
        shared = hosts & set(hosts_of_route(route))
        namespace = str(route["metadata"].get("namespace"))
        theirs = _parents(namespace, (route.get("spec") or {}).get("parentRefs") or ())
        if shared and _meet(parents, theirs):
            yield _claim(route, route), _sentence("HTTPRoute", namespace, name_of(route), shared)


def _owners(family: Family, hosts: set[str], parents: set[tuple[str, str, str]]) -> Iterable[tuple[_Claim, str]]:
    with_route = {controller_uid(route) for route in family.rival_routes}
    for owner in family.rival_owners:
        if uid_of(owner) in (*with_route, family.uid):
            continue
        shared = hosts & set(hosts_of_owner(owner))
        namespace = str(owner["metadata"].get("namespace"))
        theirs = _parents(namespace, owner["spec"]["traffic"]["gateway"].get("parentRefs") or ())
        if shared and _meet(parents, theirs):
            yield _claim(None, owner), _sentence(names.KIND, namespace, name_of(owner), shared)


def _claim(route: Object | None, owner: Object) -> _Claim:
    metadata = (route or owner)["metadata"]
    place = owner["metadata"]
    created = str(metadata.get("creationTimestamp") or "")
    return 0 if route is not None else 1, created, str(place.get("namespace")), str(place.get("name"))


def _sentence(kind: str, namespace: str, name: str, shared: set[str]) -> str:
    hosts = ", ".join(sorted(shared))
    where = "all host names of its Gateway" if hosts == "*" else hosts
    return (
        f"spec.traffic.gateway.hostnames: {kind} {namespace}/{name} is older and has {PATH} of {where} already; choose "
        "another host name, or delete the other one"
    )


def _parents(namespace: str, refs: Iterable[Any]) -> set[tuple[str, str, str]]:
    return {
        (str(ref.get("namespace") or namespace), str(ref.get("name")), str(ref.get("sectionName") or ""))
        for ref in refs
        if isinstance(ref, dict)
    }


def _meet(ours: set[tuple[str, str, str]], theirs: set[tuple[str, str, str]]) -> bool:
    """Whether two sets of parents share a listener; a parent without `sectionName` means all listeners."""
    return any(
        one[:2] == other[:2] and (one[2] == other[2] or not one[2] or not other[2]) for one in ours for other in theirs
    )


def _has_path(route: Object) -> bool:
    """Whether one of its rules is for exactly our path; longer and shorter paths do not take ours."""
    for rule in (route.get("spec") or {}).get("rules") or ():
        for match in rule.get("matches") or ():
            path = match.get("path") or {}
            if path.get("type", "PathPrefix") in ("PathPrefix", "Exact") and path.get("value", "/").rstrip("/") == PATH:
                return True
    return False
