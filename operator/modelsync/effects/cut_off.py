"""Cuts off a held revision: blows the fuse in each of its pods, stops their replacement, and deletes them.

It must need nothing but the pods: a hold has to work without a spec, without a record and without an owner.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from modelsync.api import names
from modelsync.api.kinds import POD, SECRET, Key, Object, name_of, uid_of
from modelsync.cluster.cache import Cache
from modelsync.cluster.client import Cluster
from modelsync.cluster.errors import ClusterError
from modelsync.effects import fuse
from modelsync.effects.silences import Silences
from modelsync.observe.fuse import Acknowledgement
from modelsync.observe.pods import CUT_GRACE
from modelsync.resources.children import FUSE_TOKEN_KEY
from modelsync.rollout.model import Revision

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Cutter:
    """Cuts off revisions, and records in `silences` which pods have acknowledged."""

    cluster: Cluster
    cache: Cache
    silences: Silences

    async def cut_off(
        self,
        key: Key,
        uid: str,
        revision: Revision,
        pods: Sequence[Object],
        *,
        scale_down: Callable[[], Awaitable[object]],
    ) -> None:
        """Cut off `pods`, all pods of `revision`. `uid` identifies its ModelDeployment in the silences.

        Raises the first ClusterError, after everything was tried.
        """
        await self._blow_fuse(key, uid, revision, [pod for pod in pods if self._may_still_serve(uid, revision, pod)])
        # Scale down first, or the ReplicaSet would replace each deleted pod.
        results = [await error_of(scale_down())]
        results += await asyncio.gather(*(error_of(self._delete(key, pod)) for pod in pods))
        log.info("revision.cut_off", revision=revision, pods=len(pods))
        for error in filter(None, results):
            raise error

    async def _delete(self, key: Key, pod: Object) -> None:
        if not await self.cluster.delete(POD, key.namespace, name_of(pod), uid=uid_of(pod), grace=CUT_GRACE):
            # No watch event has arrived: without this, plans would keep cutting off a deleted pod.
            self.cache.put(POD, pod, deleted=True)

    def _may_still_serve(self, uid: str, revision: Revision, pod: Object) -> bool:
        running = (pod.get("status") or {}).get("phase") == "Running"
        return running and not self.silences.is_acknowledged(uid, revision, uid_of(pod))

    async def _blow_fuse(self, key: Key, uid: str, revision: Revision, pods: list[Object]) -> None:
        if not pods:
            return
        at = datetime.now(UTC)
        answers: Mapping[str, Acknowledgement | None] = {uid_of(pod): None for pod in pods}
        try:
            secret = await self.cluster.get(SECRET, key.namespace, names.fuse_secret(key.name, revision))
            answers = {**answers, **await fuse.blow(pods, token_of(secret))}
        except (ClusterError, ValueError, KeyError) as error:
            log.warning("fuse.unavailable", revision=revision, problem=str(error))
        self.silences.record(uid, revision, at, answers)


def token_of(secret: Object) -> str:
    """Return the fuse token. Raises KeyError or ValueError when it is missing or malformed."""
    return base64.b64decode(secret["data"][FUSE_TOKEN_KEY], validate=True).decode()


async def error_of(work: Awaitable[object]) -> ClusterError | None:
    """The error that `work` ends with: where everything must be tried before one is raised."""
    try:
        await work
    except ClusterError as error:
        return error
    return None
