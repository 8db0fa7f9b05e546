"""Objects and helpers for the tests of the local cluster."""

import json
import time
from collections.abc import Callable
from typing import Any

from localcluster import Cluster

IMAGE = "docker.io/library/modelsync:localcluster-tests"


def wait_for(what: str, probe: Callable[[], Any], *, seconds: float = 60) -> Any:
    """Poll `probe` until it returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < deadline, f"{what}: not after {seconds} s"
        time.sleep(0.1)
    return found


def server(name: str, answer: str) -> dict[str, Any]:
    """A pod that answers every HTTP request on port 8080 with `answer`."""
    program = (
        "import http.server\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        f"        body = {answer!r}.encode()\n"
        "        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()\n"
        "        self.wfile.write(body)\n"
        "http.server.ThreadingHTTPServer(('', 8080), Handler).serve_forever()\n"
    )
    container = {
        "name": "server",
        "image": IMAGE,
        "command": ["python3", "-c", program],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


def service(name: str) -> dict[str, Any]:
    """A Service of port 80 for the pod of the same name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


class Workspace:
    """A test's access to its namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self.namespace = namespace

    def create(self, *objects: dict[str, Any]) -> None:
        self._cluster.apply(*({**o, "metadata": {**o["metadata"], "namespace": self.namespace}} for o in objects))

    def wait_until_ready(self, *pods: str) -> None:
        names = [f"pod/{pod}" for pod in pods]
        self._cluster.kubectl("wait", f"--namespace={self.namespace}", "--for=condition=Ready", "--timeout=90s", *names)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self._cluster.kubectl("get", kind, name, f"--namespace={self.namespace}", "-o", "json")
        )
        return found

    def inside(self, pod: str, *command: str) -> str:
        return self._cluster.kubectl("exec", f"--namespace={self.namespace}", pod, "--", *command)
