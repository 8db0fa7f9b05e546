"""A `kind` cluster, for machines where Docker works, with the same gateway as the local cluster.

Uses the user's own docker, kind and kubectl; missing programs are reported, never installed.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from localcluster import settings
from localcluster.errors import ClusterError
from localcluster.paths import cache_folder, repository
from localcluster.progress import Progress
from localcluster.tools import GATEWAY_API_VERSION

_NEEDED = {
    "docker": "https://docs.docker.com/engine/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
}
_DEMO = "modelsync-demo"
"""A name of its own, so that `make demo-down` never deletes a cluster of `make kind-up`."""
_DOCKER_SECONDS = 2
_GATEWAY_API = (
    f"https://github.com/kubernetes-sigs/gateway-api/releases/download/{GATEWAY_API_VERSION}/standard-install.yaml"
)


def kind_up(name: str, progress: Progress) -> None:
    """Create the kind cluster `name` with Gateway API CRDs, Traefik and Gateway `gateways/models`, unless they exist.

    Raises ClusterError with what is missing, or the command that failed.
    """
    _require_programs()
    manifests = repository() / "hack" / "kind"
    if name not in _run("kind", "get", "clusters").split():
        with progress.step(f"kind cluster {name}"):
            _run("kind", "create", "cluster", "--name", name, f"--config={manifests / 'cluster.yaml'}", "--wait=180s")
    with progress.step(f"Gateway API {GATEWAY_API_VERSION} CRDs"):
        _kubectl(name, "apply", "--server-side", "-f", _GATEWAY_API)
    with progress.step("Traefik and Gateway `models`"):
        _kubectl(name, "apply", "--server-side", "-f", str(manifests / "traefik.yaml"))
        objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": settings.gateway()})
        _kubectl(name, "apply", "--server-side", "-f", "-", input=objects)
        _kubectl(name, "rollout", "status", "deployment/traefik", "--namespace=traefik", "--timeout=180s")
        wait = ("wait", "gateway/models", "--namespace=gateways", "--for=condition=Programmed", "--timeout=60s")
        _kubectl(name, *wait)
    progress.info(f"the gateway answers on http://127.0.0.1:8000; kubectl --context kind-{name} get nodes")


def kind_down(name: str, progress: Progress) -> None:
    """Remove the kind cluster `name`; not an error if it does not exist."""
    _require_programs()
    with progress.step(f"kind cluster {name} down"):
        _run("kind", "delete", "cluster", "--name", name)


@dataclass(frozen=True)
class Choice:
    """Whether the demo runs on a kind cluster, and why."""

    kind: bool
    why: str


def choose(wanted: str) -> Choice:
    """kind where its programs, a Docker engine and the right to add a route are there, else the cluster without Docker.

    `wanted` is `kind` or `own` and decides alone; empty leaves it to what is there. Raises ClusterError for others.
    """
    if wanted:
        if wanted not in ("kind", "own"):
            raise ClusterError(f"CLUSTER_KIND is {wanted!r}; it must be `kind` or `own`")
        return Choice(wanted == "kind", f"CLUSTER_KIND={wanted}")
    if missing := [program for program in (*_NEEDED, "ip") if shutil.which(program) is None]:
        return Choice(False, f"not on PATH: {', '.join(missing)}")
    if not _docker_answers():
        return Choice(False, "no Docker engine answers `docker info`")
    if sys.platform != "linux" or os.geteuid():
        return Choice(False, "a route to kind's pods needs root on Linux")
    return Choice(True, "a Docker engine answers `docker info`")


def demo_up(progress: Progress) -> dict[str, str]:
    """Make the demo's kind cluster and a route to its pods; returns the environment of `EXISTING=1` for it.

    Raises ClusterError as `kind_up` does.
    """
    folder = _demo_folder()
    folder.mkdir(parents=True, exist_ok=True)  # first, so that `demo_down` also removes what came to be by halves
    kind_up(_DEMO, progress)
    node = json.loads(_run("docker", "inspect", f"{_DEMO}-control-plane"))[0]["NetworkSettings"]["Networks"]["kind"]
    pods = _kubectl(_DEMO, "get", "nodes", "-o", "jsonpath={.items[0].spec.podCIDR}").strip()
    route = [pods, "via", node["IPAddress"]]
    if " ".join(route) not in _run("ip", "route", "show"):
        _run("ip", "route", "add", *route)  # never `replace`: a route that somebody else has there stays
        (folder / "route").write_text(" ".join(route))
    (folder / "kubeconfig").write_text(_run("kind", "get", "kubeconfig", "--name", _DEMO))
    return {
        "EXISTING": "1",
        "KUBECONFIG": str(folder / "kubeconfig"),
        "MODELSYNC_NODE_ADDRESS": node["Gateway"],
        "MODELSYNC_GATEWAY_URL": "http://127.0.0.1:8000",
        "MODELSYNC_LOAD_IMAGES": f"kind load image-archive --name {_DEMO}",
    }


def demo_is_there() -> bool:
    """Whether `demo_up` has made something that `demo_down` has not removed."""
    return _demo_folder().exists()


def demo_down(progress: Progress) -> None:
    """Remove what `demo_up` made; nothing is no error."""
    if not demo_is_there():
        return
    route = _demo_folder() / "route"
    if route.exists():  # unless the machine was started again since
        subprocess.run(["ip", "route", "del", *route.read_text().split()], capture_output=True, check=False)
    kind_down(_DEMO, progress)
    shutil.rmtree(_demo_folder())


def _demo_folder() -> Path:
    """Exists while the demo's kind cluster does."""
    return cache_folder() / _DEMO


def _docker_answers() -> bool:
    try:
        answer = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=_DOCKER_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return answer.returncode == 0


def _require_programs() -> None:
    missing = [f"{program} ({url})" for program, url in _NEEDED.items() if shutil.which(program) is None]
    if missing:
        raise ClusterError(f"a kind cluster needs programs that are not on PATH: {', '.join(missing)}")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        raise ClusterError(
            "Docker does not answer (`docker info` fails): start it, or use the cluster without Docker: "
            "`python -m localcluster up` on Linux as root"
        )


def _kubectl(name: str, *arguments: str, input: str | None = None) -> str:
    return _run("kubectl", f"--context=kind-{name}", *arguments, input=input)


def _run(*command: str, input: str | None = None) -> str:
    answer = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed: {(answer.stderr or answer.stdout).strip()}")
    return answer.stdout
