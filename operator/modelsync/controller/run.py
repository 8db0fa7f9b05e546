"""Starts an operator process: probes, metrics and webhooks, then the lease, then the work of the leader.

A process that waits for the lease also serves probes and metrics, and relays webhooks. At shutdown the lease is
released last.
"""

import asyncio
import signal
import uuid
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from hashlib import sha256
from urllib.parse import urlsplit

import structlog

from modelsync.api import names
from modelsync.api.kinds import MODEL_DEPLOYMENT
from modelsync.cluster.client import Cluster, CountRequest
from modelsync.cluster.connection import Connection, connect
from modelsync.cluster.errors import ClusterError, ForbiddenError, KindMissingError, NotFoundError, UnavailableError
from modelsync.cluster.lease import Elector
from modelsync.controller import health
from modelsync.controller.kopf_shell import quiet_kopf
from modelsync.controller.leading import Operator, first
from modelsync.controller.listen import listen
from modelsync.controller.options import Options, StartError, address, identity
from modelsync.registry import webhook
from modelsync.registry.relay import Relay
from modelsync.telemetry import catalogue
from modelsync.telemetry import server as telemetry
from modelsync.telemetry.metrics import Metrics

LEASE_NAME = "modelsync"

log = structlog.get_logger(__name__)


async def run(options: Options) -> int:
    """Run until SIGTERM or SIGINT; return the exit code: 1 when the lease was lost. Raises StartError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await run_until(stop, options)


async def run_until(stop: asyncio.Event, options: Options) -> int:
    """Run until `stop` is set; return the exit code: 1 when the lease was lost. Raises StartError."""
    try:
        connection = await connect(options.kubeconfig)
        async with AsyncExitStack() as stack:
            metrics = Metrics()
            cluster = Cluster(connection.client(), count_request=_request_counter(metrics, connection.server))
            stack.push_async_callback(cluster.close)
            await _check(cluster, connection, options)
            checks: dict[str, health.Check] = {}
            if (port := options.health_port) is not None:
                # `checks` is read at each probe: it is empty, and the process healthy, while it waits for the lease.
                await _enter(stack, listen(health.application(checks), port=port), f"--health-port {port}")
            lease = lease_name(options)
            metrics.set(catalogue.LEADER, 0, name=lease)
            if (port := options.metrics_port) is not None:
                # Processes that wait for the lease serve metrics too.
                await _enter(stack, listen(telemetry.application(metrics), port=port), f"--metrics-port {port}")
                log.info("metrics.listening", port=port)
            elector = _elector(cluster, options)
            relay = await _serve_webhooks(stack, options, elector, metrics)
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


async def _check(cluster: Cluster, connection: Connection, options: Options) -> None:
    """Check at startup what would fail later. Raises StartError, which says what to do."""
    quiet_kopf()
    try:
        await cluster.version()
        for namespace in options.namespaces or (None,):
            async for _ in cluster.pages(MODEL_DEPLOYMENT, namespace):
                break
    except UnavailableError as error:
        raise StartError(f"{error} ({connection.server}); check --kubeconfig and that the cluster is running") from None
    except KindMissingError:
        raise StartError(
            f"the cluster does not know {names.KIND} ({names.API_VERSION}); install its CRD: "
            "`modelsync crds | kubectl apply --server-side -f -`"
        ) from None
    except ForbiddenError as error:
        raise _missing_permission(error) from None


async def _serve_webhooks(stack: AsyncExitStack, options: Options, elector: Elector, metrics: Metrics) -> Relay | None:
    """Start the receiver: a process that waits relays webhooks to the one that leads. Raises StartError."""
    if (hook := options.webhook) is None:
        return None
    relay = Relay(lambda: elector.leader_address, token=hook.token, secret=hook.secret, certificate=hook.certificate)

    def count_webhook(result: str) -> None:
        metrics.count(catalogue.WEBHOOKS, result=result)

    app = webhook.application(relay, token=hook.token, secret=hook.secret, heard=count_webhook)
    listening = listen(app, host=hook.host, port=hook.port, keepalive=webhook.KEEPALIVE, certificate=hook.certificate)
    port = await _enter(stack, listening, f"--webhook-port {hook.port}")
    metrics.set(catalogue.WEBHOOK_LISTENING, 1)
    log.info("webhook.listening", port=port, tls=hook.certificate is not None)
    return relay


async def _enter(stack: AsyncExitStack, listening: AbstractAsyncContextManager[int], option: str) -> int:
    """Start to listen; return the port. Raises StartError, which names `option`."""
    try:
        return await stack.enter_async_context(listening)
    except OSError as error:
        raise StartError(f"{option}: {error.strerror}; choose another port") from None


def _missing_permission(error: ForbiddenError) -> StartError:
    return StartError(
        f"{error}; grant the account the permissions in the chart's roles (`rbac.create`) or in deploy/install.yaml"
    )


def lease_name(options: Options) -> str:
    """Return the name of the lease. It differs for operators of other namespaces. The chart computes the same name."""
    if not options.namespaces:
        return LEASE_NAME
    return f"{LEASE_NAME}-{sha256(','.join(sorted(set(options.namespaces))).encode()).hexdigest()[:10]}"


def _request_counter(metrics: Metrics, server: str) -> CountRequest:
    host = urlsplit(server).netloc

    def count(method: str, code: str) -> None:
        metrics.count(catalogue.REST_REQUESTS, code=code, method=method, host=host)

    return count


def _elector(cluster: Cluster, options: Options) -> Elector:
    return Elector(
        cluster,
        namespace=options.lease_namespace,
        name=lease_name(options),
        identity=f"{identity()}_{uuid.uuid4().hex[:8]}",
        address=address(options),
    )


async def _acquire(elector: Elector, stop: asyncio.Event, options: Options) -> bool:
    """Wait until this process leads; False when `stop` was set before. Raises StartError."""
    acquiring = asyncio.create_task(elector.acquire(), name="acquire")
    await first(acquiring, stop.wait())
    if not acquiring.done():
        acquiring.cancel()
        await asyncio.gather(acquiring, return_exceptions=True)
        return False
    try:
        await acquiring
    except NotFoundError:
        raise StartError(
            f"namespace {options.lease_namespace}, where the lease is kept, does not exist; create it "
            f"(`kubectl create namespace {options.lease_namespace}`), or pass --lease-namespace"
        ) from None
    except ForbiddenError as error:
        raise _missing_permission(error) from None
    return True
