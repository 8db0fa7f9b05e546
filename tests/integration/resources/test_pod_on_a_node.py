"""The rendered pod on a real node, under Pod Security `restricted`: it pulls, verifies, loads, answers and drains."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from apiserver import ApiServer, wait_for
from localcluster import Cluster
from localcluster.images import modelsync_image, vllm_standin_image
from modelsync.api import names
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.resources.children import deployment, revision_service
from modelsync.resources.objects import Object, Owner
from modelsync.resources.record import Record, record
from modelsync.resources.revision import Artifact, inputs_of
from vllm_standin.artifact import make_model
from wandb_standin import StandIn

TAG = "resources-tests"


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    found = Cluster.current()
    found.up()  # applies to pods that are not scheduled yet
    found.load_images(modelsync_image(TAG), vllm_standin_image())
    return found


@pytest.fixture(scope="module")
def registry(cluster: Cluster) -> Iterator[StandIn]:
    with StandIn(host=cluster.node_address) as standin:
        yield standin


@pytest.fixture(scope="module")
def on_the_node(api: ApiServer, namespace: str, cluster: Cluster, registry: StandIn) -> Record:
    """A revision of a small model with its record, Deployment and Service applied."""
    # A stream of two seconds, so that a pod can be stopped during it.
    files = make_model(None, name="chat", version_text="seven", faults={"token_seconds": 0.05, "tokens": 40})
    logged = registry.admin.log_artifact("acme", "models", "chat $(HOME)", files)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "wandb", "namespace": namespace},
        "stringData": {"WANDB_API_KEY": registry.api_key},
    }
    api.call("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    spec = {
        "modelRef": "acme/models/chat:latest",
        "registry": {"baseURL": registry.url, "auth": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}}},
        "serving": {
            "image": "docker.io/library/vllm-standin:v0.32.0",
            "args": ["--max-model-len=4096"],
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
            "sharedMemory": "16Mi",
            "shutdownTimeout": "20s",
        },
    }
    owner = Owner.of(api.create_owner(namespace, "node", spec))
    parsed = ModelDeploymentSpec.model_validate(spec)
    entity, project, rest = logged.path.split("/")
    artifact = Artifact(
        entity=entity,
        project=project,
        collection=rest.rpartition(":")[0],
        version=logged.version,
        artifact_id=logged.artifact_id,
        digest=logged.digest,
        size=logged.size,
    )
    settings = OperatorSettings(puller_image=f"docker.io/library/modelsync:{TAG}")
    inputs = inputs_of(owner.name, parsed, artifact, settings, [])
    written = record(owner, inputs, artifact, parsed, settings, fuse_sha256="5f" * 32)
    found = Record.parse(apply(api, written, "/apis/apps/v1", "controllerrevisions"))
    apply(api, revision_service(owner, found.revision), "/api/v1", "services")
    apply(api, deployment(found, 1), "/apis/apps/v1", "deployments")
    return found


def apply(api: ApiServer, obj: Object, group: str, plural: str) -> Any:
    metadata = obj["metadata"]
    return api.apply(f"{group}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}", obj)


@pytest.fixture
def ready_pod(api: ApiServer, on_the_node: Record) -> Any:
    """A ready pod of the revision."""
    namespace, revision = on_the_node.owner.namespace, on_the_node.revision

    def ready() -> Any:
        query = {"labelSelector": f"{names.NAME_LABEL}=node,{names.REVISION_LABEL}={revision}"}
        for pod in api.call("GET", f"/api/v1/namespaces/{namespace}/pods", query=query)["items"]:
            conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
            if conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
                return pod
        return None

    return wait_for("a ready pod", ready, seconds=180)


def ask(pod: Any, path: str, body: dict[str, Any] | None = None) -> tuple[http.client.HTTPResponse, str]:
    with closing(http.client.HTTPConnection(pod["status"]["podIP"], names.PORT, timeout=30)) as connection:
        payload = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, payload, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer, answer.read().decode()


def test_the_puller_reports_what_it_verified(ready_pod: Any, on_the_node: Record) -> None:
    (pull,) = ready_pod["status"]["initContainerStatuses"]
    result = json.loads(pull["state"]["terminated"]["message"])
    assert (result["outcome"], result["digest"]) == ("Pulled", on_the_node.artifact.digest)
    assert result["bytes"] == on_the_node.artifact.size


def test_each_answer_names_its_revision(ready_pod: Any, on_the_node: Record) -> None:
    answer, text = ask(ready_pod, "/v1/completions", {"model": "node", "prompt": "Hello", "max_tokens": 2})
    assert answer.status == 200
    assert json.loads(text)["model"] == f"node@{on_the_node.revision}"
    assert answer.getheader("x-model-revision") == on_the_node.revision
    assert answer.getheader("x-model-digest") == on_the_node.artifact.digest
    # Kubernetes does not expand this name.
    assert "HOME" in (answer.getheader("x-model-version") or "")


def test_the_revision_can_be_asked_for_by_its_own_name(ready_pod: Any, on_the_node: Record) -> None:
    body = {"model": f"node@{on_the_node.revision}", "prompt": "Hello", "max_tokens": 1}
    assert ask(ready_pod, "/v1/completions", body)[0].status == 200


def test_a_stream_is_completed_when_its_pod_is_stopped(api: ApiServer, ready_pod: Any, on_the_node: Record) -> None:
    chunks: list[str] = []
    begun, ended = threading.Event(), threading.Event()

    def stream() -> None:
        with closing(http.client.HTTPConnection(ready_pod["status"]["podIP"], names.PORT, timeout=60)) as connection:
            body = {"model": "node", "prompt": "Hello", "max_tokens": 40, "stream": True}
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            for line in connection.getresponse():
                chunks.append(line.decode())
                begun.set()
        ended.set()

    threading.Thread(target=stream, daemon=True).start()
    assert begun.wait(30)
    path = f"/api/v1/namespaces/{on_the_node.owner.namespace}/pods/{ready_pod['metadata']['name']}"
    api.call("DELETE", path)
    # It continues to answer while the data plane has not removed it.
    assert ask(ready_pod, "/v1/models")[0].status == 200
    assert ended.wait(60)
    assert [chunk for chunk in chunks if chunk.strip()][-1].strip() == "data: [DONE]"
    assert '"finish_reason":"abort"' not in "".join(chunks).replace(" ", "")
    wait_for("the pod to be gone", lambda: not api.exists(path), seconds=60)
