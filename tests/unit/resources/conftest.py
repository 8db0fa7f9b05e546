"""A ModelDeployment, and the registry's answers for it."""

from collections.abc import Callable
from hashlib import md5
from typing import Any

import pytest

from modelsync.api.model_ref import ModelRef
from modelsync.api.parts import MODEL
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.resources.objects import Object, Owner
from modelsync.resources.record import Record, record
from modelsync.resources.revision import Artifact, inputs_of

FUSE = "5f" * 32


def pinned(ref: str) -> Artifact:
    """The artifact of a reference other than the model's: version v2, with a digest derived from the reference."""
    parsed = ModelRef.parse(ref)
    return Artifact(
        entity=parsed.entity,
        project=parsed.project,
        collection=parsed.collection,
        version="v2",
        artifact_id=f"id of {ref}",
        digest=md5(ref.encode(), usedforsecurity=False).hexdigest(),
        size=100,
    )


@pytest.fixture
def owner() -> Owner:
    return Owner(name="chat", namespace="prod", uid="8c2c1a52-0000-4000-8000-000000000001")


@pytest.fixture
def artifact() -> Artifact:
    return Artifact(
        entity="acme",
        project="wandb-registry-model",
        collection="chat llm",
        version="v7",
        artifact_id="QXJ0aWZhY3Q6MQ==",
        digest="d41d8cd98f00b204e9800998ecf8427e",
        size=1234,
    )


@pytest.fixture
def make_spec() -> Callable[..., ModelDeploymentSpec]:
    def make(**sections: Any) -> ModelDeploymentSpec:
        spec: dict[str, Any] = {
            "modelRef": "acme/wandb-registry-model/chat llm:production",
            "registry": {
                "baseURL": "https://wandb.example.com/",
                "auth": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}},
            },
        }
        return ModelDeploymentSpec.model_validate(spec | sections)

    return make


@pytest.fixture
def make_record(
    owner: Owner, artifact: Artifact, make_spec: Callable[..., ModelDeploymentSpec]
) -> Callable[..., Object]:
    """The ControllerRevision for a spec with these sections."""

    def make(settings: OperatorSettings | None = None, **sections: Any) -> Object:
        spec, settings = make_spec(**sections), settings or OperatorSettings(puller_image="modelsync:1")
        others = {key: pinned(ref) for key, ref in spec.references.items() if key != MODEL}
        inputs = inputs_of(owner.name, spec, artifact, settings, [], others=others)
        return record(owner, inputs, artifact, spec, settings, fuse_sha256=FUSE, others=others, lora_rank=32)

    return make


@pytest.fixture
def make_pod(make_record: Callable[..., Object]) -> Callable[..., Object]:
    """`spec.template` of the Deployment for a spec with these sections."""

    def make(**sections: Any) -> Object:
        template: Object = Record.parse(make_record(**sections)).template["spec"]["template"]
        return template

    return make
