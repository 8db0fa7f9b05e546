"""Runs the operator in this process against a real API server, with the W&B stand-in; the tests simulate the kubelet.

The operator has its own account, with the rights and under the admission policy of the chart; the tests are the
administrator.

Pods select a node of the test, which has no kubelet. Deployments, ReplicaSets, scheduling and EndpointSlices are
handled by the cluster's own controllers, and routes by its own gateway.
"""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import account
from apiserver import ApiServer, RefusedError
from modelsync.api import kinds, names
from modelsync.api.settings import OperatorSettings
from modelsync.cluster.client import Cluster
from modelsync.cluster.connection import connect
from modelsync.controller.options import Options
from modelsync.controller.run import run_until
from wandb_standin import Admin, StandIn

SECONDS = 40
NODE_LABEL = "modelsync.test/node-of"
HEARTBEAT_SECONDS = 10
_addresses = itertools.count(1)


@pytest.fixture(scope="session")
def api() -> ApiServer:
    found = ApiServer()
    found.install_definition()
    return found


@pytest.fixture(scope="session")
def operator_kubeconfig(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of the operator's account. At the end, the policy must have had nothing against its writes."""
    with account.bounded(api) as made:
        before = account.objections(api, made.policy)
        path = tmp_path_factory.mktemp("operator") / "kubeconfig"
        yield made.write_kubeconfig(api, Path(os.environ["KUBECONFIG"]), path)
        assert account.objections(api, made.policy) == before


@pytest.fixture
def namespace(api: ApiServer) -> Iterator[str]:
    name = api.make_namespace()
    yield name
    with suppress(RefusedError):  # a test may have deleted it
        api.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[Cluster]:
    connection = await connect()
    client = Cluster(connection.client())
    yield client
    await client.close()


@pytest.fixture(scope="session")
def standin() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


async def until(what: str, check: Callable[[], Awaitable[Any]], seconds: float = SECONDS) -> Any:
    """Repeat `check` until its result is true, and return it."""
    deadline = time.monotonic() + seconds
    while True:
        found = await check()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.05)


