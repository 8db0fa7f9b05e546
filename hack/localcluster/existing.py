"""Checks an existing cluster and reports what modelsync would lack there; must never change anything."""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from localcluster.debian import which
from localcluster.errors import ClusterError
from localcluster.tools import GATEWAY_API_VERSION, KUBERNETES

_OLDEST_MINOR = 30  # the Gateway API supports the five minor versions before its release: 1.30 to 1.34 for v1.4

Ask = Callable[..., dict[str, Any]]
"""Runs kubectl with the arguments and `-o json`; raises ClusterError."""


@dataclass(frozen=True)
class Finding:
    """The result of one check; `next_step` is what to do if it failed."""

    fine: bool
    what: str
    next_step: str = ""


def check_existing() -> list[Finding]:
    """The findings for the cluster of the current kubeconfig; raises ClusterError if it cannot be reached."""
    return list(findings(_kubectl))


def findings(ask: Ask) -> Iterator[Finding]:
    """The findings; `ask` queries the cluster."""
    version = ask("version")["serverVersion"]
    minor = int("".join(character for character in version["minor"] if character.isdigit()))
    yield Finding(
        (int(version["major"]), minor) >= (1, _OLDEST_MINOR),
        f"Kubernetes {version['gitVersion']}",
        f"modelsync needs Kubernetes 1.{_OLDEST_MINOR} or later: upgrade the cluster",
    )
    ready = [node["metadata"]["name"] for node in ask("get", "nodes")["items"] if _is(node, "Ready")]
    yield Finding(bool(ready), f"{len(ready)} ready nodes", "add a node: `kubectl get nodes` shows why none is ready")
    crds = {crd["metadata"]["name"]: crd for crd in ask("get", "customresourcedefinitions")["items"]}
    httproutes = crds.get("httproutes.gateway.networking.k8s.io", {}).get("spec", {}).get("versions", [])
    served = any(version["name"] == "v1" and version["served"] for version in httproutes)
    yield Finding(
        served,
        "Gateway API CRDs",
        "install them: kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/"
        f"download/{GATEWAY_API_VERSION}/standard-install.yaml",
    )
    if served:
        classes = [item["metadata"]["name"] for item in ask("get", "gatewayclasses")["items"] if _is(item, "Accepted")]
        yield Finding(
            bool(classes),
            f"GatewayClass {', '.join(classes)}" if classes else "no accepted GatewayClass",
            "install a Gateway API implementation, such as Traefik, Envoy Gateway or Istio",
        )
        gateways = ask("get", "gateways", "--all-namespaces")["items"]
        programmed = [_name(item) for item in gateways if _is(item, "Programmed")]
        yield Finding(
            bool(programmed),
            f"Gateway {', '.join(programmed)}" if programmed else "no programmed Gateway",
            "create a Gateway, and allow the namespaces of your ModelDeployments to attach (listeners[].allowedRoutes)",
        )


def _is(item: dict[str, Any], condition: str) -> bool:
    conditions = item.get("status", {}).get("conditions", [])
    return any(found["type"] == condition and found["status"] == "True" for found in conditions)


def _name(item: dict[str, Any]) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def _kubectl(*arguments: str) -> dict[str, Any]:
    built = KUBERNETES.folder() / "kubectl"
    program = str(built) if built.exists() else which("kubectl")
    if program is None:
        raise ClusterError("kubectl is not on PATH: https://kubernetes.io/docs/tasks/tools/")
    command = [program, "--request-timeout=15s", *arguments, "-o", "json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ClusterError(
            f"the cluster of the current kubeconfig does not answer `kubectl {' '.join(arguments)}`: "
            f"{answer.stderr.strip()}; check KUBECONFIG and `kubectl config current-context`"
        )
    found: dict[str, Any] = json.loads(answer.stdout)
    return found
