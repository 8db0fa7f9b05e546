"""A bystander that serves, a tenant that attacks, and the operator in a process of its own between them.

Against a real API server and the W&B stand-in over HTTP. The bystander's version gets a hold while the operator has the
tenant's input before it; what is measured is when the hold is seen, when the route no longer leads to what is held, and
what it cost the operator.
"""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

from apiserver import ApiServer, RefusedError, wait_for
from hostile import servers
from integration.controller.conftest import NODE_LABEL, World, is_ready, node_status, now
from modelsync.api import kinds, names
from modelsync.api.kinds import Kind, Object, name_of
from wandb_standin import StandIn

HEALTH_PORT, METRICS_PORT, WEBHOOK_PORT = 18081, 18082, 18083
WEBHOOK_TOKEN = "a-token-that-the-tenant-knows"
IMAGE = "docker.io/library/modelsync:dev"
"""It is in every local cluster, and has Python."""
TAG = "regulatory-hold"
TOOK_TOO_LONG = 45.0
"""Seconds after which a hold is given up on."""
MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class Measured:
    """What one scenario showed: seconds since the mark was set, and the operator's peaks meanwhile."""

    seen: float | None
    safe: float | None
    peak_bytes: int
    lag: float
    died: bool = False
    unhealthy: str = ""
    """What its liveness probe found: the kubelet would end it."""


@dataclass(frozen=True)
class Held:
    """Seconds from setting the mark until it was in the status, and until the route was safe; None for never."""

    seen: float | None
    safe: float | None


