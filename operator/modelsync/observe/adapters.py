"""Whether vLLM can load a candidate's LoRA adapters, and the rank that it must be started with. Pure.

Only a candidate without a record is checked; a recorded revision is never checked again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from modelsync.api.foreign_json import ForeignJSONError, read_object
from modelsync.api.parts import BASE, MODEL, field_of
from modelsync.api.reasons import Reason
from modelsync.observe.answers import Positives
from modelsync.resources.adapter_config import CONFIG_FILE, AdapterConfig, AdapterRefusedError
from modelsync.resources.lora import adapter_keys, max_rank
from modelsync.resources.revision import Artifact, RevisionInputs
from modelsync.rollout.model import Problem

MAX_METADATA_BYTES = 128 << 10
"""Metadata of an artifact that is longer is not read."""

BASE_MODEL_KEY = "wandb.base_model"
"""Key in an artifact's metadata: the base model that W&B Inference uses to serve a LoRA adapter."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An adapter that vLLM cannot load, and why."""

    message: str


@dataclass(frozen=True, slots=True)
class Failing:
    """An adapter whose files could not be read the last time, and why."""

    message: str


Known: TypeAlias = Mapping[str, AdapterConfig | Refused | Failing]
"""Results of reading adapters, by digest."""


@dataclass(frozen=True, slots=True)
class Loading:
    """Result of checking a revision's adapters."""

    rank: int | None = None
    """`--max-lora-rank` for vLLM; None without adapters, or until all of them have been read."""
    to_read: tuple[Artifact, ...] = ()
    """Adapters whose files must be read first."""
    failing: str | None = None
    """Why one of them cannot be read."""
    problem: Problem | None = None
    """An adapter that vLLM cannot load."""


def loading(
    inputs: RevisionInputs, artifacts: Mapping[str, Artifact], known: Known, positive: Positives | None
) -> Loading:
    """Check the adapters among `artifacts`. `positive` has the registry's answers, if this process has any."""
    ranks: list[int] = []
    to_read: list[Artifact] = []
    failing = None
    for key in adapter_keys(inputs.serving):
        artifact = artifacts[key]
        match known.get(artifact.digest):
            case AdapterConfig(rank):
                ranks.append(rank)
            case Refused(message):
                return Loading(problem=_problem(key, artifact, message))
            case Failing(message):
                to_read.append(artifact)
                failing = failing or f"{field_of(key)}: {CONFIG_FILE} of {artifact.ref} cannot be read: {message}"
            case None:
                to_read.append(artifact)
        if (mismatch := _other_base(key, positive)) is not None:
            return Loading(problem=_problem(key, artifact, mismatch))
        if ranks:
            try:
                max_rank(ranks[-1:], inputs.image)
            except AdapterRefusedError as error:
                return Loading(problem=_problem(key, artifact, str(error)))
    if to_read:
        return Loading(to_read=tuple(to_read), failing=failing)
    return Loading(rank=max_rank(ranks, inputs.image) if ranks else None)


def _problem(key: str, artifact: Artifact, why: str) -> Problem:
    return Problem(Reason.ADAPTER_REFUSED, f"{field_of(key)}: {artifact.ref} cannot be served as a LoRA adapter: {why}")


def _other_base(key: str, positive: Positives | None) -> str | None:
    """The message if the metadata of adapter and base name different base models."""
    if positive is None:
        return None
    base_key = BASE if BASE in positive.answers else MODEL
    base, adapter = _base_in_metadata(positive, base_key), _base_in_metadata(positive, key)
    if base is None or adapter is None or base == adapter:
        return None
    return (
        f"its metadata has {BASE_MODEL_KEY} {adapter!r}, but that of the base ({field_of(base_key)}) has {base!r}; "
        "set the base that it was trained on"
    )


def _base_in_metadata(positive: Positives, key: str) -> str | None:
    try:
        metadata = read_object(positive.answers[key].metadata or "{}", max_bytes=MAX_METADATA_BYTES)
    except ForeignJSONError:
        return None
    found = metadata.get(BASE_MODEL_KEY)
    return found if isinstance(found, str) and found else None
