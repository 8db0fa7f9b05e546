"""Metrics of each ModelDeployment: exported by the leader, and removed when the ModelDeployment is deleted.

Ages are computed at each scrape, so that they grow without a reconcile.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from modelsync.api.conditions import ConditionType, find
from modelsync.api.status import ModelDeploymentStatus
from modelsync.telemetry import catalogue
from modelsync.telemetry.catalogue import Metric, Scope

Key = tuple[str, str]
"""Namespace and name."""

EXPORTED_CONDITIONS: Final = (
    ConditionType.READY,
    ConditionType.AVAILABLE,
    ConditionType.RECONCILING,
    ConditionType.STALLED,
    ConditionType.ON_HOLD,
    ConditionType.HOLDS_KNOWN,
    ConditionType.ROLLED_BACK,
    ConditionType.MODEL_RESOLVED,
    ConditionType.ROUTE_READY,
)

_Sample = tuple[Metric, tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The last known values of one ModelDeployment. Small, since there may be ten thousand: no status is kept."""

    phase: str
    reason: str
    alias: str
    version: str
    true: frozenset[ConditionType]
    """Which of EXPORTED_CONDITIONS are True."""
    traffic: tuple[tuple[str, str, float], ...]
    """Revision, version, share."""
    replicas: int
    ready_replicas: int
    holds: int
    fallback_ready: bool | None
    previous_kept: bool
    waiting: tuple[str, str, datetime] | None
    """Reason, who, since."""
    moving_since: datetime | None
    drifting_since: datetime | None
    held_exposed_since: datetime | None
    holds_stale_since: datetime | None
    """When the hold marks were last read, if that is longer ago than allowed."""


def snapshot_of(
    status: ModelDeploymentStatus,
    *,
    alias: str,
    drifting_since: datetime | None = None,
    held_exposed_since: datetime | None = None,
) -> Snapshot:
    """Return the snapshot of a status, with two times that the status lacks: since when the aliases have named content
    that is not promoted, and since when a held revision has been reachable although its hold was seen."""
    ready = find(status.conditions, ConditionType.READY)
    whole = sum(backend.weight for backend in status.traffic)
    move, waiting = status.canary or status.target, status.waiting
    known = find(status.conditions, ConditionType.HOLDS_KNOWN)
    return Snapshot(
        phase=status.phase.value if status.phase is not None else "",
        reason=sys.intern(ready.reason) if ready is not None else "",
        alias=alias,
        version=status.resolved.version if status.resolved is not None else "",
        true=_true(status),
        traffic=tuple(
            (backend.revision, backend.version or "", backend.weight / whole if whole else 0.0)
            for backend in status.traffic
        ),
        replicas=status.replicas or 0,
        ready_replicas=status.ready_replicas or 0,
        holds=len(status.holds),
        fallback_ready=status.fallback.ready if status.fallback is not None else None,
        previous_kept=status.previous is not None,
        waiting=(sys.intern(waiting.reason), waiting.who, waiting.since) if waiting is not None else None,
        moving_since=move.started_at if move is not None else None,
        drifting_since=drifting_since,
        held_exposed_since=held_exposed_since,
        holds_stale_since=status.holds_known_at if known is not None and known.status == "False" else None,
    )


def _true(status: ModelDeploymentStatus) -> frozenset[ConditionType]:
    held = {condition.type for condition in status.conditions if condition.status == "True"}
    return _SETS.setdefault(found := frozenset(kind for kind in EXPORTED_CONDITIONS if kind in held), found)


_SETS: dict[frozenset[ConditionType], frozenset[ConditionType]] = {}
"""Interned sets: most ModelDeployments have the same conditions."""


class Fleet(Collector):
    """The snapshots of all ModelDeployments, as a prometheus_client collector."""

    def __init__(self) -> None:
        self._snapshots: dict[Key, Snapshot] = {}
        self._frozen: list[tuple[Key, Snapshot]] = []

    def update(self, key: Key, snapshot: Snapshot) -> None:
        """Export `snapshot` for `key` from now on."""
        self._snapshots[key] = snapshot

    def forget(self, key: Key) -> None:
        """Remove the series of a ModelDeployment that was deleted."""
        self._snapshots.pop(key, None)

    def clear(self) -> None:
        """Remove all series: another replica leads and exports them."""
        self._snapshots.clear()

    def freeze(self) -> None:
        """Copy the snapshots for the next `collect`. Must run in the thread that calls `update`."""
        self._frozen = list(self._snapshots.items())

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the metrics without samples, for the registry's check of names."""
        return [_family(metric) for metric in catalogue.ALL if metric.scope is Scope.OBJECT]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the series of the frozen snapshots."""
        now = datetime.now(UTC)
        families = {metric.name: _family(metric) for metric in catalogue.ALL if metric.scope is Scope.OBJECT}
        for key, snapshot in self._frozen:
            for metric, labels, value in _samples(snapshot, now):
                families[metric.name].add_metric([*key, *labels], value)
        return families.values()


def _family(metric: Metric) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.help, labels=tuple(metric.labels))


def _samples(snapshot: Snapshot, now: datetime) -> Iterator[_Sample]:
    """Yield the samples; the labels after namespace and name are in the catalogue's order."""
    yield catalogue.INFO, (snapshot.phase, snapshot.reason, snapshot.alias, snapshot.version), 1
    for kind in EXPORTED_CONDITIONS:
        yield catalogue.CONDITION, (kind.value,), float(kind in snapshot.true)
    for revision, version, share in snapshot.traffic:
        yield catalogue.WEIGHT, (revision, version), share
    yield catalogue.REPLICAS, (), snapshot.replicas
    yield catalogue.READY_REPLICAS, (), snapshot.ready_replicas
    yield catalogue.HOLDS, (), snapshot.holds
    yield catalogue.HELD_EXPOSED, (), _age(snapshot.held_exposed_since, now)
    yield catalogue.HOLDS_STALE, (), _age(snapshot.holds_stale_since, now)
    if snapshot.fallback_ready is not None:
        yield catalogue.FALLBACK, (), float(snapshot.fallback_ready)
    yield catalogue.KEPT_WARM, (), float(snapshot.previous_kept)
    yield catalogue.DRIFT, (), _age(snapshot.drifting_since, now)
    yield catalogue.ROLLOUT_AGE, (), _age(snapshot.moving_since, now)
    if snapshot.waiting is not None:
        reason, who, since = snapshot.waiting
        yield catalogue.WAITING, (reason, who), _age(since, now)


def _age(since: datetime | None, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds()) if since is not None else 0.0
