"""Decides who has a host name and path that two routes or ModelDeployments claim on one listener.

A gateway gives a request to the most specific route: an exact host before a wildcard before none, then the longer path.
So a younger route below an older one would take its requests. Here the older one keeps what it has:

* From another namespace, a younger claim that is as specific or more specific is refused. A less specific one is not,
  because the gateway never gives it what the older one matches.
* Within a namespace only equal hosts and paths conflict: a team may share a host between models by paths.

"Older" is decided for each host and path: a ModelDeployment that adds a host name is not older for it than the route
that has it already, however long its own route has existed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from modelsync.api import names
from modelsync.api.kinds import HTTP_ROUTE, Object
from modelsync.api.problems import FieldProblem
from modelsync.api.traffic import Gateway
from modelsync.observe.claims import (
    ANY_HOST,
    Age,
    Claim,
    Parent,
    Path,
    claim_of_gateway,
    claim_of_owner,
    claim_of_route,
)
from modelsync.observe.family import Family

MAX_SHOWN = 3
"""Host names or paths in a message."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What an older claim has of ours."""

    by: Claim
    hosts: tuple[str, ...]
    """Ours."""
    paths: tuple[Path, ...]
    """Ours."""
    their_hosts: tuple[str, ...]
    their_paths: tuple[Path, ...]


def conflict(family: Family, gateway: Gateway) -> str | None:
    """A message about an older claim on one of our host names and paths; None if there is none."""
    ours = claim_of_gateway(family.owner, gateway)
    live = claim_of_route(family.route) if family.route is not None else None
    rivals = (*map(claim_of_route, family.rival_routes), *_owners(family.rival_owners))
    found = [taken for rival in rivals if (taken := taken_by(ours, live, rival)) is not None]
    return _sentence(min(found, key=lambda taken: taken.by.age)) if found else None


def without_hostnames(namespace: str, gateway: Gateway) -> FieldProblem | None:
    """The problem of a gateway without host names on a Gateway of another namespace: it would get every request that
    nobody else's route matches, and nothing would keep others from taking a host name from it."""
    if gateway.hostnames:
        return None
    for index, ref in enumerate(gateway.parent_refs):
        if ref.namespace not in (None, namespace):
            return FieldProblem(
                "spec.traffic.gateway.hostnames",
                f"is empty, and parentRefs[{index}] is Gateway {ref.namespace}/{ref.name} of another namespace, which "
                "others may use too; list the host names of this model, such as chat.example.com",
            )
    return None


def taken_by(ours: Claim, live: Claim | None, rival: Claim) -> Taken | None:
    """What `rival` has of ours because it is older; None if nothing. `live` is what our route, if there is one, has."""
    if rival.owner_uid is not None and rival.owner_uid == ours.owner_uid:
        return None
    parents = [parent for parent in ours.parents if any(parent.meets(theirs) for theirs in rival.parents)]
    if not parents or not rival.age < ours.age:
        return None
    held = [parent for parent in rival.parents if any(parent.meets(mine) for mine in parents)]
    hosts: list[str] = []
    their_hosts: set[str] = set()
    paths: set[Path] = set()
    their_paths: set[Path] = set()
    for host in ours.hosts:
        theirs = _covering(host, rival, held, same_namespace=rival.namespace == ours.namespace)
        if theirs is None:
            continue
        mine = [
            (path, other)
            for path in ours.paths
            if rival.age < _age(ours, live, host, path, parents)
            and (other := _having(path, rival, ours, below=theirs != host)) is not None
        ]
        if mine:
            hosts.append(host)
            their_hosts.add(theirs)
            paths.update(path for path, _ in mine)
            their_paths.update(path for _, path in mine)
    if not hosts:
        return None
    return Taken(rival, tuple(hosts), tuple(sorted(paths)), tuple(sorted(their_hosts)), tuple(sorted(their_paths)))


