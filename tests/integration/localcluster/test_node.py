"""The node is real: pods run, reach each other by ClusterIP, and must meet their namespace's security level."""

import subprocess
import sys
from typing import Any

import pytest

from integration.localcluster.workspace import Workspace, server, service, wait_for
from localcluster import Cluster, ClusterError

FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
SERVE_ONCE = (
    "import http.server, sys\n"
    "handler = http.server.SimpleHTTPRequestHandler\n"
    "server = http.server.HTTPServer((sys.argv[1], 0), handler)\n"
    "print(server.server_port, flush=True)\n"
    "server.handle_request()\n"
)


def fetch_from(workspace: Workspace, pod: str, url: str) -> str:
    try:
        return workspace.inside(pod, "python3", "-c", FETCH, url).strip()
    except ClusterError:
        return ""


def fetch_from_node(cluster: Cluster, url: str) -> str:
    command = cluster.command([sys.executable, "-c", FETCH, url])
    answer = subprocess.run(command, env=cluster.environment(), capture_output=True, text=True, check=False)
    return answer.stdout.strip()


def test_a_cluster_ip_is_reached_from_pods_and_from_the_node(cluster: Cluster, workspace: Workspace) -> None:
    workspace.create(server("one", "answer of one"), service("one"), server("two", "answer of two"))
    workspace.wait_until_ready("one", "two")
    url = f"http://{workspace.get('service', 'one')['spec']['clusterIP']}/"
    assert wait_for("an answer to a pod", lambda: fetch_from(workspace, "two", url)) == "answer of one"
    assert wait_for("an answer to the node", lambda: fetch_from_node(cluster, url)) == "answer of one"
    assert wait_for("an answer to the pod itself", lambda: fetch_from(workspace, "one", url)) == "answer of one"


def test_a_pod_reaches_what_listens_on_the_nodes_address(cluster: Cluster, workspace: Workspace) -> None:
    workspace.create(server("client", ""))
    workspace.wait_until_ready("client")
    command = cluster.command([sys.executable, "-u", "-c", SERVE_ONCE, cluster.node_address])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as listening:
        assert listening.stdout is not None
        port = listening.stdout.readline().strip()
        try:
            assert fetch_from(workspace, "client", f"http://{cluster.node_address}:{port}/")
        finally:
            listening.kill()


def test_a_pod_reaches_the_apiserver_with_its_service_account(workspace: Workspace) -> None:
    workspace.create(server("client", ""))
    workspace.wait_until_ready("client")
    program = (
        "import os, ssl, urllib.request\n"
        "folder = '/var/run/secrets/kubernetes.io/serviceaccount/'\n"
        "host = os.environ['KUBERNETES_SERVICE_HOST']\n"
        "request = urllib.request.Request(f'https://{host}/api')\n"
        "request.add_header('Authorization', 'Bearer ' + open(folder + 'token').read())\n"
        "context = ssl.create_default_context(cafile=folder + 'ca.crt')\n"
        "print(urllib.request.urlopen(request, context=context, timeout=5).status)\n"
    )
    assert workspace.inside("client", "python3", "-c", program).strip() == "200"


def test_a_pod_runs_as_the_images_user_and_is_root_nowhere(workspace: Workspace) -> None:
    workspace.create(server("client", ""))
    workspace.wait_until_ready("client")
    assert workspace.inside("client", "id", "-u").strip() == "65532"


def restricted(name: str, **container: Any) -> dict[str, Any]:
    pod = server(name, "")
    pod["spec"]["securityContext"] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    pod["spec"]["containers"][0]["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        **container,
    }
    return pod


def test_a_restricted_namespace_refuses_a_root_pod_and_runs_one_that_is_not(
    cluster: Cluster, workspace: Workspace
) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", workspace.namespace, label)
    with pytest.raises(ClusterError, match=r'violates PodSecurity "restricted.*runAsUser=0'):
        workspace.create(restricted("root", runAsUser=0))
    workspace.create(restricted("careful"))
    workspace.wait_until_ready("careful")


def test_a_limit_of_memory_ends_a_pod_that_goes_beyond_it(workspace: Workspace) -> None:
    greedy = server("greedy", "")
    greedy["spec"]["restartPolicy"] = "Never"
    del greedy["spec"]["containers"][0]["readinessProbe"]
    greedy["spec"]["containers"][0] |= {
        "command": ["python3", "-c", "bytearray(256 * 1024 * 1024)"],
        "resources": {"limits": {"memory": "64Mi"}},
    }
    workspace.create(greedy)

    def terminated() -> dict[str, Any] | None:
        statuses = workspace.get("pod", "greedy")["status"].get("containerStatuses", [{}])
        found: dict[str, Any] | None = statuses[0].get("state", {}).get("terminated")
        return found

    assert wait_for("the pod to end", terminated)["reason"] == "OOMKilled"


def test_a_component_may_do_no_more_than_its_role(cluster: Cluster) -> None:
    def may(user: str, *question: str) -> str:
        try:
            return cluster.kubectl("auth", "can-i", f"--as={user}", *question).strip()
        except ClusterError as refused:
            return str(refused).rpartition(":")[2].strip()

    assert may("system:kube-scheduler", "create", "pods", "--subresource=binding") == "yes"
    assert may("traefik", "delete", "pods") == "no"
    assert may("traefik", "get", "httproutes.gateway.networking.k8s.io") == "yes"
