"""What a revision is made of beside its spec: the model, and the other artifacts that are resolved with it.

Each part has a key, by which its digest is hashed and its record kept, and a place in the spec, by which people are
told of it. Nothing here asks a registry.
"""

from typing import Annotated

from pydantic import Field

from modelsync.api.model import ApiModel, Matches

MODEL = "model"
"""The key of what `spec.modelRef` names."""

ARTIFACTS_DIR = "/artifacts"
"""Side artifacts are mounted here, each in a folder of its name."""

_SIDE_ARTIFACT = "artifact/"

_EXAMPLE = "for example acme/wandb-registry-model/chat:production"

ModelRef = Annotated[
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

ArtifactName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    Matches(
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "cannot be the name of a folder; use small letters, digits and -, as in prompts",
    ),
]


class SideArtifact(ApiModel):
    """An artifact whose files the model server reads beside the model, such as a chat template."""

    name: ArtifactName = Field(description="Its files lie in /artifacts/<name>, to be named in args.")
    model_ref: ModelRef = Field(
        description="The W&B artifact, entity/project/collection:alias. It is resolved, held, verified and rolled out "
        "as the model is."
    )


def side_artifact(name: str) -> str:
    """The key of `spec.serving.artifacts[name]`."""
    return _SIDE_ARTIFACT + name


def side_artifact_name(key: str) -> str | None:
    """Inverse of `side_artifact`; None for the key of another part."""
    return key.removeprefix(_SIDE_ARTIFACT) if key.startswith(_SIDE_ARTIFACT) else None


def field_of(key: str) -> str:
    """Where the spec names this part: `spec.serving.artifacts[prompts].modelRef`."""
    name = side_artifact_name(key)
    return "spec.modelRef" if name is None else f"spec.serving.artifacts[{name}].modelRef"


def told(key: str) -> str:
    """The part in a sentence: `model`, `artifact prompts`."""
    return key.replace("/", " ", 1)
