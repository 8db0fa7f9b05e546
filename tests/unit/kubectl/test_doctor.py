"""`doctor` shows what is wrong and how to fix it; what the user may not read is never reported as failed."""

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelsync.api import names
from modelsync.api.conditions import Condition, ConditionType
from unit.kubectl.conftest import Golden, Shell

ROOT = Path(__file__).resolve().parents[3]
LEASE = "/apis/coordination.k8s.io/v1/namespaces/modelsync-system/leases/modelsync"
SECRET = "/api/v1/namespaces/prod/secrets/wandb"
GATEWAY = "/apis/gateway.networking.k8s.io/v1/namespaces/gateways/gateways/models"
NODES, PODS = "/api/v1/nodes", "/api/v1/pods"


def secret(key: str = "k" * 40, *, labelled: bool = True) -> dict[str, Any]:
    labels = {names.CREDENTIAL_LABEL: "true"} if labelled else {}
    data = {"WANDB_API_KEY": base64.b64encode(key.encode()).decode()}
    return {"metadata": {"name": "wandb", "labels": labels}, "data": data}


def node(name: str, gpus: int, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}}}


def pod(on: str, gpus: int, phase: str = "Running") -> dict[str, Any]:
    container = {"resources": {"requests": {"nvidia.com/gpu": str(gpus)}}}
    return {"spec": {"nodeName": on, "containers": [container]}, "status": {"phase": phase}}


@pytest.fixture
def healthy(in_canary: Shell) -> Shell:
    """Nothing is missing; two pods with two GPUs each serve, and a canary with one pod is being rolled out."""
    cluster = in_canary.cluster
    raw = cluster.model_deployment()
    raw["spec"] |= {
        "registry": {
            "baseURL": "https://wandb.example.com",
            "auth": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}},
        },
        "serving": {"resources": {"limits": {"nvidia.com/gpu": 2}}},
        "traffic": {"gateway": {"parentRefs": [{"name": "models", "namespace": "gateways"}]}},
    }
    cluster.instead = raw
    renewed = (in_canary.world.now - timedelta(seconds=2)).isoformat()
    cluster.others |= {
        LEASE: {
            "metadata": {"name": "modelsync", "namespace": "modelsync-system"},
            "spec": {"holderIdentity": "modelsync-7d4f-x2x9z", "renewTime": renewed},
        },
        SECRET: secret(),
        GATEWAY: {"status": {"conditions": [{"type": "Programmed", "status": "True"}]}},
        NODES: {"items": [node("a", 8), node("b", 4)]},
        PODS: {"items": [pod("a", 2), pod("a", 2), pod("b", 2), pod("b", 4, "Succeeded")]},
    }
    return in_canary


def finding(shell: Shell, check: str, *, code: int = 3) -> dict[str, Any]:
    """The worst finding of a check."""
    found = json.loads(shell("doctor -o json", code=code))
    worst = ["failed", "warning", "unknown", "ok"]
    return min((each for each in found if each["check"] == check), key=lambda each: worst.index(each["verdict"]))


def test_a_healthy_cluster_passes_every_check(healthy: Shell, golden: Golden) -> None:
    golden("doctor", healthy("doctor chat"))


def test_failures_are_shown_with_their_fixes(healthy: Shell, golden: Golden) -> None:
    healthy.cluster.others[SECRET] = secret(labelled=False)
    healthy.cluster.denied |= {"me promote modeldeployments", "me promote-full modeldeployments"}
    healthy.cluster.denied.add("system:serviceaccount:modelsync-system:modelsync patch httproutes")
    healthy.cluster.others[GATEWAY]["status"]["conditions"][0] |= {"status": "False", "message": "no address"}
    healthy.cluster.others[LEASE]["spec"]["holderIdentity"] = ""
    golden("doctor-wrong", healthy("doctor", code=3))


def test_what_the_user_may_not_read_is_unknown_and_not_failed(healthy: Shell, golden: Golden) -> None:
    healthy.cluster.refused |= {"secrets", "nodes", "gateways", "httproutes", "leases", "subjectaccessreviews"}
    golden("doctor-few-rights", healthy("doctor"))


def test_without_a_registry_in_the_spec_the_key_is_that_of_the_default_which_the_status_names(healthy: Shell) -> None:
    raw = healthy.cluster.model_deployment()
    del raw["spec"]["registry"]
    raw["status"]["registry"] = {
        "baseURL": "https://wandb.example.com",
        "secretName": "wandb",
        "secretKey": "WANDB_API_KEY",
    }
    assert "Secret prod/wandb is labelled" in finding(healthy, "chat: key", code=0)["says"]
    healthy.cluster.others[SECRET] = secret(labelled=False)
    assert "Secret prod/wandb lacks the label" in finding(healthy, "chat: key")["says"]
    del raw["status"]["registry"]
    found = finding(healthy, "chat: key", code=0)
    assert found["verdict"] == "unknown"
    assert "status.registry names the Secret" in found["fix"]


def test_without_the_crd_nothing_else_of_ours_is_looked_at(healthy: Shell) -> None:
    healthy.cluster.unknown.add(names.PLURAL)
    found = finding(healthy, "CRD")
    assert found["verdict"] == "failed"
    assert "helm install" in found["fix"]
    assert not [line for line in healthy("doctor", code=3).splitlines() if "chat:" in line]


def test_an_operator_in_another_namespace_is_found(healthy: Shell) -> None:
    lease = healthy.cluster.others.pop(LEASE)
    assert "no operator has ever run" in finding(healthy, "operator")["says"]
    lease["metadata"]["namespace"] = "platform"
    healthy.cluster.others["/apis/coordination.k8s.io/v1/leases"] = {"items": [lease]}
    assert finding(healthy, "operator", code=0)["verdict"] == "ok"
    assert "system:serviceaccount:platform:modelsync has" in finding(healthy, "operator's rights", code=0)["says"]


