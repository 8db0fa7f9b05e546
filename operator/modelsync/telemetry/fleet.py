"""The series of the ModelDeployments: as many as there are objects, told by whoever has them, and gone when they are.

Ages are computed when they are scraped, so that a quiet world need not be worked on for its numbers to grow.
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

TOLD_CONDITIONS: Final = (
    ConditionType.READY,
    ConditionType.AVAILABLE,
    ConditionType.RECONCILING,
    ConditionType.STALLED,
    ConditionType.ON_HOLD,
    ConditionType.ROLLED_BACK,
    ConditionType.MODEL_RESOLVED,
    ConditionType.ROUTE_READY,
)

_Sample = tuple[Metric, tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Sight:
    """What was last seen of one ModelDeployment. Small, since there may be ten thousand: no status is kept."""

    phase: str
    reason: str
    alias: str
    version: str
    true: frozenset[ConditionType]
    """Which of TOLD_CONDITIONS are True."""
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


def sight_of(
    status: ModelDeploymentStatus,
    *,
    alias: str,
    drifting_since: datetime | None = None,
    held_exposed_since: datetime | None = None,
) -> Sight:
    """What is told of a status, with what only the pass knows that came to it: since when the aliases have named
    something else than what is promoted, and since when a held revision could be reached though the hold was seen."""
    ready = find(status.conditions, ConditionType.READY)
    whole = sum(backend.weight for backend in status.traffic)
    move, waiting = status.canary or status.target, status.waiting
    return Sight(
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
    )


def _true(status: ModelDeploymentStatus) -> frozenset[ConditionType]:
    held = {condition.type for condition in status.conditions if condition.status == "True"}
    return _SETS.setdefault(found := frozenset(kind for kind in TOLD_CONDITIONS if kind in held), found)


_SETS: dict[frozenset[ConditionType], frozenset[ConditionType]] = {}
"""Each combination once: most objects are alike."""


class Fleet(Collector):
    """What was last seen of each ModelDeployment, as a collector of prometheus_client."""

    def __init__(self) -> None:
        self._sights: dict[Key, Sight] = {}
        self._frozen: list[tuple[Key, Sight]] = []

    def see(self, key: Key, sight: Sight) -> None:
        """Tell this of `key` from now on."""
        self._sights[key] = sight

    def forget(self, key: Key) -> None:
        """It is no more: its series end."""
        self._sights.pop(key, None)

    def clear(self) -> None:
        """Another replica leads, and tells of all of them."""
        self._sights.clear()

    def freeze(self) -> None:
        """Take what the next `collect` tells; in the thread that also calls `see`."""
        self._frozen = list(self._sights.items())

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """For the registry's check of names; without samples."""
        return [_family(metric) for metric in catalogue.ALL if metric.scope is Scope.OBJECT]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The series of what was frozen."""
        now = datetime.now(UTC)
        families = {metric.name: _family(metric) for metric in catalogue.ALL if metric.scope is Scope.OBJECT}
        for key, sight in self._frozen:
            for metric, labels, value in _samples(sight, now):
                families[metric.name].add_metric([*key, *labels], value)
        return families.values()


def _family(metric: Metric) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.help, labels=tuple(metric.labels))


def _samples(sight: Sight, now: datetime) -> Iterator[_Sample]:
    """Labels beside namespace and name, in the catalogue's order."""
    yield catalogue.INFO, (sight.phase, sight.reason, sight.alias, sight.version), 1
    for kind in TOLD_CONDITIONS:
        yield catalogue.CONDITION, (kind.value,), float(kind in sight.true)
    for revision, version, share in sight.traffic:
        yield catalogue.WEIGHT, (revision, version), share
    yield catalogue.REPLICAS, (), sight.replicas
    yield catalogue.READY_REPLICAS, (), sight.ready_replicas
    yield catalogue.HOLDS, (), sight.holds
    yield catalogue.HELD_EXPOSED, (), _age(sight.held_exposed_since, now)
    if sight.fallback_ready is not None:
        yield catalogue.FALLBACK, (), float(sight.fallback_ready)
    yield catalogue.KEPT_WARM, (), float(sight.previous_kept)
    yield catalogue.DRIFT, (), _age(sight.drifting_since, now)
    yield catalogue.ROLLOUT_AGE, (), _age(sight.moving_since, now)
    if sight.waiting is not None:
        reason, who, since = sight.waiting
        yield catalogue.WAITING, (reason, who), _age(since, now)


def _age(since: datetime | None, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds()) if since is not None else 0.0
