"""Ends the exposure of held revisions for which no plan is made (`observe.unplanned`). Decides nothing.

Each object is read live and written only without the held revisions; nothing is ever started, and no traffic is given
to a revision that did not have it. Every write is tried, whatever became of the others.
"""

import asyncio
from collections.abc import Collection
from functools import partial

import structlog

from modelsync.api import names
from modelsync.api.kinds import DEPLOYMENT, HTTP_ROUTE, SERVICE, Key, Kind, Object, labels_of, name_of, uid_of
from modelsync.cluster.cache import Cache
from modelsync.cluster.client import Cluster
from modelsync.cluster.errors import KindMissingError, NotFoundError
from modelsync.effects.cut_off import Cutter, error_of
from modelsync.observe.pods import is_cut
from modelsync.observe.unplanned import Unplanned
from modelsync.resources.silenced import route_without, service_without
from modelsync.rollout.model import Revision

log = structlog.get_logger(__name__)


class UnplannedSilencer:
    """Silences held revisions. `uid` in its calls identifies them in the record of acknowledgements."""

    def __init__(self, cluster: Cluster, cache: Cache, cutter: Cutter) -> None:
        self._cluster = cluster
        self._cache = cache
        self._cutter = cutter

    async def silence(self, found: Unplanned, held: Collection[Revision], *, uid: str) -> None:
        """Take `held` out of the route and the plain Service, then cut off their pods. Raises the first ClusterError
        after everything was tried."""
        errors = [
            await error_of(self._take_off_route(found, held)),
            await error_of(self._take_off_service(found, held)),
            *await asyncio.gather(*(error_of(self._cut_off(found, revision, uid)) for revision in sorted(held))),
        ]
        for error in filter(None, errors):
            log.error("hold.unplanned_failed", problem=str(error))
        for error in filter(None, errors):
            raise error

    def forget(self, uid: str) -> None:
        """Forget the acknowledgements of `uid`."""
        self._cutter.silences.forget(uid)

    async def _take_off_route(self, found: Unplanned, held: Collection[Revision]) -> None:
        if found.route is None:
            return
        try:
            live = await self._cluster.find(HTTP_ROUTE, found.key.namespace, found.key.name)
        except KindMissingError:
            return
        if live is not None and uid_of(live) == uid_of(found.route):
            await self._patch(HTTP_ROUTE, live, route_without(live, found.key.name, held))

    async def _take_off_service(self, found: Unplanned, held: Collection[Revision]) -> None:
        known = found.services.get(found.key.name)
        live = await self._cluster.find(SERVICE, found.key.namespace, found.key.name) if known is not None else None
        if known is not None and live is not None and uid_of(live) == uid_of(known):
            await self._patch(SERVICE, live, service_without(live, found.key.name, held))

    async def _cut_off(self, found: Unplanned, revision: Revision, uid: str) -> None:
        pods = [pod for pod in found.pods if labels_of(pod).get(names.REVISION_LABEL) == revision and not is_cut(pod)]
        deployment = found.deployment(revision)
        if not pods and (deployment is None or (deployment.get("spec") or {}).get("replicas") == 0):
            return
        await self._cutter.cut_off(
            found.key, uid, revision, pods, scale_down=partial(self._scale_down, found.key, deployment)
        )

    async def _scale_down(self, key: Key, deployment: Object | None) -> None:
        if deployment is not None and (deployment.get("spec") or {}).get("replicas") != 0:
            await self._patch(DEPLOYMENT, deployment, {"spec": {"replicas": 0}})

    async def _patch(self, kind: Kind, live: Object, patch: Object | None) -> None:
        """Patch this object, but not another one of its name; whatever else changed in it, ending exposure is right."""
        if patch is None:
            return
        body = {**patch, "metadata": {"uid": uid_of(live)}}
        namespace, name = live["metadata"]["namespace"], name_of(live)
        try:
            written = await self._cluster.merge(kind, namespace, name, body)
        except NotFoundError:
            return
        self._cache.put(kind, written)
        log.info("hold.unplanned_silenced", kind=kind.kind, object=f"{namespace}/{name}")
