"""The metrics of this process, in a registry of their own, and the few verbs by which the operator counts.

Nothing here blocks, waits, or raises for what is counted. Used in the event loop's thread alone; only `render` may run
in another, after `refresh` has taken stock.
"""

import platform
from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from modelsync import __version__
from modelsync.telemetry import catalogue
from modelsync.telemetry.catalogue import Kind, Metric, Scope
from modelsync.telemetry.fleet import Fleet

CONTROLLER = "modeldeployment"
"""How dashboards of controller-runtime call a controller and its queue: by the kind, in small letters."""

_FROM_THE_START: dict[Metric, tuple[dict[str, str], ...]] = {
    catalogue.ALIAS_MOVES: ({},),
    catalogue.WEBHOOKS: tuple({"result": result} for result in ("Accepted", "Refused", "Unserved")),
    catalogue.WATCH_RESTARTS: ({},),
    catalogue.SWEEP_FOUND: ({"what": "missed"}, {"what": "ghost"}),
    catalogue.RECONCILE_ERRORS: ({"controller": CONTROLLER},),
    catalogue.RECONCILE_TOTAL: tuple(
        {"controller": CONTROLLER, "result": result} for result in ("success", "requeue_after", "requeue", "error")
    ),
    catalogue.HOLD_REACTION: ({"stage": "RouteSafe"}, {"stage": "LastByte"}),
    catalogue.ROLLOUTS: tuple(
        {"outcome": outcome, "trigger": trigger}
        for outcome in ("Promoted", "TakenBack", "Superseded", "Failed", "Held")
        for trigger in ("Alias", "Spec", "Hold", "Person", "Pods")
    ),
    catalogue.PULLS: ({"outcome": "Pulled"}, {"outcome": "AlreadyPublished"}),
    catalogue.EVENTS: tuple({"result": result} for result in ("Written", "Repeated", "Quiet", "Failed")),
}
"""Series that are there, as 0, before anything happened: `increase()` does not see a counter's first step otherwise."""


# A `_created` beside every series doubles them, and no dashboard looks at it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client leaves out its return type


class Metrics:
    """One for a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.fleet = Fleet()
        self._made: dict[str, Counter | Gauge | Histogram] = {
            metric.name: _make(metric, self.registry) for metric in catalogue.ALL if metric.scope is Scope.PROCESS
        }
        self._stocktakers: list[Callable[[], None]] = [self.fleet.freeze]
        self.registry.register(self.fleet)
        ProcessCollector(registry=self.registry)
        for metric, starts in _FROM_THE_START.items():
            for labels in starts:
                self._series(metric, labels)
        self.set(catalogue.BUILD, 1, version=__version__, python=platform.python_version())
        self.set(catalogue.WEBHOOK_LISTENING, 0)

    def count(self, metric: Metric, by: float = 1, /, **labels: str) -> None:
        """Add to a counter."""
        series = self._series(metric, labels)
        assert isinstance(series, Counter)  # noqa: S101 - the catalogue says so
        series.inc(by)

    def set(self, metric: Metric, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        series = self._series(metric, labels)
        assert isinstance(series, Gauge)  # noqa: S101 - the catalogue says so
        series.set(value)

    def observe(self, metric: Metric, value: float, /, **labels: str) -> None:
        """Put a value into a histogram; one below 0, which clocks that differ can bring about, counts as 0."""
        series = self._series(metric, labels)
        assert isinstance(series, Histogram)  # noqa: S101 - the catalogue says so
        series.observe(max(0.0, value))

    def clear(self, metric: Metric) -> None:
        """Drop all series of a metric."""
        self._made[metric.name].clear()

    def before_each_scrape(self, take_stock: Callable[[], None]) -> None:
        """Have `take_stock` called for what is looked at and not counted."""
        self._stocktakers.append(take_stock)

    def refresh(self) -> None:
        """Take stock of what the next `render` tells."""
        for take_stock in self._stocktakers:
            take_stock()

    def render(self) -> bytes:
        """All series in Prometheus' text format. Touches nothing that the event loop's thread changes."""
        return generate_latest(self.registry)

    def _series(self, metric: Metric, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        made = self._made[metric.name]
        return made.labels(**labels) if metric.labels else made


def _make(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    names = tuple(metric.labels)
    match metric.kind:
        case Kind.COUNTER:
            return Counter(metric.name, metric.help, names, registry=registry)
        case Kind.GAUGE:
            return Gauge(metric.name, metric.help, names, registry=registry)
        case Kind.HISTOGRAM:
            return Histogram(metric.name, metric.help, names, registry=registry, buckets=metric.buckets)
