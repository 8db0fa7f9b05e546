"""The operator while it leads: builds cache, poller, watches, sweeper and workers, and keeps them running.

At startup the cache is filled before any key is worked on; at shutdown the workers end first. Nothing is decided here.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta

import structlog

from modelsync import __version__
from modelsync.api.kinds import HTTP_ROUTE, Key, Kind, Object
from modelsync.cluster.cache import Cache
from modelsync.cluster.client import Cluster
from modelsync.cluster.connection import Connection
from modelsync.cluster.credentials import RegistryCredentials
from modelsync.cluster.errors import ClusterError
from modelsync.cluster.event_recorder import Recorder
from modelsync.cluster.families import CachedFamilies, LiveFamilies
from modelsync.cluster.lease import Elector
from modelsync.controller import health
from modelsync.controller.hold_guard import HoldGuard, key_of
from modelsync.controller.instrumentation import Instrumentation
from modelsync.controller.kopf_shell import Shell
from modelsync.controller.options import Options, identity
from modelsync.controller.reconciler import Reconciler
from modelsync.controller.sweeper import Sweep, Sweeper
from modelsync.controller.workqueue import Priority, WorkQueue
from modelsync.effects.adapter_reader import AdapterReader
from modelsync.effects.apply import Applier
from modelsync.effects.cut_off import Cutter
from modelsync.effects.exams import ExamPoller
from modelsync.effects.silence_unplanned import UnplannedSilencer
from modelsync.effects.silences import Silences
from modelsync.observe.question import administrator_names
from modelsync.registry.poller import Poller
from modelsync.registry.relay import Relay
from modelsync.registry.store import Key as PollerKey
from modelsync.telemetry import catalogue
from modelsync.telemetry.metrics import CONTROLLER, Metrics
from modelsync.telemetry.queue import QueueMetrics

WORKERS = 32
"""Many, since they wait for the API server nearly all the time."""
SWEEP_INTERVAL = timedelta(minutes=5)
SWEEP_RETRY = timedelta(seconds=15)
GATEWAY_API_PROBE = timedelta(seconds=5)
"""How often to check whether the Gateway API has been installed, while it is missing."""
SHELL_RETRY = timedelta(seconds=5)
DRAIN = timedelta(seconds=5)
STUCK = timedelta(minutes=2)
"""A pass sends a few dozen requests of at most some seconds each, so one that takes longer hangs."""
log = structlog.get_logger(__name__)


class Operator:
    """The operator's components, from the time it leads."""

    def __init__(
        self,
        connection: Connection,
        cluster: Cluster,
        elector: Elector,
        options: Options,
        relay: Relay | None,
        metrics: Metrics,
    ) -> None:
        fenced = cluster.fenced(elector.fence)
        self._relay = relay
        self._connection = connection
        self._elector = elector
        self._options = options
        self._cluster = cluster
        self._cache = Cache()
        self._metrics = metrics
        self._queue: WorkQueue[Key] = WorkQueue(observer=QueueMetrics(metrics))
        self._cached = CachedFamilies(self._cache)
        self._sweeper = Sweeper(cluster, self._cache, self._queue.add, namespaces=options.namespaces)
        self._swept_at = time.monotonic()
        self._shell: Shell | None = None
        self._poller = Poller(
            self._on_change, hold_names=administrator_names(options.settings), watch=self._count_registry_request
        )
        metrics.before_each_scrape(self._update_last_answers)
        metrics.set(catalogue.MAX_CONCURRENT, WORKERS, controller=CONTROLLER)
        instrumentation = Instrumentation(metrics)
        self._adapters = AdapterReader(self._on_change)
        self._exams = ExamPoller(self._queue.add)
        silences = Silences()
        cutter = Cutter(fenced, self._cache, silences)
        recorder = Recorder(fenced, instance=identity(), count_result=self._count_event)
        credentials = RegistryCredentials(cluster, own_namespace=options.lease_namespace)
        self._applier = Applier(
            fenced,
            self._cache,
            options.settings,
            cutter=cutter,
            retry=self._queue.retry,
            requeue=self._queue.add,
            on_action_done=instrumentation.on_action_done,
        )
        self._reconciler = Reconciler(
            cache=self._cache,
            cached=self._cached,
            live=LiveFamilies(fenced, self._cache, self._cached),
            applier=self._applier,
            silences=silences,
            recorder=recorder,
            credentials=credentials,
            poller=self._poller,
            guard=HoldGuard(
                poller=self._poller,
                credentials=credentials,
                silencer=UnplannedSilencer(fenced, self._cache, cutter),
                recorder=recorder,
                settings=options.settings,
                requeue=self._queue.add_after,
            ),
            adapters=self._adapters,
            queue=self._queue,
            settings=options.settings,
            epoch=elector.epoch,
            exams=self._exams,
            instrumentation=instrumentation,
        )

    async def operate(self, stop: asyncio.Event) -> int:
        """Work until `stop` is set or the lease is lost. Returns the exit code."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._poller)
            stack.push_async_callback(self._adapters.stop)
            stack.push_async_callback(self._exams.close)
            if self._relay is not None:
                self._relay.lead(self._poller.look_at)
            await self._sweep_once()
            workers = [asyncio.create_task(self._reconciler.work(), name=f"worker-{n}") for n in range(WORKERS)]
            background = [
                asyncio.create_task(self._watch(), name="watches"),
                asyncio.create_task(self._sweep(), name="sweeper"),
            ]
            log.info("operator.started", version=__version__, server=self._connection.server)
            try:
                await first(stop.wait(), self._elector.lost.wait())
            finally:
                drained = await self._queue.shut_down(drain=DRAIN if not self._elector.lost.is_set() else timedelta(0))
                if not self._elector.lost.is_set():
                    await self._applier.finish(DRAIN)
                for task in (*background, *workers):
                    task.cancel()
                await asyncio.gather(*background, *workers, return_exceptions=True)
            log.info("operator.stopped", drained=drained)
            return 1 if self._elector.lost.is_set() else 0

    # --- background tasks ---

    async def _sweep_once(self) -> Sweep:
        sweep = await self._sweeper.sweep()
        self._swept_at = time.monotonic()
        self._cached.gateway_api = HTTP_ROUTE not in sweep.missing_kinds
        self._metrics.set(catalogue.CACHED, sweep.objects)
        return sweep

    async def _sweep(self) -> None:
        """Sweep every `SWEEP_INTERVAL`, and sooner after a failed sweep."""
        due = SWEEP_INTERVAL
        while True:
            await asyncio.sleep(due.total_seconds())
            try:
                sweep = await self._sweep_once()
            except ClusterError as error:
                log.warning("sweep.failed", problem=str(error))
                due = SWEEP_RETRY
            else:
                due = SWEEP_INTERVAL
                self._metrics.count(catalogue.SWEEP_FOUND, sweep.missed, what="missed")
                self._metrics.count(catalogue.SWEEP_FOUND, sweep.ghosts, what="ghost")
                if sweep.missed or sweep.ghosts:
                    log.info("sweep.found", missed=sweep.missed, ghosts=sweep.ghosts, objects=sweep.objects)

    async def _watch(self) -> None:
        """Keep the watches open; reopen them when they end, and when the Gateway API has been installed."""
        while True:
            self._shell = Shell(self._connection, self._on_watch_event, namespaces=self._options.namespaces)
            self._shell.start()
            try:
                if self._cached.gateway_api:
                    # Shielded: cancelling this task must not cancel the future that the thread will set.
                    await asyncio.shield(asyncio.wrap_future(self._shell.ended))
                else:
                    await self._gateway_api_appears()
                    log.info("gateway_api.found")
                    await self._shell.stop()
                    await self._sweep_once()
                    continue
            except asyncio.CancelledError:
                await self._shell.stop()
                raise
            except Exception as error:
                log.warning("watches.ended", problem=f"{type(error).__name__}: {error}")
                self._metrics.count(catalogue.WATCH_RESTARTS)
            await asyncio.sleep(SHELL_RETRY.total_seconds())

    async def _gateway_api_appears(self) -> None:
        namespace = next(iter(self._options.namespaces), None)
        while True:
            await asyncio.sleep(GATEWAY_API_PROBE.total_seconds())
            with contextlib.suppress(ClusterError):
                async for _ in self._cluster.pages(HTTP_ROUTE, namespace):
                    return

    def _on_watch_event(self, kind: Kind, obj: Object, deleted: bool) -> None:
        self._metrics.count(catalogue.WATCH_EVENTS, kind=kind.kind)
        for key in self._cache.put(kind, obj, deleted=deleted):
            self._queue.add(key)

    def _on_change(self, key: PollerKey) -> None:
        self._queue.add(key_of(key), Priority.HIGH)

    # --- metrics ---

    def _count_registry_request(self, server: str, outcome: str, seconds: float) -> None:
        self._metrics.count(catalogue.REGISTRY_REQUESTS, server=server, outcome=outcome)
        self._metrics.observe(catalogue.REGISTRY_TIME, seconds, server=server)

    def _update_last_answers(self) -> None:
        self._metrics.clear(catalogue.REGISTRY_ANSWERED)
        for (server, namespace), at in self._poller.last_answers().items():
            value = at.timestamp() if at is not None else 0.0
            self._metrics.set(catalogue.REGISTRY_ANSWERED, value, server=server, namespace=namespace)

    def _count_event(self, result: str) -> None:
        self._metrics.count(catalogue.EVENTS, result=result)

    # --- liveness ---

    @property
    def checks(self) -> Mapping[str, health.Check]:
        """Liveness checks of a leader."""
        return {"watches": self._watches_end, "workers": self._worker_stuck, "sweeper": self._sweep_late}

    def _watches_end(self) -> str | None:
        ended = self._shell is not None and self._shell.ended.done()
        return "the watches of the API server have ended" if ended else None

    def _worker_stuck(self) -> str | None:
        longest = self._queue.longest_running
        return f"a pass has taken {longest.total_seconds():.0f} s" if longest > STUCK else None

    def _sweep_late(self) -> str | None:
        late = time.monotonic() - self._swept_at
        return f"the last sweep was {late:.0f} s ago" if late > 3 * SWEEP_INTERVAL.total_seconds() else None


async def first(*awaitables: Awaitable[object]) -> None:
    """Wait until one of them is done, and cancel the others unless they were tasks of the caller."""
    tasks = [each if isinstance(each, asyncio.Task) else asyncio.ensure_future(each) for each in awaitables]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    created = [task for task in tasks if task not in awaitables]
    for task in created:
        task.cancel()
    await asyncio.gather(*created, return_exceptions=True)
