"""The command line that the operator gives a pod, for a vLLM that is started outside a pod."""

from collections.abc import Sequence
from pathlib import Path

from modelsync.api import names
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.resources.objects import Owner
from modelsync.resources.record import Record, record
from modelsync.resources.revision import Artifact, inputs_of


def revision_record(shutdown_timeout: str = "20s", image: str = "vllm/vllm-openai:v0.32.0") -> Record:
    """A revision as the operator creates it."""
    artifact = Artifact(
        entity="acme",
        project="wandb-registry-model",
        collection="chat llm",
        version="v7",
        artifact_id="QXJ0aWZhY3Q6MQ==",
        digest="d41d8cd98f00b204e9800998ecf8427e",
        size=1234,
    )
    registry = {"baseURL": "https://wandb.example.com", "auth": {"secretKeyRef": {"name": "wandb", "key": "KEY"}}}
    spec = ModelDeploymentSpec.model_validate(
        {
            "modelRef": "acme/wandb-registry-model/chat llm:production",
            "registry": registry,
            "serving": {"image": image, "shutdownTimeout": shutdown_timeout},
        }
    )
    owner = Owner(name="chat", namespace="prod", uid="8c2c1a52-0000-4000-8000-000000000001")
    settings = OperatorSettings(puller_image="modelsync:1")
    inputs = inputs_of(owner.name, spec, artifact, settings, [])
    return Record.parse(record(owner, inputs, artifact, spec, settings, fuse_sha256="5f" * 32))


def pods_arguments(made: Record, folder: Path | str, port: int = names.PORT) -> Sequence[str]:
    """The command line that the operator gives a pod of this revision, on another folder, address and port."""
    [container] = made.template["spec"]["template"]["spec"]["containers"]
    _, verb, _ = container["command"]
    changed = {"--host=0.0.0.0": "--host=127.0.0.1", f"--port={names.PORT}": f"--port={port}"}
    return [verb, str(folder), *(changed.get(argument, argument) for argument in container["args"])]