def test_an_operator_of_some_namespaces_is_found_by_its_own_lease(healthy: Shell) -> None:
    lease = healthy.cluster.others.pop(LEASE)
    stale = {
        "metadata": {**lease["metadata"], "name": "modelsync-0123456789"},
        "spec": {"renewTime": "2020-01-01T00:00:00Z"},
    }
    other = {"metadata": {**lease["metadata"], "name": "modelsync-webhook"}, "spec": {"renewTime": "9999"}}
    lease["metadata"]["name"] = "modelsync-9b0c12911c"
    healthy.cluster.others[LEASE.rpartition("/")[0]] = {"items": [stale, lease, other]}
    assert finding(healthy, "operator", code=0)["says"].startswith("modelsync-7d4f-x2x9z is the leader")


def test_a_killed_leader_does_not_count_as_running(healthy: Shell) -> None:
    old = (healthy.world.now - timedelta(minutes=5)).isoformat()
    healthy.cluster.others[LEASE]["spec"]["renewTime"] = old
    assert "no operator is the leader (last renewed 5m ago)" in finding(healthy, "operator")["says"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "Secret prod/wandb does not exist"),
        ({"metadata": {}, "data": {}}, "lacks the label"),
        ({**secret(), "data": {"other": ""}}, "has no key 'WANDB_API_KEY'"),
        ({**secret(), "data": {"WANDB_API_KEY": "///"}}, "is not text"),
        (secret("short"), "must have 40 characters or more"),
    ],
    ids=["missing", "unlabelled", "another key", "no text", "cut off"],
)
def test_an_unusable_key_is_reported(healthy: Shell, content: dict[str, Any] | None, says: str) -> None:
    healthy.cluster.others.pop(SECRET)
    if content is not None:
        healthy.cluster.others[SECRET] = content
    found = finding(healthy, "chat: key")
    assert (found["verdict"], says in found["says"]) == ("failed", True)
    assert found["fix"]


def test_a_registry_refusal_is_reported_with_the_operators_message(healthy: Shell) -> None:
    status = healthy.cluster.model_deployment()["status"]
    refused = Condition(
        type=ConditionType.MODEL_RESOLVED,
        status="Unknown",
        reason="Denied",
        message="https://wandb.example.com answered 401",
        last_transition_time=healthy.world.now,
    )
    status["conditions"] = [c for c in status["conditions"] if c["type"] != "ModelResolved"] + [refused.wire()]
    found = finding(healthy, "chat: registry")
    assert found["says"] == "Denied: https://wandb.example.com answered 401"
    assert "put a new key into the same Secret" in found["fix"]


def test_gpus_are_counted_by_node_and_without_pods_that_have_ended(healthy: Shell) -> None:
    assert finding(healthy, "chat: GPUs", code=0)["says"].startswith("room for 3 more pods with nvidia.com/gpu 2;")


def test_too_few_gpus_for_the_next_rollout_are_a_warning(healthy: Shell) -> None:
    del healthy.cluster.model_deployment()["status"]["canary"]
    healthy.cluster.others[NODES] = {"items": [node("a", 7), node("b", 1)]}
    healthy.cluster.others[PODS] = {"items": [pod("a", 4)]}
    found = finding(healthy, "chat: GPUs", code=0)
    assert found["verdict"] == "warning"
    assert "room for 1 more pods with nvidia.com/gpu 2; the next rollout needs 2" in found["says"]


def test_no_node_with_gpus_where_the_pods_may_run_is_an_error(healthy: Shell) -> None:
    serving = healthy.cluster.model_deployment()["spec"]["serving"]
    serving["scheduling"] = {"nodeSelector": {"pool": "gpu"}}
    assert "no node on which the pods may run has nvidia.com/gpu" in finding(healthy, "chat: GPUs")["says"]


def test_a_spec_that_the_operator_has_not_seen_points_to_the_operator(healthy: Shell) -> None:
    healthy.cluster.model_deployment()["metadata"]["generation"] += 1
    found = finding(healthy, "chat: operator")
    assert "watchNamespaces" in found["fix"]


def test_a_lease_that_another_operator_has_left_does_not_hide_the_one_that_leads(healthy: Shell) -> None:
    fresh = healthy.cluster.others[LEASE]
    spec = {"holderIdentity": "gone", "renewTime": (healthy.world.now - timedelta(minutes=5)).isoformat()}
    healthy.cluster.others[LEASE] = {"metadata": fresh["metadata"], "spec": spec}
    moved = {"metadata": {**fresh["metadata"], "namespace": "platform"}, "spec": fresh["spec"]}
    healthy.cluster.others["/apis/coordination.k8s.io/v1/leases"] = {"items": [moved]}
    assert finding(healthy, "operator", code=0)["says"].startswith("modelsync-7d4f-x2x9z is the leader")
    assert "platform" in finding(healthy, "operator's rights", code=0)["says"]


def test_the_operators_account_is_the_one_that_the_charts_deployment_names(healthy: Shell) -> None:
    documents = yaml.safe_load_all((ROOT / "deploy" / "install.yaml").read_text(encoding="utf-8"))
    (deployment,) = (each for each in documents if each["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["serviceAccountName"] = "sync-modelsync"
    path = "/apis/apps/v1/namespaces/modelsync-system/deployments"
    healthy.cluster.others[path] = {"items": [deployment]}
    found = finding(healthy, "operator's rights", code=0)["says"]
    assert found.startswith("system:serviceaccount:modelsync-system:sync-modelsync has ")
