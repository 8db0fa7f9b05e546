"""A ModelDeployment with everything that is its own, as raw objects: from the cache or live.

The cache decides whether to look; only a live family decides what to write. Both come in the same shape, so that one
translation serves both. Nothing is decided here.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
    by_name,
    is_controlled_by,
    name_of,
    uid_of,
)
from modelsync.cluster.cache import Cache
from modelsync.cluster.client import Cluster
from modelsync.cluster.errors import KindMissingError
from modelsync.observe.claims import hosts_of_owner
from modelsync.observe.family import Family


class CachedFamilies:
    """Families as the watches told. `gateway_api`: whether the API server knew HTTPRoute when it was last asked."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.gateway_api = True

    def family(self, key: Key) -> Family | None:
        """The family of `key`; None when there is no such ModelDeployment."""
        owner = self._cache.owner(key)
        if owner is None:
            return None
        children = {kind: self._cache.children(key, kind) for kind in _CONTROLLED}
        return _family(
            key,
            owner,
            children,
            pods=self._cache.children(key, POD),
            slices=self._cache.children(key, ENDPOINT_SLICE),
            route=self._cache.route(key),
            gateway_api=self.gateway_api,
            rivals=self.rivals(key, owner),
        )

    def rivals(self, key: Key, owner: Object) -> "Rivals":
        """Who else claims the host names of `owner`."""
        hosts = hosts_of_owner(owner)
        if not hosts:
            return Rivals()
        routes = [self._cache.route(place) for place in self._cache.rival_routes(hosts) if place != key]
        owners = [self._cache.owner(rival) for rival in self._cache.rival_owners(key, hosts)]
        return Rivals(tuple(filter(None, routes)), tuple(filter(None, owners)))


class LiveFamilies:
    """Families as the API server has them now. What is read is put into the cache too.

    Objects are read by name, each from the quorum. A list would wait until the API server's own cache has caught up
    with every write in the cluster, a tenth of a second on a busy one. The names are known: nobody but us makes
    children, and what we made is in the cache; an EndpointSlice that is not known yet only makes a revision look less
    ready than it is. Records are immutable, so those of the cache count. Pods come from the API server's cache: they
    move no traffic, their endpoints do.
    """

    def __init__(self, cluster: Cluster, cache: Cache, cached: CachedFamilies) -> None:
        self._cluster = cluster
        self._cache = cache
        self._cached = cached

    async def family(self, known: Family) -> Family | None:
        """Read anew the family that the cache told of, the ModelDeployment itself last. Raises ClusterErrors."""
        key = known.key
        places = _to_read(known)
        gateway = known.route is not None or bool(hosts_of_owner(known.owner))
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
        return _family(
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
        # With several API servers this one may be behind the one that we watch; the cache keeps what is newer.
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

    async def _rivals(self, key: Key, owner: Object) -> "Rivals":
        """The cache says who may be a rival; the API server says whether they still are."""
        suspects = self._cached.rivals(key, owner)
        routes = await self._confirm(HTTP_ROUTE, suspects.routes)
        return Rivals(routes, await self._confirm(MODEL_DEPLOYMENT, suspects.owners))

    async def _confirm(self, kind: Kind, suspects: Iterable[Object]) -> tuple[Object, ...]:
        found = await asyncio.gather(
            *(self._cluster.find(kind, each["metadata"]["namespace"], name_of(each)) for each in suspects)
        )
        return tuple(filter(None, found))

    def _remember(self, kind: Kind, found: Object | None, before: Object | None) -> None:
        """Bring the cache up to date; only what was in it before the reading began can be a ghost."""
        if found is not None:
            self._cache.put(kind, found)
        elif before is not None:
            self._cache.put(kind, before, deleted=True)


def _to_read(known: Family) -> list[tuple[Kind, str]]:
    """What is to be read by name: children that are known, and those of the revisions that the status speaks of."""
    name = known.key.name
    children = {*known.deployments, *known.services} - {name, names.child(name, names.BLOCKED)}
    children |= {names.child(name, revision) for revision in _intended(known.owner)}
    services = {name, *children} | ({*known.services} & {names.child(name, names.BLOCKED)})
    return [
        *((DEPLOYMENT, child) for child in sorted(children)),
        *((SERVICE, child) for child in sorted(services)),
        *((ENDPOINT_SLICE, name_of(each)) for each in known.slices),
    ]


def _intended(owner: Object) -> set[str]:
    """The stable and what moves or is kept warm; whatever stands in the status, this does not raise."""
    status = owner.get("status") or {}
    moves = [status.get(part) for part in ("target", "canary", "previous")]
    found = {move.get("revision") for move in moves if isinstance(move, Mapping)}
    promoted = status.get("promoted")
    if isinstance(promoted, list):
        found |= set(promoted[-1:])
    return {revision for revision in found if isinstance(revision, str)}


async def _nothing() -> list[Object]:
    return []


async def _no_route(gateway_api: bool) -> tuple[Object | None, bool]:
    return None, gateway_api


@dataclass(frozen=True, slots=True)
class Rivals:
    """Others that claim our host names."""

    routes: tuple[Object, ...] = ()
    owners: tuple[Object, ...] = ()


_CONTROLLED = (CONTROLLER_REVISION, DEPLOYMENT, SERVICE, POD_DISRUPTION_BUDGET)


def _family(
    key: Key,
    owner: Object,
    children: Mapping[Kind, list[Object]],
    *,
    pods: list[Object],
    slices: list[Object],
    route: Object | None,
    gateway_api: bool,
    rivals: Rivals,
) -> Family:
    uid = uid_of(owner)
    own = {kind: by_name(obj for obj in found if is_controlled_by(obj, uid)) for kind, found in children.items()}
    foreign_route = route is not None and not is_controlled_by(route, uid)
    return Family(
        key=key,
        owner=owner,
        records=own[CONTROLLER_REVISION],
        deployments=own[DEPLOYMENT],
        services=own[SERVICE],
        budgets=own[POD_DISRUPTION_BUDGET],
        pods=tuple(pods),
        slices=tuple(slices),
        route=None if foreign_route else route,
        gateway_api=gateway_api,
        rival_routes=rivals.routes,
        rival_owners=rivals.owners,
    )
