"""Reads a ModelDeployment and its children, as raw objects: from the cache or live from the API server.

The cached family is used to find out whether there is anything to write; what is written must be decided on a live one.
Both have the same shape (`observe.family`). Nothing is decided here.
"""

import asyncio
from collections.abc import Callable, Mapping

from modelsync.api import names
from modelsync.api.kinds import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    HTTP_ROUTE,
    MODEL_DEPLOYMENT,
    POD,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    Key,
    Kind,
    Object,
    is_controlled_by,
    uid_of,
)
from modelsync.cluster.cache import Cache
from modelsync.cluster.client import Cluster
from modelsync.cluster.errors import KindMissingError
from modelsync.observe.assembly import CONTROLLED_KINDS, Rivals, assemble, children_to_read
from modelsync.observe.claims import Claim, claim_of_owner, claim_of_route
from modelsync.observe.conflicts import taken_by
from modelsync.observe.family import Family
from modelsync.observe.unplanned import Unplanned, orphans_of


class CachedFamilies:
    """Reads families from the cache. `gateway_api`: whether HTTPRoute was installed at the last check."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.gateway_api = True

    def family(self, key: Key) -> Family | None:
        """Return the family of `key`; None when the ModelDeployment does not exist."""
        owner = self._cache.owner(key)
        if owner is None:
            return None
        children = {kind: self._cache.children(key, kind) for kind in CONTROLLED_KINDS}
        return assemble(
            key,
            owner,
            children,
            pods=self._cache.children(key, POD),
            slices=self._cache.children(key, ENDPOINT_SLICE),
            route=self._cache.route(key),
            gateway_api=self.gateway_api,
            rivals=self.rivals(key),
            cached=True,
        )

    def orphans(self, key: Key) -> Unplanned:
        """Return what there is under the name of `key`, for which there is no ModelDeployment."""
        children = {kind: self._cache.children(key, kind) for kind in CONTROLLED_KINDS}
        return orphans_of(key, children, self._cache.children(key, POD), self._cache.route(key))

    def rivals(self, key: Key) -> Rivals:
        """Return the oldest of the others that have a host name and path of `key`; nothing if it has all that it names.
        One is enough to keep the route from being written."""
        for kind, place in self._cache.older_claims(key):
            if (found := self._cache.claimant(kind, place)) is not None:
                return _rivals(kind, found)
        return Rivals()


class LiveFamilies:
    """Reads families from the API server, and updates the cache with what it reads.

    Objects are read by name, with quorum reads. A list would wait until the API server's own cache has caught up with
    every write in the cluster, which takes a tenth of a second on a busy one. The names are known: only the operator
    creates children, and what it created is in the cache; an EndpointSlice that is missing there only makes a revision
    look less ready than it is. Records are immutable, so the cached ones are used. Pods are read from the API server's
    cache: pods do not decide about traffic, their endpoints do.
    """

    def __init__(self, cluster: Cluster, cache: Cache, cached: CachedFamilies) -> None:
        self._cluster = cluster
        self._cache = cache
        self._cached = cached

    async def family(self, known: Family) -> Family | None:
        """Read the family `known` from the cache again, the ModelDeployment itself last. Raises ClusterErrors."""
        key = known.key
        places = children_to_read(known)
        gateway = known.route is not None or claim_of_owner(known.owner) is not None
        objects, pods, (route, self._cached.gateway_api) = await asyncio.gather(
            asyncio.gather(*(self._read(kind, name, key) for kind, name in places)),
            self._pods(key) if known.pods or known.deployments else _nothing(),
            self._route(key) if gateway else _no_route(self._cached.gateway_api),
        )
        owner = await self._cluster.find(MODEL_DEPLOYMENT, key.namespace, key.name)
        if owner is None:
            return None
        self._cache.put(MODEL_DEPLOYMENT, owner)
        found: dict[Kind, list[Object]] = {kind: [] for kind in (DEPLOYMENT, SERVICE, ENDPOINT_SLICE)}
        for (kind, _), obj in zip(places, objects, strict=True):
            if obj is not None:
                found[kind].append(obj)
        return assemble(
            key,
            owner,
            {
                CONTROLLER_REVISION: list(known.records.values()),
                POD_DISRUPTION_BUDGET: list(known.budgets.values()),
                DEPLOYMENT: found[DEPLOYMENT],
                SERVICE: found[SERVICE],
            },
            pods=pods,
            slices=found[ENDPOINT_SLICE],
            route=route,
            gateway_api=self._cached.gateway_api,
            rivals=await self._rivals(key, owner),
        )

    async def _read(self, kind: Kind, name: str, key: Key) -> Object | None:
        before = self._cache.child(key, kind, name)
        found = await self._cluster.find(kind, key.namespace, name)
        self._remember(kind, found, before)
        return found

    async def _pods(self, key: Key) -> list[Object]:
        # With several API servers this one may be behind the one that we watch; the cache keeps the newer object.
        for pod in await self._cluster.list_recent(POD, key.namespace, labels=f"{names.NAME_LABEL}={key.name}"):
            self._cache.put(POD, pod)
        return self._cache.children(key, POD)

    async def _route(self, key: Key) -> tuple[Object | None, bool]:
        before = self._cache.route(key)
        try:
            found = await self._cluster.find(HTTP_ROUTE, key.namespace, key.name)
        except KindMissingError:
            return None, False
        self._remember(HTTP_ROUTE, found, before)
        return found, True

    async def _rivals(self, key: Key, owner: Object) -> Rivals:
        """Read the suspects in the cache from the API server, the oldest first, until one still has what `key` claims.

        All are read if need be, not only the first: a name must not be free because of what was deleted just now.
        """
        ours, live = claim_of_owner(owner), self._cache.route(key)
        if ours is None:
            return Rivals()
        route = claim_of_route(live) if live is not None and is_controlled_by(live, uid_of(owner)) else None
        for kind, place in self._cache.older_claims(key):
            before = self._cache.claimant(kind, place)
            found = await self._cluster.find(kind, place.namespace, place.name)
            self._remember(kind, found, before)
            claim = _CLAIM[kind](found) if found is not None else None
            if found is not None and claim is not None and taken_by(ours, route, claim) is not None:
                return _rivals(kind, found)
        return Rivals()

    def _remember(self, kind: Kind, found: Object | None, before: Object | None) -> None:
        """Update the cache. An object is removed only if it was cached before the read started."""
        if found is not None:
            self._cache.put(kind, found)
        elif before is not None:
            self._cache.put(kind, before, deleted=True)


_CLAIM: Mapping[Kind, Callable[[Object], Claim | None]] = {HTTP_ROUTE: claim_of_route, MODEL_DEPLOYMENT: claim_of_owner}


def _rivals(kind: Kind, found: Object) -> Rivals:
    return Rivals(routes=(found,)) if kind == HTTP_ROUTE else Rivals(owners=(found,))


async def _nothing() -> list[Object]:
    return []


async def _no_route(gateway_api: bool) -> tuple[Object | None, bool]:
    return None, gateway_api
