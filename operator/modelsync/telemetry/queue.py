"""Metrics of the work queue, with the names and the meaning that they have in client-go."""

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from modelsync.telemetry import catalogue
from modelsync.telemetry.metrics import CONTROLLER, Metrics

K = TypeVar("K", bound=Hashable)


class QueueMetrics(Generic[K]):
    """Observes one queue. Keeps one time for each key that waits or is worked on."""

    def __init__(
        self, metrics: Metrics, *, name: str = CONTROLLER, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics = metrics
        self._name = name
        self._clock = clock
        self._waiting: dict[K, float] = {}
        self._busy: dict[K, float] = {}
        metrics.before_each_scrape(self._update_gauges)
        for metric in (catalogue.WORKQUEUE_ADDS, catalogue.WORKQUEUE_RETRIES):
            metrics.count(metric, 0, name=name)

    def added(self, key: K) -> None:
        """`key` was queued."""
        if key not in self._waiting:
            self._waiting[key] = self._clock()
            self._metrics.count(catalogue.WORKQUEUE_ADDS, name=self._name)

    def taken(self, key: K) -> None:
        """A worker took `key`."""
        now = self._clock()
        self._busy[key] = now
        self._metrics.observe(catalogue.WORKQUEUE_WAIT, now - self._waiting.pop(key, now), name=self._name)

    def done(self, key: K) -> None:
        """The worker has finished with `key`."""
        now = self._clock()
        self._metrics.observe(catalogue.WORKQUEUE_WORK, now - self._busy.pop(key, now), name=self._name)

    def retried(self, key: K) -> None:
        """`key` will be queued again after its back-off."""
        self._metrics.count(catalogue.WORKQUEUE_RETRIES, name=self._name)

    def emptied(self) -> None:
        """The waiting keys were dropped."""
        self._waiting.clear()

    def _update_gauges(self) -> None:
        now = self._clock()
        ages = [now - since for since in self._busy.values()]
        self._metrics.set(catalogue.WORKQUEUE_DEPTH, len(self._waiting), name=self._name)
        self._metrics.set(catalogue.WORKQUEUE_UNFINISHED, sum(ages), name=self._name)
        self._metrics.set(catalogue.WORKQUEUE_LONGEST, max(ages, default=0.0), name=self._name)
        self._metrics.set(catalogue.ACTIVE_WORKERS, len(ages), controller=self._name)
