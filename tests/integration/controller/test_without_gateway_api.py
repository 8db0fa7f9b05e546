"""Without the Gateway API's CRDs the operator runs, reports what is missing, and logs no traceback.

The test has its own cluster, a control plane without a node. The operator runs as a process in the cluster's network,
started from the command line, with the permissions that the chart grants.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import Cluster
from modelsync.api.crd import crd
from stage import model_deployment
from stage.manifests import credential, namespace
from stage.servers import operator_account

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 60


@pytest.fixture
def bare() -> Iterator[Cluster]:
    cluster = Cluster(f"no-gateway-{os.getpid()}")
    try:
        cluster.up(control_plane_only=True, gateway_api=False)
        cluster.apply(crd())
        cluster.apply(*operator_account())
        cluster.apply(namespace("prod"))
        yield cluster
    finally:
        cluster.down()


def until(what: str, check: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.2)
    return found


def start_operator(cluster: Cluster, tmp_path: Path) -> Path:
    """Start `modelsync run` with the service account's token; return the path of its log."""
    token = cluster.kubectl("create", "token", "modelsync", "--namespace=modelsync-system").strip()
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    (tmp_path / "settings.yaml").write_text("allowedRegistries: ['http://127.0.0.1:9']")
    command = [sys.executable, "-m", "modelsync", "run", "--kubeconfig", str(tmp_path / "kubeconfig")]
    environment = {**cluster.environment(), "PYTHONPATH": str(ROOT / "operator")}
    log = tmp_path / "operator.log"
    cluster.processes.start(
        "modelsync",
        cluster.command([*command, "--config", str(tmp_path / "settings.yaml")]),
        environment=environment,
        log=log,
    )
    return log


def test_the_missing_crds_are_named_and_the_operator_continues_once_they_are_installed(
    bare: Cluster, tmp_path: Path
) -> None:
    log = start_operator(bare, tmp_path)
    bare.apply(credential("prod"))
    bare.apply(model_deployment("prod", "chat", "acme/models/chat:production", server="http://127.0.0.1:9"))

    def ready() -> dict[str, Any]:
        status = json.loads(bare.kubectl("get", "mdep", "chat", "-n", "prod", "-o", "json")).get("status") or {}
        found = [c for c in status.get("conditions") or () if c["type"] == "Ready"]
        return found[0] if found else {}

    condition = until("the missing kind is reported", lambda: (c := ready()).get("reason") == "GatewayAPIMissing" and c)
    assert condition["status"] == "False"
    assert "spec.traffic.gateway" in condition["message"]
    assert "install the Gateway API's CRDs" in condition["message"]

    bare.install_gateway_api()

    until("it continues with the registry", lambda: ready().get("reason") not in ("GatewayAPIMissing", None))
    operator = bare.processes.get("modelsync")
    assert operator is not None
    assert operator.alive, log.read_text()[-2000:]
    assert "Traceback" not in log.read_text()
