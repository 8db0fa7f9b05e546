"""Finds the older claims on a ModelDeployment's host names and paths, without looking at every route in the cluster.

Claims are kept by Gateway and host, oldest first. A search looks only where a claim can stand that keeps ours out: at
our hosts and the wildcards above them, and there only at what is older. So what somebody else claims elsewhere, or
claims later, costs nothing here, however many routes it has.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from modelsync.api.kinds import HTTP_ROUTE, MODEL_DEPLOYMENT, Key, Kind
from modelsync.observe.claims import ANY_HOST, Age, Claim
from modelsync.observe.conflicts import hosts_above, taken_by, youngest_age

Place: TypeAlias = tuple[Kind, Key]
"""Kind, namespace and name of an object."""

_Bucket: TypeAlias = tuple[str, str, str]
"""Namespace and name of a Gateway, and a host; `_FALLBACK` for claims without host names that keep nobody out."""

_FALLBACK = ""

AWAITED = 8
"""How many of the older claims a ModelDeployment waits for: when one changes, it is looked at again."""


class ClaimIndex:
    """The claims of all ModelDeployments and HTTPRoutes."""

    def __init__(self) -> None:
        self._claims: dict[Place, Claim] = {}
        self._buckets: dict[_Bucket, list[tuple[Age, Kind, Key]]] = defaultdict(list)
        self._owners: dict[_Bucket, set[Key]] = defaultdict(set)
        """ModelDeployments in each bucket."""
        self._awaits: dict[Key, tuple[Place, ...]] = {}
        self._awaited: dict[Place, set[Key]] = defaultdict(set)

    def put(self, place: Place, claim: Claim | None) -> set[Key]:
        """Store what `place` claims. Returns the other ModelDeployments that the change may affect: those with an equal
        host, and those that waited for this claim."""
        before = self._claims.get(place)
        if claim == before:
            return set()
        affected = set(self._awaited.get(place, ()))
        if before is not None:
            for bucket in _buckets(before):
                affected |= self._owners.get(bucket, set())
                self._remove(bucket, before)
            del self._claims[place]
        if claim is not None:
            self._claims[place] = claim
            for bucket in _buckets(claim):
                insort(self._buckets[bucket], _entry(claim))
                if claim.place[0] == MODEL_DEPLOYMENT:
                    self._owners[bucket].add(claim.place[1])
                affected |= self._owners.get(bucket, set())
        elif place[0] == MODEL_DEPLOYMENT:
            self._wait(place[1], ())
        return affected - {place[1]} if place[0] == MODEL_DEPLOYMENT else affected

    def older(self, key: Key) -> list[Place]:
        """The older claims on what `key` claims, the oldest first. From now on `key` waits for the first of them."""
        ours, live = self._claims.get((MODEL_DEPLOYMENT, key)), self._claims.get((HTTP_ROUTE, key))
        if ours is None:
            self._wait(key, ())
            return []
        if live is not None and live.owner_uid != ours.owner_uid:
            live = None
        found = [
            self._claims[place]
            for place in self._candidates(ours, youngest_age(ours, live))
            if taken_by(ours, live, self._claims[place]) is not None
        ]
        places = [claim.place for claim in sorted(found, key=lambda claim: claim.age)]
        self._wait(key, tuple(places[:AWAITED]))
        return places

    def _candidates(self, ours: Claim, age: Age) -> Iterable[Place]:
        """Claims older than `age` where one could keep `ours` out."""
        seen: dict[Place, None] = {}
        for bucket in _searched(ours):
            entries = self._buckets.get(bucket, ())
            for _, kind, key in entries[: bisect_left(entries, (age,))]:
                seen[kind, key] = None
        return seen

    def _wait(self, key: Key, places: tuple[Place, ...]) -> None:
        for place in self._awaits.pop(key, ()):
            waiting = self._awaited[place]
            waiting.discard(key)
            if not waiting:
                del self._awaited[place]
        if places:
            self._awaits[key] = places
            for place in places:
                self._awaited[place].add(key)

    def _remove(self, bucket: _Bucket, claim: Claim) -> None:
        entries, entry = self._buckets[bucket], _entry(claim)
        at = bisect_left(entries, entry)
        if at < len(entries) and entries[at] == entry:
            del entries[at]
        if not entries:
            del self._buckets[bucket]
        if claim.place[0] == MODEL_DEPLOYMENT:
            self._owners[bucket].discard(claim.place[1])
            if not self._owners[bucket]:
                del self._owners[bucket]


def _entry(claim: Claim) -> tuple[Age, Kind, Key]:
    return claim.age, claim.kind, Key(claim.namespace, claim.name)


def _buckets(claim: Claim) -> Iterator[_Bucket]:
    """Where a claim stands."""
    found = {
        (parent.namespace, parent.name, host if host != ANY_HOST or claim.has_any_host(parent) else _FALLBACK)
        for parent in claim.parents
        for host in claim.hosts
    }
    return iter(found)


def _searched(ours: Claim) -> Iterator[_Bucket]:
    """Where a claim may stand that keeps `ours` out."""
    hosts = dict.fromkeys(each for host in ours.hosts for each in (*hosts_above(host), ANY_HOST))
    if ANY_HOST in ours.hosts:
        hosts[_FALLBACK] = None
    for gateway in dict.fromkeys(parent[:2] for parent in ours.parents):
        for host in hosts:
            yield (*gateway, host)