@dataclass
class World:
    """One namespace: its ModelDeployment `chat`, the registry's collection, and a simulated kubelet."""

    cluster: Cluster
    api: ApiServer
    namespace: str
    standin: StandIn
    kubeconfig: Path
    settings: OperatorSettings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = OperatorSettings.model_validate(
            {
                "allowedRegistries": [self.standin.url],
                "servingImage": "docker.io/library/nothing-runs-here:v1",
                "pullerImage": "docker.io/library/nothing-runs-here:v1",
            }
        )

    @property
    def admin(self) -> Admin:
        return self.standin.admin

    @property
    def path(self) -> str:
        """The path of the collection."""
        return f"acme/{self.namespace}/chat"

    def log(self, text: str = "first") -> str:
        """Log a version; return its name."""
        content = {"model.safetensors": f"{self.namespace} {text}".encode()}
        return self.admin.log_artifact("acme", self.namespace, "chat", content).version

    def point(self, version: str) -> None:
        self.admin.set_alias(f"{self.path}:{version}", "production")

    def secret(self, *, key: str | None = None, labelled: bool = True) -> dict[str, Any]:
        labels = {names.CREDENTIAL_LABEL: "true"} if labelled else {}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "wandb", "namespace": self.namespace, "labels": labels},
            "stringData": {"WANDB_API_KEY": key or self.standin.api_key},
        }

    async def give_credential(self, **options: Any) -> None:
        await self.cluster.apply(kinds.SECRET, self.namespace, self.secret(**options))

    def model_deployment(self, *, gateway: bool = True, **spec: Any) -> dict[str, Any]:
        parent = {"name": "models", "namespace": "gateways"}
        traffic: dict[str, Any] = {"settle": "0s"}
        if gateway:
            traffic["gateway"] = {"parentRefs": [parent], "hostnames": [f"{self.namespace}.example.com"]}
        wanted = {
            "modelRef": f"{self.path}:production",
            "replicas": 1,
            "registry": {
                "baseURL": self.standin.url,
                "auth": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}},
                "pollInterval": "1s",
            },
            "serving": {"scheduling": {"nodeSelector": {NODE_LABEL: self.namespace}}},
            "traffic": traffic,
        }
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "chat", "namespace": self.namespace},
            "spec": wanted | spec,
        }

    async def deploy(self, **spec: Any) -> dict[str, Any]:
        return await self.cluster.create(kinds.MODEL_DEPLOYMENT, self.namespace, self.model_deployment(**spec))

    # --- reading ---

    async def read(self) -> dict[str, Any]:
        return await self.cluster.get(kinds.MODEL_DEPLOYMENT, self.namespace, "chat")

    async def status(self) -> dict[str, Any]:
        return (await self.read()).get("status") or {}

    async def condition(self, kind: str) -> dict[str, Any]:
        found = (await self.status()).get("conditions") or ()
        return next((each for each in found if each["type"] == kind), {})

    async def until_status(self, what: str, ready: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        async def check() -> dict[str, Any] | None:
            status = await self.status()
            return status if ready(status) else None

        try:
            found: dict[str, Any] = await until(what, check)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await self.status()}") from None
        return found

    async def until_phase(self, phase: str) -> dict[str, Any]:
        return await self.until_status(f"phase {phase}", lambda status: status.get("phase") == phase)

    async def until_message(self, kind: str, text: str) -> dict[str, Any]:
        """Wait until a condition's message contains `text`; return the condition."""

        async def check() -> dict[str, Any] | None:
            found = await self.condition(kind)
            return found if text in found.get("message", "") else None

        try:
            answer: dict[str, Any] = await until(f"{kind} with the message {text!r}", check)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{(await self.status()).get('conditions')}") from None
        return answer

    async def objects(self) -> dict[str, dict[str, Any]]:
        """Return all objects that may belong to the ModelDeployment, by kind and name, without Events and the Lease."""
        chosen = (
            kinds.MODEL_DEPLOYMENT,
            kinds.DEPLOYMENT,
            kinds.SERVICE,
            kinds.CONTROLLER_REVISION,
            kinds.HTTP_ROUTE,
            kinds.POD_DISRUPTION_BUDGET,
            kinds.SECRET,
        )
        lists = await asyncio.gather(*(self.cluster.list_all(kind, self.namespace) for kind in chosen))
        return {f"{obj['kind']}/{obj['metadata']['name']}": obj for found in lists for obj in found}

    async def weights(self) -> dict[str, int]:
        """Return the live route's weights by version (or `blocked`)."""
        route = await self.cluster.find(kinds.HTTP_ROUTE, self.namespace, "chat")
        rules = route["spec"]["rules"] if route else []
        backends = [backend for rule in rules for backend in rule["backendRefs"]]
        return {backend["name"].removeprefix("chat-").partition("-")[0]: backend["weight"] for backend in backends}

    async def pods(self, version: str = "") -> list[dict[str, Any]]:
        found = await self.cluster.list_all(kinds.POD, self.namespace, labels=names.NAME_LABEL)
        return [pod for pod in found if pod["metadata"]["name"].startswith(f"chat-{version}")]

    # --- the kubelet ---

    @asynccontextmanager
    async def kubelet(self, *, silent: str = "") -> AsyncIterator[None]:
        """While it is open, pods become ready and terminating ones are deleted; pods of `silent` never become ready."""
        task = asyncio.create_task(self._kubelet(silent))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _kubelet(self, silent: str) -> None:
        beat = 0.0
        while True:
            if time.monotonic() - beat > HEARTBEAT_SECONDS:
                await self._call("PATCH", f"{self._node_path}/status", {"status": node_status()})
                beat = time.monotonic()
            for pod in await self.pods():
                if pod["metadata"].get("deletionTimestamp"):
                    await self.cluster.delete(kinds.POD, self.namespace, pod["metadata"]["name"], grace=timedelta(0))
                elif (
                    pod["spec"].get("nodeName")
                    and not is_ready(pod)
                    and (not silent or not pod["metadata"]["name"].startswith(f"chat-{silent}-"))
                ):
                    await self._make_ready(pod)
            await asyncio.sleep(0.05)

    async def _make_ready(self, pod: dict[str, Any]) -> None:
        number = next(_addresses)
        address = f"10.99.{number // 250}.{number % 250 + 1}"
        conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": now()}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ]
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}
        await self._call("PATCH", kinds.POD.path(self.namespace, pod["metadata"]["name"], "status"), {"status": status})

    async def _call(self, method: str, path: str, body: dict[str, Any]) -> None:
        try:
            await asyncio.to_thread(self.api.call, method, path, body, content_type="application/merge-patch+json")
        except RefusedError as error:
            if error.status not in (404, 409):
                raise

    def add_node(self) -> None:
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"node-of-{self.namespace}", "labels": {NODE_LABEL: self.namespace}},
        }
        self.api.call("POST", "/api/v1/nodes", node)
        body = {"status": node_status()}
        self.api.call("PATCH", f"{self._node_path}/status", body, content_type="application/merge-patch+json")

    def remove_node(self) -> None:
        self.api.call("DELETE", self._node_path)

    @property
    def _node_path(self) -> str:
        return f"/api/v1/nodes/node-of-{self.namespace}"

    # --- the operator ---

    def options(self, *, metrics_port: int | None = None, **settings: Any) -> Options:
        """The options of an operator for this namespace only."""
        return Options(
            settings=self.settings.model_copy(update=settings),
            lease_namespace=self.namespace,
            kubeconfig=self.kubeconfig,
            namespaces=(self.namespace,),
            metrics_port=metrics_port,
        )

    @asynccontextmanager
    async def operator(self, *, metrics_port: int | None = None, **settings: Any) -> AsyncIterator[asyncio.Event]:
        """Run the operator for this namespace only, and stop it as SIGTERM does."""
        stop = asyncio.Event()
        task = asyncio.create_task(run_until(stop, self.options(metrics_port=metrics_port, **settings)))
        try:
            yield stop
        finally:
            stop.set()
            async with asyncio.timeout(20):
                assert await task == 0


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def node_status() -> dict[str, Any]:
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Test",
        "lastHeartbeatTime": now(),
        "lastTransitionTime": now(),
    }
    room = {"cpu": "64", "memory": "256Gi", "pods": "500"}
    return {"capacity": room, "allocatable": room, "conditions": [ready]}


def is_held(lease: dict[str, Any]) -> bool:
    """Whether the lease was renewed recently; a killed holder's name stays in it."""
    renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
    return bool(lease["spec"].get("holderIdentity")) and datetime.now(UTC) - renewed < timedelta(seconds=20)


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


@pytest_asyncio.fixture
async def world(
    cluster: Cluster, api: ApiServer, namespace: str, standin: StandIn, operator_kubeconfig: Path
) -> AsyncIterator[World]:
    lease = await cluster.find(kinds.LEASE, "modelsync-system", "modelsync")
    if lease is not None and is_held(lease):
        pytest.fail("another operator runs in this cluster (from `make demo`?); stop it: `make demo-down`")
    made = World(cluster, api, namespace, standin, operator_kubeconfig)
    made.add_node()
    yield made
    made.remove_node()