def youngest_age(ours: Claim, live: Claim | None) -> Age:
    """Our age for what we have had for the shortest time: only older claims can keep us out."""
    if (
        live is not None
        and set(ours.hosts) <= set(live.hosts)
        and set(ours.paths) <= set(live.paths)
        and all(any(has.includes(parent) for has in live.parents) for parent in ours.parents)
    ):
        return live.age
    return ours.age


def overlap(one: Claim, other: Claim) -> bool:
    """Whether there is a request that both match."""
    return (
        any(mine.meets(theirs) for mine in one.parents for theirs in other.parents)
        and any(hosts_overlap(mine, theirs) for mine in one.hosts for theirs in other.hosts)
        and any(mine.overlaps(theirs) for mine in one.paths for theirs in other.paths)
    )


def hosts_overlap(one: str, other: str) -> bool:
    """Whether one host name is in both; of two that overlap, one includes the other."""
    return includes(one, other) or includes(other, one)


def includes(host: str, other: str) -> bool:
    """Whether `host` stands for every name that `other` stands for. A wildcard stands for any number of labels."""
    if host in (ANY_HOST, other):
        return True
    return host.startswith("*.") and other.removeprefix("*").endswith(host[1:])


def hosts_above(host: str) -> list[str]:
    """`host` and the wildcards that include it, the most specific first; without `ANY_HOST`."""
    if host == ANY_HOST:
        return []
    labels = host.removeprefix("*.").split(".")
    return list(dict.fromkeys([host, *(f"*.{'.'.join(labels[at:])}" for at in range(1, len(labels)))]))


def _covering(host: str, rival: Claim, held: Iterable[Parent], *, same_namespace: bool) -> str | None:
    """The host by which a gateway would match a request for `host` with `rival`, if it is one that keeps us out."""
    if same_namespace:
        return host if host in rival.hosts else None
    including = [theirs for theirs in rival.hosts if includes(theirs, host)]
    if not including:
        return None
    theirs = max(including, key=lambda each: (each != ANY_HOST, not each.startswith("*"), len(each)))
    if theirs == ANY_HOST and host != ANY_HOST and not any(rival.has_any_host(parent) for parent in held):
        return None
    return theirs


def _having(path: Path, rival: Claim, ours: Claim, *, below: bool) -> Path | None:
    """The path by which `rival` has requests that ours would take from it; None if there is none. `below`: our host is
    more specific than theirs, so that any request that both match would be ours."""
    if rival.namespace == ours.namespace:
        return next((theirs for theirs in rival.paths if theirs.plain == path.plain), None)
    return next(
        (
            theirs
            for theirs in rival.paths
            if theirs.plain == path.plain or theirs.covers(path) or (below and path.covers(theirs))
        ),
        None,
    )


def _age(ours: Claim, live: Claim | None, host: str, path: Path, parents: Iterable[Parent]) -> Age:
    """Our age for this host and path: the live route's, where it already has them."""
    if (
        live is not None
        and host in live.hosts
        and path in live.paths
        and all(any(has.includes(parent) for has in live.parents) for parent in parents)
    ):
        return live.age
    return ours.age


def _owners(owners: Iterable[Object]) -> Iterable[Claim]:
    return (claim for claim in map(claim_of_owner, owners) if claim is not None)


def _sentence(taken: Taken) -> str:
    kind = "HTTPRoute" if taken.by.kind == HTTP_ROUTE else names.KIND
    theirs = _place(taken.their_hosts, taken.their_paths)
    ours = _place(taken.hosts, taken.paths)
    includes = "" if ours == theirs else f", which includes {ours}"
    return (
        f"spec.traffic.gateway.hostnames: {kind} {taken.by.namespace}/{taken.by.name} is older and already uses "
        f"{theirs}{includes}; choose another host name or other paths, or delete the other one"
    )


def _place(hosts: tuple[str, ...], paths: tuple[Path, ...]) -> str:
    where = "all host names of its Gateway" if hosts == (ANY_HOST,) else _listed(hosts)
    return f"{_listed(tuple(path.plain for path in paths))} of {where}"


def _listed(items: tuple[str, ...]) -> str:
    more = len(items) - MAX_SHOWN
    return ", ".join(items[:MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")