@dataclass
class OperatorProcess:
    """The operator, and what it is asked to measure."""

    namespaces: tuple[str, ...]
    settings: Object
    log: Path
    process: subprocess.Popen[str] | None = None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.alive:
            return
        given = {
            "settings": self.settings,
            "namespaces": self.namespaces,
            "healthPort": HEALTH_PORT,
            "metricsPort": METRICS_PORT,
            "webhookPort": WEBHOOK_PORT,
            "webhookToken": WEBHOOK_TOKEN,
        }
        root = Path(__file__).resolve().parents[2]
        with self.log.open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "operator_process.py"), json.dumps(given)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": str(root / "operator")},
            )

    def ask(self, command: str) -> Object:
        """Send a command; return what it has measured so far. Raises BrokenPipeError when it is gone."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise BrokenPipeError("the operator has ended")
        return cast(Object, json.loads(line))

    def end(self) -> None:
        """End it as SIGTERM does, and wait."""
        if self.process is None:
            return
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class Arena:
    """Two namespaces, one operator. `bystander` serves v0 under the alias; `tenant` may do what tenants may do."""

    api: ApiServer
    standin: StandIn
    bystander: World
    tenant: World
    operator: OperatorProcess
    made: list[str] = field(default_factory=list)
    asked: int = 0
    """The number of the last request to the registry before the scenario."""
    _stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def open(cls, api: ApiServer, stack: ExitStack, log: Path) -> Self:
        """Set it up; `stack` takes it down."""
        standin = stack.enter_context(StandIn())
        spaces = [api.make_namespace(), api.make_namespace()]
        for each in spaces:
            stack.callback(api.call, "DELETE", f"/api/v1/namespaces/{each}")
        bystander, tenant = (
            World(cast(Any, None), api, each, standin, Path(os.environ["KUBECONFIG"])) for each in spaces
        )
        settings = {
            "allowedRegistries": [standin.url, *(f"http://127.0.0.{n}:18090" for n in range(2, 10))],
            "servingImage": "docker.io/library/nothing-runs-here:v1",
            "pullerImage": "docker.io/library/nothing-runs-here:v1",
        }
        arena = cls(api, standin, bystander, tenant, OperatorProcess(tuple(spaces), settings, log))
        bystander.add_node()
        stack.callback(bystander.remove_node)
        kubelet = threading.Thread(target=arena._kubelet, daemon=True)
        kubelet.start()
        stack.callback(kubelet.join, 10)
        stack.callback(arena._stop.set)
        for world in (bystander, tenant):
            api.call("POST", kinds.SECRET.path(world.namespace), world.secret())
            world.point(world.log())
        stack.callback(arena.operator.end)
        arena.operator.start()
        api.call("POST", kinds.MODEL_DEPLOYMENT.path(bystander.namespace), bystander.model_deployment())
        arena.until_serving()
        return arena

    # --- the tenant ---

    def create(self, kind: Kind, body: Object, *, namespace: str | None = None) -> Object:
        """Create an object; it is deleted after the scenario."""
        space = namespace or self.tenant.namespace
        metadata = {"namespace": space, **body["metadata"]}
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **body, "metadata": metadata}
        made = self.api.call("POST", kind.path(space), whole)
        self.made.append(kind.path(space, name_of(made)))
        return cast(Object, made)

    def create_text(self, kind: Kind, metadata: Object, rest: str, *, namespace: str) -> None:
        """Create an object of which `rest` is sent as it is: no writer of JSON would write it."""
        head = json.dumps({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata})
        self.api.send_text("POST", kind.path(namespace), f"{head[:-1]},{rest}}}")
        self.made.append(kind.path(namespace, metadata["name"]))

    def deploy(self, name: str, **spec: Any) -> Object:
        """Create a ModelDeployment of the tenant."""
        body = self.tenant.model_deployment(**spec)
        return self.create(kinds.MODEL_DEPLOYMENT, {**body, "metadata": {"name": name}})

    def pod(self, name: str, *, of: str, revision: str, status: Object) -> None:
        """Create a pod beside the bystander's, with a status as a kubelet might write it. It runs nowhere."""
        space = self.bystander.namespace
        container = {"name": "vllm", "image": "docker.io/library/nothing-runs-here:v1"}
        spec = {"containers": [container], "nodeSelector": {"modelsync.test/nowhere": "x"}}
        metadata = {"name": name, "labels": names.labels(of, revision)}
        self.create(kinds.POD, {"metadata": metadata, "spec": spec}, namespace=space)
        self.api.call("PATCH", kinds.POD.path(space, name, "status"), {"status": status}, content_type=MERGE)

    def serving_pod(self, name: str, *, of: str, revision: str, body: str) -> None:
        """Create a pod beside the bystander's that really runs; it answers every request with `body`, Python code."""
        code = Path(servers.__file__).read_text(encoding="utf-8")
        code += f'\nwith server("0.0.0.0", {names.PORT}, {body}):\n    threading.Event().wait()\n'
        container = {"name": "vllm", "image": IMAGE, "imagePullPolicy": "Never", "command": ["python", "-c", code]}
        spec = {
            "containers": [container],
            "nodeSelector": {"kubernetes.io/os": "linux"},  # the node with a kubelet
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
        }
        metadata = {"name": name, "labels": names.labels(of, revision)}
        self.create(kinds.POD, {"metadata": metadata, "spec": spec}, namespace=self.bystander.namespace)

    def until_running(self, pods: Iterable[str]) -> None:
        """Wait until these pods run."""

        def runs(name: str) -> bool:
            pod = self.api.call("GET", kinds.POD.path(self.bystander.namespace, name))
            return bool(pod["status"].get("phase") == "Running" and pod["status"].get("podIP"))

        for each in pods:
            wait_for(f"pod {each} to run", partial(runs, each))

    def until_decided(self, name: str) -> None:
        """Wait until the operator knows what to do with a ModelDeployment of the tenant."""
        path = kinds.MODEL_DEPLOYMENT.path(self.tenant.namespace, name)

        def decided() -> bool:
            status = self.api.call("GET", path).get("status") or {}
            return bool(status.get("target")) or status.get("phase") not in (None, "Pending", "Resolving")

        wait_for(f"{name} to be decided", decided, seconds=90)

    def until_downloads(self) -> None:
        """Wait until the operator has asked for a file of an artifact of the tenant, which only adapters' are."""
        admin = self.standin.admin
        wait_for("the operator to read an artifact", lambda: admin.requests(since=self.asked, operation="download"))

    def revision(self) -> str:
        """The bystander's revision that serves."""
        promoted: list[str] = self._status()["promoted"]
        return promoted[-1]

    def restart(self) -> None:
        """Replace the operator by a new process, as the kubelet does: it reads everything anew."""
        self.operator.end()
        self.operator.start()
        self.operator.ask("reset")

    def tidy(self) -> None:
        """Delete what the tenant made."""
        for path in reversed(self.made):
            with suppress(RefusedError):
                self.api.call("DELETE", path, {"gracePeriodSeconds": 0})
        self.made.clear()

    # --- the hold ---

    def begin(self) -> None:
        """Measure from now on, with an operator that runs and a bystander that serves."""
        self.operator.start()
        self.until_serving()
        self.asked = self.standin.admin.last_request()
        self.operator.ask("reset")

    def hold(self) -> Held:
        """Set the hold and wait until it is seen and the bystander's route is safe."""
        began = time.monotonic()
        self.bystander.admin.add_tag(f"{self.bystander.path}:v0", TAG)
        seen = safe = None
        while (safe is None or seen is None) and self.operator.alive and time.monotonic() < began + TOOK_TOO_LONG:
            if seen is None and self._status().get("holds"):
                seen = time.monotonic() - began
            if safe is None and self._is_blocked():
                safe = time.monotonic() - began
            time.sleep(0.02)  # between two looks at states whose times are what is measured
        return Held(seen, safe)

    def peaks(self, held: Held) -> Measured:
        """What the operator has needed since the scenario began."""
        try:
            peaks = self.operator.ask("measure")
        except (BrokenPipeError, AssertionError):
            return Measured(held.seen, held.safe, 0, 0.0, died=True)
        return Measured(held.seen, held.safe, int(peaks["peak"]), float(peaks["lag"]), unhealthy=probe(HEALTH_PORT))

    def lift(self) -> None:
        """Take the mark away and wait until the bystander serves again."""
        self.operator.start()
        self.bystander.admin.remove_tag(f"{self.bystander.path}:v0", TAG)
        self.until_serving()

    def until_serving(self) -> None:
        """Wait until all traffic goes to v0."""
        try:
            wait_for("the bystander to serve", self._serves, seconds=60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self._status()}") from None

    def _serves(self) -> bool:
        status = self._status()
        return status.get("phase") == "Healthy" and not status.get("holds") and not self._is_blocked()

    def _status(self) -> Object:
        found = self.api.call("GET", kinds.MODEL_DEPLOYMENT.path(self.bystander.namespace, "chat"))
        return cast(Object, found.get("status") or {})

    def _is_blocked(self) -> bool:
        try:
            route = self.api.call("GET", kinds.HTTP_ROUTE.path(self.bystander.namespace, "chat"))
        except RefusedError:
            return True
        backends = [backend for rule in route["spec"]["rules"] for backend in rule["backendRefs"]]
        return all(backend["name"] == "chat-blocked" for backend in backends if backend.get("weight", 1))

    # --- the kubelet ---

    def _kubelet(self) -> None:
        """Pods of the bystander's node become ready, and end when they are asked to."""
        beat, number = 0.0, 0
        space = self.bystander.namespace
        while not self._stop.wait(0.05):
            with suppress(RefusedError):
                if time.monotonic() > beat + 10:
                    path = f"/api/v1/nodes/node-of-{space}/status"
                    self.api.call("PATCH", path, {"status": node_status()}, content_type=MERGE)
                    beat = time.monotonic()
                for pod in self.api.call("GET", kinds.POD.path(space))["items"]:
                    path = kinds.POD.path(space, name_of(pod))
                    if pod["metadata"].get("deletionTimestamp"):
                        self.api.call("DELETE", path, {"gracePeriodSeconds": 0})
                    elif NODE_LABEL in (pod["spec"].get("nodeSelector") or {}) and not is_ready(pod):
                        number += 1
                        self.api.call("PATCH", f"{path}/status", {"status": _ready(number)}, content_type=MERGE)


def probe(port: int) -> str:
    """What the liveness probe answers; empty when all is well."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError as error:
        return str(error)
    return ""


def _ready(number: int) -> Object:
    address = f"10.98.{number // 250}.{number % 250 + 1}"
    types = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": now()} for kind in types]
    return {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}


def repeat(what: Callable[[], object], stop: threading.Event, count: int = 4) -> Iterable[threading.Thread]:
    """Run `what` over and over in `count` threads until `stop` is set, whatever becomes of it."""

    def run() -> None:
        while not stop.is_set():
            with suppress(OSError):
                what()

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads
