"""Writes events.k8s.io/v1 Events about a ModelDeployment.

The planner emits an event only on a transition, but a pass that is repeated after a conflict emits it again: the same
note about the same object is written once per `QUIET`. Later repetitions are counted in the series of the existing
Event, as the API intends. An Event that cannot be written must never fail a pass.
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
"""How long after its last write an Event's series is continued. By default the API server deletes an Event an hour
after that write (`--event-ttl`)."""
MAX_REMEMBERED = 10_000
MAX_NOTE = 1024
"""The longest note, in bytes, that the API server accepts."""
MAX_ACTION = 128

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _WrittenEvent:
    """An Event that was written: its name, the time of its last write, and its total count."""

    name: str
    at: float
    count: int = 1


class Recorder:
    """Writes Events as `controller` (a domain and a name), run by `instance` (the pod).

    `count_result` is called with the result of each: `Written`, `Repeated`, `Quiet` or `Failed`.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        instance: str,
        controller: str = f"{names.GROUP}/operator",
        clock: Callable[[], float] = time.monotonic,
        count_result: Callable[[str], None] = lambda _result: None,
    ) -> None:
        self._cluster = cluster
        self._instance = instance
        self._controller = controller
        self._clock = clock
        self._count_result = count_result
        self._written: OrderedDict[tuple[str, ...], _WrittenEvent] = OrderedDict()

    async def record(self, owner: Object, event: Event) -> None:
        """Write `event` about `owner`, unless the same one was written within `QUIET`."""
        metadata = owner["metadata"]
        key = (str(metadata["uid"]), event.type, event.reason, event.revision or "", event.note)
        now = self._clock()
        written = self._written.get(key)
        if written is not None and now - written.at < QUIET.total_seconds():
            self._count_result("Quiet")
            return
        try:
            if written is None or now - written.at > SERIES.total_seconds() or not await self._repeat(owner, written):
                body = self._body(owner, event)
                await self._cluster.create(EVENT, metadata["namespace"], body)
                written = _WrittenEvent(body["metadata"]["name"], now)
        except NotFoundError:
            return  # the namespace is being deleted
        except ClusterError as error:
            self._count_result("Failed")
            log.warning("event.not_written", reason=event.reason, problem=str(error))
            return
        written.at = now
        self._count_result("Written" if written.count == 1 else "Repeated")
        self._written[key] = written
        self._written.move_to_end(key)
        while len(self._written) > MAX_REMEMBERED:
            self._written.popitem(last=False)

    async def _repeat(self, owner: Object, written: _WrittenEvent) -> bool:
        """Count it in the series of the existing Event; False when that was deleted. Raises ClusterErrors."""
        series = {"count": written.count + 1, "lastObservedTime": _micro_time(datetime.now(UTC))}
        try:
            await self._cluster.merge(EVENT, owner["metadata"]["namespace"], written.name, {"series": series})
        except NotFoundError:
            return False
        written.count += 1
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
                "apiVersion": owner.get("apiVersion") or MODEL_DEPLOYMENT.api_version,
                "kind": owner.get("kind") or MODEL_DEPLOYMENT.kind,
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
    """Truncate to at most MAX_NOTE bytes, without splitting a character."""
    encoded = note.encode()
    return note if len(encoded) <= MAX_NOTE else encoded[: MAX_NOTE - 3].decode(errors="ignore") + "…"
