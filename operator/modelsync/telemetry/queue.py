"""The work queue's numbers, under the names and with the meaning that client-go's have."""

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from modelsync.telemetry import catalogue
from modelsync.telemetry.metrics import CONTROLLER, Metrics

K = TypeVar("K", bound=Hashable)


class QueueMetrics(Generic[K]):
    """Watches one queue. Keeps a time for each key that waits or is worked on, and nothing for others."""

    def __init__(
        self, metrics: Metrics, *, name: str = CONTROLLER, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics = metrics
        self._name = name
        self._clock = clock
        self._waiting: dict[K, float] = {}
        self._worked_on: dict[K, float] = {}
        metrics.before_each_scrape(self._take_stock)
        for metric in (catalogue.WORKQUEUE_ADDS, catalogue.WORKQUEUE_RETRIES):
            metrics.count(metric, 0, name=name)

    def added(self, key: K) -> None:
        """`key` waits from now on."""
        if key not in self._waiting:
            self._waiting[key] = self._clock()
            self._metrics.count(catalogue.WORKQUEUE_ADDS, name=self._name)

    def taken(self, key: K) -> None:
        """A worker has it."""
        now = self._clock()
        self._worked_on[key] = now
        self._metrics.observe(catalogue.WORKQUEUE_WAIT, now - self._waiting.pop(key, now), name=self._name)

    def done(self, key: K) -> None:
        """The worker is through with it."""
        now = self._clock()
        self._metrics.observe(catalogue.WORKQUEUE_WORK, now - self._worked_on.pop(key, now), name=self._name)

    def retried(self, key: K) -> None:
        """It comes again after its back-off."""
        self._metrics.count(catalogue.WORKQUEUE_RETRIES, name=self._name)

    def emptied(self) -> None:
        """What waited is dropped."""
        self._waiting.clear()

    def _take_stock(self) -> None:
        now = self._clock()
        ages = [now - since for since in self._worked_on.values()]
        self._metrics.set(catalogue.WORKQUEUE_DEPTH, len(self._waiting), name=self._name)
        self._metrics.set(catalogue.WORKQUEUE_UNFINISHED, sum(ages), name=self._name)
        self._metrics.set(catalogue.WORKQUEUE_LONGEST, max(ages, default=0.0), name=self._name)
        self._metrics.set(catalogue.ACTIVE_WORKERS, len(ages), controller=self._name)
