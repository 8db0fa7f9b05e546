"""The metrics of this process, in their own registry, and the methods to record them.

Recording must never block, wait, or raise because of a value. Everything runs in the event loop's thread; only `render`
may run in another one, after `refresh`.
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
"""Controller and queue have the kind in lower case as their name, as with controller-runtime."""

_INITIAL_SERIES: dict[Metric, tuple[dict[str, str], ...]] = {
    catalogue.ALIAS_MOVES: ({},),
    catalogue.WEBHOOKS: tuple({"result": result} for result in ("Accepted", "Refused", "Deferred", "Unserved")),
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
"""Series that start as 0: otherwise `increase()` does not see the first increment of a counter."""


# A `_created` series for each series doubles their number, and no dashboard uses it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client leaves out its return type


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.fleet = Fleet()
        self._metrics: dict[str, Counter | Gauge | Histogram] = {
            metric.name: _make(metric, self.registry) for metric in catalogue.ALL if metric.scope is Scope.PROCESS
        }
        self._before_scrape: list[Callable[[], None]] = [self.fleet.freeze]
        self.registry.register(self.fleet)
        ProcessCollector(registry=self.registry)
        for metric, starts in _INITIAL_SERIES.items():
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
        """Add a value to a histogram. A negative one, which differing clocks can cause, counts as 0."""
        series = self._series(metric, labels)
        assert isinstance(series, Histogram)  # noqa: S101 - the catalogue says so
        series.observe(max(0.0, value))

    def clear(self, metric: Metric) -> None:
        """Drop all series of a metric."""
        self._metrics[metric.name].clear()

    def before_each_scrape(self, update: Callable[[], None]) -> None:
        """Call `update` before each scrape, for gauges that are computed."""
        self._before_scrape.append(update)

    def refresh(self) -> None:
        """Compute the gauges for the next `render`."""
        for update in self._before_scrape:
            update()

    def render(self) -> bytes:
        """Return all series in Prometheus' text format. Safe to call in another thread."""
        return generate_latest(self.registry)

    def _series(self, metric: Metric, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        found = self._metrics[metric.name]
        return found.labels(**labels) if metric.labels else found


def _make(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    names = tuple(metric.labels)
    match metric.kind:
        case Kind.COUNTER:
            return Counter(metric.name, metric.help, names, registry=registry)
        case Kind.GAUGE:
            return Gauge(metric.name, metric.help, names, registry=registry)
        case Kind.HISTOGRAM:
            return Histogram(metric.name, metric.help, names, registry=registry, buckets=metric.buckets)
