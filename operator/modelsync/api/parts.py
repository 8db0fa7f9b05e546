"""The parts of a revision: the model, and the other artifacts that are resolved with it.

Each part has a key, under which its digest is hashed and recorded, and a field in the spec, which messages name.
Nothing here queries a registry.
"""

from typing import Annotated

from pydantic import Field

from modelsync.api.base import ApiModel, Matches

MODEL = "model"
"""Key of the artifact in `spec.modelRef`."""

BASE = "base"
"""Key of the artifact in `spec.serving.baseModelRef`: the model that a LoRA adapter was trained on."""

_SIDE_ARTIFACT = "artifact/"
_ADAPTER = "adapter/"

_EXAMPLE = "for example acme/wandb-registry-model/chat:production"

ReferenceText = Annotated[
    str,
    Field(min_length=1, max_length=512),
    Matches(
        "^[^:]*:.+$",
        f"has no alias; write entity/project/collection:alias, {_EXAMPLE} (:v12 pins a version)",
    ),
    Matches(
        "^[^:]*$|^[^/:]+/[^/:]+/[^/:]+:[^/:]+$",
        f"must be entity/project/collection:alias, three names separated by / and one alias, {_EXAMPLE}",
    ),
]
"""A reference in a spec. The schema checks only its form; `model_ref.ModelRef.parse` checks everything."""

ArtifactName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    Matches(
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "is not a valid folder name; use lowercase letters, digits and -, such as prompts",
    ),
]


ServedName = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Matches(
        "^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$",
        "is not a valid model name; use letters, digits, ., _, / and -; @ is reserved for the revision",
    ),
]


class Adapter(ApiModel):
    """A LoRA adapter, served under its own name."""

    name: ServedName = Field(
        description="The model name that clients request to use the adapter. Responses show `<name>@<revision>`, which "
        "clients can request too."
    )
    model_ref: ReferenceText = Field(
        description="The W&B artifact, entity/project/collection:alias, with adapter_config.json and "
        "adapter_model.safetensors. It is resolved, held, verified and rolled out like the model."
    )


class SideArtifact(ApiModel):
    """An artifact with files that the model server reads besides the model, such as a chat template."""

    name: ArtifactName = Field(description="Its files are in /artifacts/<name>; args can refer to them there.")
    model_ref: ReferenceText = Field(
        description="The W&B artifact, entity/project/collection:alias. It is resolved, held, verified and rolled out "
        "like the model."
    )


def side_artifact(name: str) -> str:
    """The key of `spec.serving.artifacts[name]`."""
    return _SIDE_ARTIFACT + name


def side_artifact_name(key: str) -> str | None:
    """Inverse of `side_artifact`; None if `key` is another part's."""
    return key.removeprefix(_SIDE_ARTIFACT) if key.startswith(_SIDE_ARTIFACT) else None


def adapter(name: str) -> str:
    """The key of `spec.serving.adapters[name]`."""
    return _ADAPTER + name


def adapter_name(key: str) -> str | None:
    """Inverse of `adapter`; None if `key` is another part's."""
    return key.removeprefix(_ADAPTER) if key.startswith(_ADAPTER) else None


def field_of(key: str) -> str:
    """The spec field of this part: `spec.serving.artifacts[prompts].modelRef`."""
    if (name := side_artifact_name(key)) is not None:
        return f"spec.serving.artifacts[{name}].modelRef"
    if (name := adapter_name(key)) is not None:
        return f"spec.serving.adapters[{name}].modelRef"
    return "spec.serving.baseModelRef" if key == BASE else "spec.modelRef"


def part_label(key: str) -> str:
    """The part's name in messages: `model`, `artifact prompts`, `adapter legal`."""
    return key.replace("/", " ", 1)
