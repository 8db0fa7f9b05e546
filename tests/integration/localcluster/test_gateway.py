"""Traefik serves the Gateway `models`: it applies weights, and changes of them affect every request."""

import subprocess
import sys
from collections import Counter
from typing import Any

from integration.localcluster.workspace import Workspace, server, service, wait_for
from localcluster import Cluster

ASK = (
    "import sys, urllib.request\n"
    "for _ in range(int(sys.argv[3])):\n"
    "    request = urllib.request.Request(sys.argv[1], headers={'Host': sys.argv[2]})\n"
    "    try:\n"
    "        print(urllib.request.urlopen(request, timeout=5).read().decode())\n"
    "    except Exception as problem:\n"
    "        print(type(problem).__name__)\n"
)


def route(host: str, weights: dict[str, int]) -> dict[str, Any]:
    backends = [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "route"},
        "spec": {
            "parentRefs": [{"name": "models", "namespace": "gateways", "sectionName": "web"}],
            "hostnames": [host],
            "rules": [{"backendRefs": backends}],
        },
    }


def answers(cluster: Cluster, host: str, count: int) -> Counter[str]:
    command = cluster.command([sys.executable, "-c", ASK, cluster.gateway_url, host, str(count)])
    answer = subprocess.run(command, env=cluster.environment(), capture_output=True, text=True, check=True)
    return Counter(answer.stdout.split())


def accepted(workspace: Workspace) -> bool:
    live = workspace.get("httproute", "route")
    generation = live["metadata"]["generation"]
    return any(
        condition["type"] == "Accepted" and condition["status"] == "True"
        for parent in live.get("status", {}).get("parents", [])
        for condition in parent["conditions"]
        if condition["observedGeneration"] == generation
    )


def test_traffic_is_shared_by_the_weights_of_the_route(cluster: Cluster, workspace: Workspace) -> None:
    host = f"{workspace.namespace}.example.com"
    workspace.create(server("old", "old"), service("old"), server("new", "new"), service("new"))
    workspace.create(route(host, {"old": 80, "new": 20}))
    workspace.wait_until_ready("old", "new")
    wait_for("the route to be accepted", lambda: accepted(workspace))
    wait_for("both to answer", lambda: {"old", "new"} <= answers(cluster, host, 20).keys())
    shared = answers(cluster, host, 100)
    assert 75 <= shared["old"] <= 85
    assert shared["old"] + shared["new"] == 100

    workspace.create(route(host, {"old": 100, "new": 0}))
    wait_for("the new one to get nothing", lambda: answers(cluster, host, 10) == {"old": 10})
    assert answers(cluster, host, 100) == {"old": 100}


def test_a_backend_without_pods_is_answered_with_503(cluster: Cluster, workspace: Workspace) -> None:
    host = f"{workspace.namespace}.example.com"
    workspace.create(service("nobody"), route(host, {"nobody": 1}))
    wait_for("the route to be accepted", lambda: accepted(workspace))
    command = cluster.command(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Host: {host}"])

    def code() -> str:
        return subprocess.run([*command, cluster.gateway_url], capture_output=True, text=True, check=False).stdout

    # 404 until Traefik knows the route, 500 until it knows the Service's (empty) EndpointSlice.
    wait_for("Traefik to answer 503", lambda: code() == "503")
    assert {code() for _ in range(10)} == {"503"}
