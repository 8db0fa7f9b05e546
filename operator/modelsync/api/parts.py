"""What a revision is made of beside its spec: the model, and the other artifacts that are resolved with it.

Each part has a key, by which its digest is hashed and its record kept, and a place in the spec, by which people are
told of it. Nothing here asks a registry.
"""

from typing import Annotated

from pydantic import Field

from modelsync.api.base import ApiModel, Matches

MODEL = "model"
"""The key of what `spec.modelRef` names."""

BASE = "base"
"""The key of what `spec.serving.baseModelRef` names: the model that a LoRA adapter was trained on."""

_SIDE_ARTIFACT = "artifact/"
_ADAPTER = "adapter/"

_EXAMPLE = "for example acme/wandb-registry-model/chat:production"

ReferenceText = Annotated[
    str,
    Field(min_length=1, max_length=512),
    Matches(
        "^[^:]*:.+$",
        f"names no alias; write entity/project/collection:alias, {_EXAMPLE} (:v12 pins a version)",
    ),
    Matches(
        "^[^:]*$|^[^/:]+/[^/:]+/[^/:]+:[^/:]+$",
        f"must be entity/project/collection:alias, three names with / between them and one alias, {_EXAMPLE}",
    ),
]
"""A reference as a spec holds it. The schema knows its form; `model_ref.ModelRef.parse` says all that is wrong."""

ArtifactName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    Matches(
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "cannot be the name of a folder; use small letters, digits and -, as in prompts",
    ),
]


ServedName = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Matches(
        "^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$",
        "cannot be asked for as a model; use letters, digits, ., _, / and -, without @, which separates the revision",
    ),
]


class Adapter(ApiModel):
    """A LoRA adapter, served under a name of its own."""

    name: ServedName = Field(
        description="The model name that clients ask for to get the adapter. Answers say `<name>@<revision>`, which "
        "can be asked for too."
    )
    model_ref: ReferenceText = Field(
        description="The W&B artifact, entity/project/collection:alias, with adapter_config.json and "
        "adapter_model.safetensors. It is resolved, held, verified and rolled out as the model is."
    )


class SideArtifact(ApiModel):
    """An artifact whose files the model server reads beside the model, such as a chat template."""

    name: ArtifactName = Field(description="Its files lie in /artifacts/<name>, to be named in args.")
    model_ref: ReferenceText = Field(
        description="The W&B artifact, entity/project/collection:alias. It is resolved, held, verified and rolled out "
        "as the model is."
    )


def side_artifact(name: str) -> str:
    """The key of `spec.serving.artifacts[name]`."""
    return _SIDE_ARTIFACT + name


def side_artifact_name(key: str) -> str | None:
    """Inverse of `side_artifact`; None for the key of another part."""
    return key.removeprefix(_SIDE_ARTIFACT) if key.startswith(_SIDE_ARTIFACT) else None


def adapter(name: str) -> str:
    """The key of `spec.serving.adapters[name]`."""
    return _ADAPTER + name


def adapter_name(key: str) -> str | None:
    """Inverse of `adapter`; None for the key of another part."""
    return key.removeprefix(_ADAPTER) if key.startswith(_ADAPTER) else None


def field_of(key: str) -> str:
    """Where the spec names this part: `spec.serving.artifacts[prompts].modelRef`."""
    if (name := side_artifact_name(key)) is not None:
        return f"spec.serving.artifacts[{name}].modelRef"
    if (name := adapter_name(key)) is not None:
        return f"spec.serving.adapters[{name}].modelRef"
    return "spec.serving.baseModelRef" if key == BASE else "spec.modelRef"


def part_label(key: str) -> str:
    """The part in a sentence: `model`, `artifact prompts`, `adapter legal`."""
    return key.replace("/", " ", 1)
