"""A ModelDeployment with everything that is its own, as raw objects: from the cache or live.

The cache decides whether to look; only a live family decides what to write. Both come in the same shape, so that one
translation serves both. Nothing is decided here.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from modelsync.api import names
from modelsync.cluster.cache import Cache, hosts_of_owner
from modelsync.cluster.client import Cluster
from modelsync.cluster.errors import KindMissingError
from modelsync.cluster.kinds import (
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


@dataclass(frozen=True, slots=True)
class Family:
    """Children are by name, and controlled by `owner` (by uid, not by label); pods and EndpointSlices are by label."""

    key: Key
    owner: Object
    records: Mapping[str, Object] = field(default_factory=dict)
    deployments: Mapping[str, Object] = field(default_factory=dict)
    services: Mapping[str, Object] = field(default_factory=dict)
    budgets: Mapping[str, Object] = field(default_factory=dict)
    pods: tuple[Object, ...] = ()
    slices: tuple[Object, ...] = ()
    route: Object | None = None
    gateway_api: bool = True
    """Whether the API server knows HTTPRoute."""
    rival_routes: tuple[Object, ...] = ()
    """HTTPRoutes of others for one of our host names."""
    rival_owners: tuple[Object, ...] = ()
    """Other ModelDeployments that claim one of our host names."""

    @property
    def uid(self) -> str:
        """The uid of the ModelDeployment."""
        return uid_of(self.owner)


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
    """Families as the API server has them now. What is read is put into the cache too."""

    def __init__(self, cluster: Cluster, cache: Cache, cached: CachedFamilies) -> None:
        self._cluster = cluster
        self._cache = cache
        self._cached = cached

    async def family(self, key: Key) -> Family | None:
        """Read the family of `key`, the ModelDeployment itself last. Raises ClusterErrors."""
        namespace, name = key
        selector = f"{names.NAME_LABEL}={name}"
        before = self._known(key)
        route_read = asyncio.create_task(self._route(key))
        lists = await asyncio.gather(
            *(self._cluster.list_all(kind, namespace, labels=selector) for kind in _LISTED), return_exceptions=True
        )
        route, self._cached.gateway_api = await route_read
        found = {kind: _or_raise(objects) for kind, objects in zip(_LISTED, lists, strict=True)}
        owner = await self._cluster.find(MODEL_DEPLOYMENT, namespace, name)
        if owner is None:
            return None
        self._remember(key, owner, found, route, before)
        return _family(
            key,
            owner,
            {kind: found[kind] for kind in _CONTROLLED},
            pods=found[POD],
            slices=found[ENDPOINT_SLICE],
            route=route,
            gateway_api=self._cached.gateway_api,
            rivals=await self._rivals(key, owner),
        )

    async def _route(self, key: Key) -> tuple[Object | None, bool]:
        try:
            return await self._cluster.find(HTTP_ROUTE, key.namespace, key.name), True
        except KindMissingError:
            return None, False

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

    def _known(self, key: Key) -> set[str]:
        known = {uid_of(child) for kind in _LISTED for child in self._cache.children(key, kind)}
        route = self._cache.route(key)
        return known | ({uid_of(route)} if route else set())

    def _remember(
        self, key: Key, owner: Object, found: Mapping[Kind, list[Object]], route: Object | None, before: set[str]
    ) -> None:
        """Bring the cache up to date. Only what was in it `before` the reading began can be a ghost."""
        self._cache.put(MODEL_DEPLOYMENT, owner)
        for kind, objects in found.items():
            for obj in objects:
                self._cache.put(kind, obj)
            live = {uid_of(obj) for obj in objects}
            for child in self._cache.children(key, kind):
                if uid_of(child) in before - live:
                    self._cache.put(kind, child, deleted=True)
        cached_route = self._cache.route(key)
        if route is not None:
            self._cache.put(HTTP_ROUTE, route)
        elif cached_route is not None and uid_of(cached_route) in before:
            self._cache.put(HTTP_ROUTE, cached_route, deleted=True)


@dataclass(frozen=True, slots=True)
class Rivals:
    """Others that claim our host names."""

    routes: tuple[Object, ...] = ()
    owners: tuple[Object, ...] = ()


_CONTROLLED = (CONTROLLER_REVISION, DEPLOYMENT, SERVICE, POD_DISRUPTION_BUDGET)
_LISTED = (*_CONTROLLED, POD, ENDPOINT_SLICE)


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


def _or_raise(result: list[Object] | BaseException) -> list[Object]:
    if isinstance(result, BaseException):
        raise result
    return result
