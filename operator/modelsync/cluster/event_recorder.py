"""Tells people what happened, as events.k8s.io/v1 Events on the ModelDeployment.

The planner makes an event only on a transition, but a pass that is repeated after a conflict makes it again: the same
sentence about the same object is told once in `QUIET`. What comes again after that is counted in the series of the
Event that is there, as the API means it. An event that cannot be written never fails a pass.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from modelsync.api import names
from modelsync.api.kinds import DEPLOYMENT, EVENT, MODEL_DEPLOYMENT, Object
from modelsync.cluster.client import Cluster
from modelsync.cluster.errors import ClusterError, NotFoundError
from modelsync.rollout.model import Event

QUIET = timedelta(minutes=2)
SERIES = timedelta(minutes=50)
"""How long after its last telling an Event is counted on; the API server keeps one for an hour after it was written,
by default (`--event-ttl`)."""
MAX_REMEMBERED = 10_000
MAX_NOTE = 1024
"""Bytes that the API server takes of a note."""
MAX_ACTION = 128

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Told:
    """An Event that was written: under which name, when last, and how often in all."""

    name: str
    at: float
    count: int = 1


class Recorder:
    """Writes Events as `controller` (a domain and a name), run by `instance` (the pod).

    `count` is told what became of each: `Written`, `Repeated`, `Quiet` or `Failed`.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        instance: str,
        controller: str = f"{names.GROUP}/operator",
        clock: Callable[[], float] = time.monotonic,
        count: Callable[[str], None] = lambda _became: None,
    ) -> None:
        self._cluster = cluster
        self._instance = instance
        self._controller = controller
        self._clock = clock
        self._count = count
        self._told: OrderedDict[tuple[str, ...], _Told] = OrderedDict()

    async def record(self, owner: Object, event: Event) -> None:
        """Write `event` about `owner`, unless it was told just now."""
        metadata = owner["metadata"]
        key = (str(metadata["uid"]), event.type, event.reason, event.revision or "", event.note)
        now = self._clock()
        told = self._told.get(key)
        if told is not None and now - told.at < QUIET.total_seconds():
            self._count("Quiet")
            return
        try:
            if told is None or now - told.at > SERIES.total_seconds() or not await self._repeat(owner, told):
                body = self._body(owner, event)
                await self._cluster.create(EVENT, metadata["namespace"], body)
                told = _Told(body["metadata"]["name"], now)
        except NotFoundError:
            return  # the namespace is being deleted: nobody will read it
        except ClusterError as error:
            self._count("Failed")
            log.warning("event.not_written", reason=event.reason, problem=str(error))
            return
        told.at = now
        self._count("Written" if told.count == 1 else "Repeated")
        self._told[key] = told
        self._told.move_to_end(key)
        while len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)

    async def _repeat(self, owner: Object, told: _Told) -> bool:
        """Count it in the series of the Event that is there; False when that is gone. Raises ClusterErrors."""
        series = {"count": told.count + 1, "lastObservedTime": _micro_time(datetime.now(UTC))}
        try:
            await self._cluster.merge(EVENT, owner["metadata"]["namespace"], told.name, {"series": series})
        except NotFoundError:
            return False
        told.count += 1
        return True

    def _body(self, owner: Object, event: Event) -> Object:
        metadata = owner["metadata"]
        at = datetime.now(UTC)
        body: Object = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {
                "name": f"{metadata['name']}.{time.time_ns():x}",
                "namespace": metadata["namespace"],
                "labels": {names.NAME_LABEL: metadata["name"]},
            },
            "eventTime": _micro_time(at),
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


def _micro_time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _cut(note: str) -> str:
    """At most MAX_NOTE bytes, whole characters."""
    encoded = note.encode()
    return note if len(encoded) <= MAX_NOTE else encoded[: MAX_NOTE - 3].decode(errors="ignore") + "…"
