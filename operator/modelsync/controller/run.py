"""Puts the parts together and keeps them running: lease, sweep, watches, poller, webhook receiver, workers.

The order matters: nothing is worked on before we lead and the cache has been filled; on the way out the workers end
first and the lease is handed over last. Nothing is decided here.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
import uuid
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from modelsync import __version__
from modelsync.api import names
from modelsync.api.settings import OperatorSettings
from modelsync.cluster.access import Access
from modelsync.cluster.apply import Applier
from modelsync.cluster.cache import Cache
from modelsync.cluster.client import Cluster, Count
from modelsync.cluster.connection import Connection, connect
from modelsync.cluster.errors import ClusterError, ForbiddenError, KindMissingError, NotFoundError, UnavailableError
from modelsync.cluster.events import Recorder
from modelsync.cluster.exams import Exams
from modelsync.cluster.family import CachedFamilies, LiveFamilies
from modelsync.cluster.kinds import HTTP_ROUTE, MODEL_DEPLOYMENT, Key, Kind, Object
from modelsync.cluster.lease import Elector
from modelsync.cluster.silences import Silences
from modelsync.controller import health
from modelsync.controller.adapter_reader import AdapterReader
from modelsync.controller.kopf_shell import Shell, quiet_kopf
from modelsync.controller.listen import listen
from modelsync.controller.measures import Measures
from modelsync.controller.reconciler import Reconciler
from modelsync.controller.sweeper import Sweep, Sweeper
from modelsync.controller.workqueue import Priority, WorkQueue
from modelsync.registry import webhook
from modelsync.registry.certificate import Certificate
from modelsync.registry.poller import Poller
from modelsync.registry.relay import Relay
from modelsync.registry.store import Key as PollerKey
from modelsync.telemetry import catalogue
from modelsync.telemetry import server as telemetry
from modelsync.telemetry.metrics import CONTROLLER, Metrics
from modelsync.telemetry.queue import QueueMetrics

WORKERS = 32
"""They wait for the API server nearly all the time."""
SWEEP_INTERVAL = timedelta(minutes=5)
SWEEP_RETRY = timedelta(seconds=15)
GATEWAY_API_PROBE = timedelta(seconds=5)
"""How often to ask whether the Gateway API has been installed, while it is missing."""
SHELL_RETRY = timedelta(seconds=5)
DRAIN = timedelta(seconds=5)
STUCK = timedelta(minutes=2)
"""A pass is a few dozen requests of at most some seconds each: one that takes longer never ends."""
LEASE_NAME = "modelsync"

log = structlog.get_logger(__name__)


class StartError(Exception):
    """The operator cannot run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to listen for the registry's webhooks, and what they must know."""

    host: str
    port: int
    token: str
    secret: str = ""
    certificate: Certificate | None = None
    """Without one calls come in the clear: something before us must end TLS."""


@dataclass(frozen=True, slots=True)
class Options:
    """What `modelsync run` was told."""

    settings: OperatorSettings
    lease_namespace: str
    kubeconfig: Path | None = None
    namespaces: Sequence[str] = ()
    webhook: Webhook | None = None
    health_port: int | None = None
    metrics_port: int | None = None


