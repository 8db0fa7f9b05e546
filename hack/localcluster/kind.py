"""A `kind` cluster, for machines where Docker works, with the same gateway as the local cluster.

Uses the user's own docker, kind and kubectl; missing programs are reported, never installed.
"""

import json
import shutil
import subprocess

from localcluster import settings
from localcluster.errors import ClusterError
from localcluster.paths import repository
from localcluster.progress import Progress
from localcluster.tools import GATEWAY_API_VERSION

_NEEDED = {
    "docker": "https://docs.docker.com/engine/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
}
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
