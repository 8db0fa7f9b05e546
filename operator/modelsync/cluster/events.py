"""Tells people what happened, as events.k8s.io/v1 Events on the ModelDeployment.

The planner makes an event only on a transition, but a pass that is repeated after a conflict makes it again: the same
sentence about the same object is told once in `QUIET`. An event that cannot be written never fails a pass.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from modelsync.api import names
from modelsync.cluster.client import Cluster
from modelsync.cluster.errors import ClusterError, NotFoundError
from modelsync.cluster.kinds import DEPLOYMENT, EVENT, MODEL_DEPLOYMENT, Object
from modelsync.rollout.model import Event

QUIET = timedelta(minutes=2)
MAX_REMEMBERED = 10_000
MAX_NOTE = 1024
"""Bytes that the API server takes of a note."""
MAX_ACTION = 128

log = structlog.get_logger(__name__)


class Recorder:
    """Writes Events as `controller` (a domain and a name), run by `instance` (the pod)."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        instance: str,
        controller: str = f"{names.GROUP}/operator",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._instance = instance
        self._controller = controller
        self._clock = clock
        self._told: OrderedDict[tuple[str, ...], float] = OrderedDict()

    async def record(self, owner: Object, event: Event) -> None:
        """Write `event` about `owner`, unless it was told just now."""
        metadata = owner["metadata"]
        key = (str(metadata["uid"]), event.reason, event.revision or "", event.note)
        now = self._clock()
        if now - self._told.get(key, float("-inf")) < QUIET.total_seconds():
            return
        try:
            await self._cluster.create(EVENT, metadata["namespace"], self._body(owner, event))
        except NotFoundError:
            return  # the namespace is being deleted: nobody will read it
        except ClusterError as error:
            log.warning("event.not_written", reason=event.reason, problem=str(error))
            return
        self._told[key] = now
        self._told.move_to_end(key)
        while len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)

    def _body(self, owner: Object, event: Event) -> Object:
        metadata = owner["metadata"]
        at = datetime.now(UTC)
        body: Object = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {
                "name": f"{metadata['name']}.{int(at.timestamp() * 1_000_000):x}",
                "namespace": metadata["namespace"],
                "labels": {names.NAME_LABEL: metadata["name"]},
            },
            "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": self._controller,
            "reportingInstance": self._instance[:MAX_ACTION],
            "type": event.type,
            "reason": event.reason,
            "action": event.action[:MAX_ACTION],
            "note": _cut(event.note),
            "regarding": {
                "apiVersion": MODEL_DEPLOYMENT.api_version,
                "kind": MODEL_DEPLOYMENT.kind,
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
        }
        if event.revision is not None:
            body["related"] = {
                "apiVersion": DEPLOYMENT.api_version,
                "kind": DEPLOYMENT.kind,
                "namespace": metadata["namespace"],
                "name": names.child(metadata["name"], event.revision),
            }
        return body


def _cut(note: str) -> str:
    """At most MAX_NOTE bytes, whole characters."""
    encoded = note.encode()
    return note if len(encoded) <= MAX_NOTE else encoded[: MAX_NOTE - 3].decode(errors="ignore") + "…"