async def run(options: Options) -> int:
    """Run until SIGTERM or SIGINT; return the exit code, 1 when the lease was lost. Raises StartError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await run_until(stop, options)


async def run_until(stop: asyncio.Event, options: Options) -> int:
    """Run until `stop` is set; return the exit code, 1 when the lease was lost. Raises StartError."""
    try:
        connection = await connect(options.kubeconfig)
        async with AsyncExitStack() as stack:
            metrics = Metrics()
            cluster = Cluster(connection.client(), count=_counted(metrics, connection.server))
            stack.push_async_callback(cluster.close)
            await _check(cluster, connection, options)
            checks: dict[str, health.Check] = {}
            if (port := options.health_port) is not None:
                # The kubelet is answered with what `checks` is then: a process that waits for the lease is well too.
                await _enter(stack, listen(health.application(checks), port=port), f"--health-port {port}")
            lease = lease_name(options)
            metrics.set(catalogue.LEADER, 0, name=lease)
            if (port := options.metrics_port) is not None:
                # Also one that waits for the lease is to be seen.
                await _enter(stack, listen(telemetry.application(metrics), port=port), f"--metrics-port {port}")
                log.info("metrics.listening", port=port)
            elector = _elector(cluster, options)
            relay = await _take_webhooks(stack, options, elector, metrics)
            if not await _acquire(elector, stop, options):
                return 0
            stack.push_async_callback(elector.release)
            metrics.set(catalogue.LEADER, 1, name=lease)
            operator = Operator(connection, cluster, elector, options, relay, metrics)
            checks.update(operator.checks)
            try:
                return await operator.operate(stop)
            finally:
                metrics.set(catalogue.LEADER, 0, name=lease)
                metrics.fleet.clear()
    except ClusterError as error:
        raise StartError(str(error)) from None


class Operator:
    """The running operator, once it leads."""

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
        self._poller = Poller(self._changed, watch=self._asked_registry)
        metrics.before_each_scrape(self._tell_last_answers)
        metrics.set(catalogue.MAX_CONCURRENT, WORKERS, controller=CONTROLLER)
        measures = Measures(metrics)
        self._adapters = AdapterReader(self._changed)
        self._exams = Exams(self._queue.add)
        silences = Silences()
        self._applier = Applier(
            fenced,
            self._cache,
            options.settings,
            silences=silences,
            retry=self._queue.retry,
            look=self._queue.add,
            acted=measures.acted,
        )
        self._reconciler = Reconciler(
            cache=self._cache,
            cached=self._cached,
            live=LiveFamilies(fenced, self._cache, self._cached),
            applier=self._applier,
            silences=silences,
            recorder=Recorder(fenced, instance=_identity(), count=self._told_event),
            access=Access(cluster),
            poller=self._poller,
            adapters=self._adapters,
            queue=self._queue,
            settings=options.settings,
            epoch=elector.epoch,
            exams=self._exams,
            measures=measures,
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
                await _first(stop.wait(), self._elector.lost.wait())
            finally:
                drained = await self._queue.shut_down(drain=DRAIN if not self._elector.lost.is_set() else timedelta(0))
                if not self._elector.lost.is_set():
                    await self._applier.finish(DRAIN)
                for task in (*background, *workers):
                    task.cancel()
                await asyncio.gather(*background, *workers, return_exceptions=True)
            log.info("operator.stopped", drained=drained)
            return 1 if self._elector.lost.is_set() else 0

    # --- what goes on in the background ---

    async def _sweep_once(self) -> Sweep:
        sweep = await self._sweeper.sweep()
        self._swept_at = time.monotonic()
        self._cached.gateway_api = HTTP_ROUTE not in sweep.missing_kinds
        self._metrics.set(catalogue.CACHED, sweep.objects)
        return sweep

    async def _sweep(self) -> None:
        """Sweep for ever; while the Gateway API is missing, ask for it more often."""
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
        """Keep the watches open; open them anew when they end, and when a kind appears that was missing."""
        while True:
            self._shell = Shell(self._connection, self._seen, namespaces=self._options.namespaces)
            self._shell.start()
            try:
                if self._cached.gateway_api:
                    # Shielded: being cancelled ourselves must not cancel what the thread will set.
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

    def _seen(self, kind: Kind, obj: Object, deleted: bool) -> None:
        self._metrics.count(catalogue.WATCH_EVENTS, kind=kind.kind)
        for key in self._cache.put(kind, obj, deleted=deleted):
            self._queue.add(key)

    def _changed(self, key: PollerKey) -> None:
        self._queue.add(Key(*key), Priority.HIGH)

    # --- numbers ---

    def _asked_registry(self, server: str, outcome: str, seconds: float) -> None:
        self._metrics.count(catalogue.REGISTRY_REQUESTS, server=server, outcome=outcome)
        self._metrics.observe(catalogue.REGISTRY_TIME, seconds, server=server)

    def _tell_last_answers(self) -> None:
        self._metrics.clear(catalogue.REGISTRY_ANSWERED)
        for (server, namespace), at in self._poller.last_answers().items():
            value = at.timestamp() if at is not None else 0.0
            self._metrics.set(catalogue.REGISTRY_ANSWERED, value, server=server, namespace=namespace)

    def _told_event(self, became: str) -> None:
        self._metrics.count(catalogue.EVENTS, result=became)

    # --- liveness ---

    @property
    def checks(self) -> Mapping[str, health.Check]:
        """What must move while we lead."""
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


async def _check(cluster: Cluster, connection: Connection, options: Options) -> None:
    """Find out now what would fail later, and say what to do. Raises StartError."""
    quiet_kopf()
    try:
        await cluster.version()
        for namespace in options.namespaces or (None,):
            async for _ in cluster.pages(MODEL_DEPLOYMENT, namespace):
                break
    except UnavailableError as error:
        raise StartError(f"{error} ({connection.server}); check --kubeconfig and that the cluster runs") from None
    except KindMissingError:
        raise StartError(
            f"the cluster does not know {names.KIND} ({names.API_VERSION}); install its definition: "
            "`modelsync crds | kubectl apply --server-side -f -`"
        ) from None
    except ForbiddenError as error:
        raise StartError(
            f"{error}; give the account the rights that the chart's roles (`rbac.create`) or deploy/install.yaml hold"
        ) from None


async def _take_webhooks(stack: AsyncExitStack, options: Options, elector: Elector, metrics: Metrics) -> Relay | None:
    """Listen from now on: a process that waits passes webhooks on to the one that leads. Raises StartError."""
    if (hook := options.webhook) is None:
        return None
    relay = Relay(lambda: elector.leader_address, token=hook.token, secret=hook.secret, certificate=hook.certificate)

    def heard(result: str) -> None:
        metrics.count(catalogue.WEBHOOKS, result=result)

    app = webhook.application(relay, token=hook.token, secret=hook.secret, heard=heard)
    listening = listen(app, host=hook.host, port=hook.port, keepalive=webhook.KEEPALIVE, certificate=hook.certificate)
    port = await _enter(stack, listening, f"--webhook-port {hook.port}")
    metrics.set(catalogue.WEBHOOK_LISTENING, 1)
    log.info("webhook.listening", port=port, tls=hook.certificate is not None)
    return relay


async def _enter(stack: AsyncExitStack, listening: AbstractAsyncContextManager[int], option: str) -> int:
    """Listen from now on; gives the port. Raises StartError that names `option`."""
    try:
        return await stack.enter_async_context(listening)
    except OSError as error:
        raise StartError(f"{option}: {error.strerror}; choose another port") from None


def lease_name(options: Options) -> str:
    """The name of the lease: operators of other namespaces are none of our rivals. The chart computes the same."""
    if not options.namespaces:
        return LEASE_NAME
    return f"{LEASE_NAME}-{sha256(','.join(sorted(set(options.namespaces))).encode()).hexdigest()[:10]}"


def _counted(metrics: Metrics, server: str) -> Count:
    host = urlsplit(server).netloc

    def count(method: str, code: str) -> None:
        metrics.count(catalogue.REST_REQUESTS, code=code, method=method, host=host)

    return count


def _elector(cluster: Cluster, options: Options) -> Elector:
    return Elector(
        cluster,
        namespace=options.lease_namespace,
        name=lease_name(options),
        identity=f"{_identity()}_{uuid.uuid4().hex[:8]}",
        address=_address(options),
    )


async def _acquire(elector: Elector, stop: asyncio.Event, options: Options) -> bool:
    """Wait until we lead; False when we were told to stop before. Raises StartError."""
    acquiring = asyncio.create_task(elector.acquire(), name="acquire")
    await _first(acquiring, stop.wait())
    if not acquiring.done():
        acquiring.cancel()
        await asyncio.gather(acquiring, return_exceptions=True)
        return False
    try:
        await acquiring
    except NotFoundError:
        raise StartError(
            f"namespace {options.lease_namespace}, where the lease is kept, does not exist; create it "
            f"(`kubectl create namespace {options.lease_namespace}`), or give --lease-namespace"
        ) from None
    except ForbiddenError as error:
        raise StartError(
            f"{error}; give the account the rights that the chart's roles (`rbac.create`) or deploy/install.yaml hold"
        ) from None
    return True


async def _first(*awaitables: Awaitable[object]) -> None:
    """Wait for the first of them; those that are no tasks yet are cancelled."""
    tasks = [each if isinstance(each, asyncio.Task) else asyncio.ensure_future(each) for each in awaitables]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    made = [task for task in tasks if task not in awaitables]
    for task in made:
        task.cancel()
    await asyncio.gather(*made, return_exceptions=True)


def _identity() -> str:
    """The pod's name, or the machine's."""
    return os.environ.get("POD_NAME") or socket.gethostname()


def _address(options: Options) -> str | None:
    """Where other processes pass webhooks on to us; only a pod knows by which address it is reached."""
    host = os.environ.get("POD_IP")
    if not host or options.webhook is None:
        return None
    return f"[{host}]:{options.webhook.port}" if ":" in host else f"{host}:{options.webhook.port}"
