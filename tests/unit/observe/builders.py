"""Objects for the tests in this folder, as the API server returns them."""

import itertools
from typing import Any

from modelsync.api.kinds import Key
from modelsync.api.routing import Routing
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.observe.family import Family
from modelsync.resources.children import blocked_service, deployment, plain_service, revision_service
from modelsync.resources.objects import Owner
from modelsync.resources.record import Record, record
from modelsync.resources.revision import Artifact, inputs_of
from modelsync.resources.route import http_route

SETTINGS = OperatorSettings(allowed_registries=("https://wandb.example.com",))
OWNER = Owner("chat", "prod", "uid-chat")
KEY = Key("prod", "chat")
REF = "acme/wandb-registry-model/chat llm:production"

_versions = itertools.count(100)


def spec(**parts: Any) -> dict[str, Any]:
    """A spec with a gateway."""
    parent = {"name": "models", "namespace": "gateways"}
    return {
        "modelRef": REF,
        "replicas": 2,
        "registry": {
            "baseURL": "https://wandb.example.com",
            "auth": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}},
        },
        "traffic": {"gateway": {"parentRefs": [parent], "hostnames": ["chat.example.com"]}},
        **parts,
    }


def live(obj: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """`obj` with the fields that the API server adds."""
    version = next(_versions)
    given = {"uid": f"uid-{obj['kind']}-{obj['metadata']['name']}", "resourceVersion": str(version), "generation": 1}
    return {**obj, "metadata": {"creationTimestamp": "2026-11-21T08:00:00Z", **given, **obj["metadata"], **metadata}}


def model_deployment(name: str = "chat", namespace: str = "prod", **parts: Any) -> dict[str, Any]:
    """A live ModelDeployment."""
    body: dict[str, Any] = {
        "apiVersion": "modelsync.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": parts.pop("spec", spec()),
    }
    if status := parts.pop("status", None):
        body["status"] = status
    return live(body, uid=parts.pop("uid", f"uid-{name}"), **parts)


def artifact(version: str = "v7", digest: str = "0123456789abcdef") -> Artifact:
    """A resolved version."""
    return Artifact(
        entity="acme",
        project="wandb-registry-model",
        collection="chat llm",
        version=version,
        artifact_id=f"id-{version}",
        digest=digest,
        size=1000,
    )


def a_record(version: str = "v7", digest: str = "0123456789abcdef") -> tuple[Record, dict[str, Any]]:
    """A record and its live ControllerRevision."""
    wanted = ModelDeploymentSpec.model_validate(spec())
    inputs = inputs_of(OWNER.name, wanted, artifact(version, digest), SETTINGS, [])
    body = live(record(OWNER, inputs, artifact(version, digest), wanted, SETTINGS, fuse_sha256="ab" * 32))
    return Record.parse(body), body


def family(
    *records: tuple[Record, dict[str, Any]], weights: Any = (), plain: str | None = None, **parts: Any
) -> Family:
    """A ModelDeployment with deployed revisions, a route with `weights` and a plain Service."""
    owner = parts.pop("owner", None) or model_deployment(status=parts.pop("status", None))
    deployments, services = {}, {}
    for each, _ in records:
        name = f"chat-{each.revision}"
        deployments[name] = live(deployment(each, 2))
        services[name] = live(revision_service(OWNER, each.revision))
    services["chat-blocked"] = live(blocked_service(OWNER))
    if plain is not None:
        services["chat"] = live(plain_service(OWNER, plain))
    traffic = ModelDeploymentSpec.model_validate(spec()).traffic
    route = live(http_route(OWNER, traffic, Routing(weights))) if weights else None
    return Family(
        key=KEY,
        owner=owner,
        records={body["metadata"]["name"]: body for _, body in records},
        deployments=deployments,
        services=services,
        route=route,
        **parts,
    )
