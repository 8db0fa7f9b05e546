"""Whether vLLM can load the LoRA adapters of what the aliases name, and what it has to be started with for them. Pure.

Only a revision that has no record yet is judged: once it is written down, nothing about it is asked again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from modelsync.api.parts import BASE, MODEL, field_of
from modelsync.api.reasons import Reason
from modelsync.observe.answers import Positives
from modelsync.resources.adapter_config import CONFIG_FILE, AdapterConfig, AdapterRefusedError
from modelsync.resources.lora import adapter_keys, max_rank
from modelsync.resources.revision import Artifact, RevisionInputs
from modelsync.rollout.model import Problem

BASE_MODEL_KEY = "wandb.base_model"
"""Of an artifact's metadata: the base model by which W&B's own inference serves a LoRA adapter."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The adapter's files say that vLLM cannot load it, and why."""

    message: str


@dataclass(frozen=True, slots=True)
class Failing:
    """The adapter's files could not be read the last time, and why."""

    message: str


Known: TypeAlias = Mapping[str, AdapterConfig | Refused | Failing]
"""What has been read of adapters, by digest."""


@dataclass(frozen=True, slots=True)
class Loading:
    """What came of it."""

    rank: int | None = None
    """What vLLM is to be started with; None without adapters, and as long as not all of them are known."""
    to_read: tuple[Artifact, ...] = ()
    """Adapters whose files have to be read first."""
    failing: str | None = None
    """Why one of them cannot be read."""
    problem: Problem | None = None
    """What vLLM could not load."""


def loading(inputs: RevisionInputs, artifacts: Mapping[str, Artifact], known: Known, told: Positives | None) -> Loading:
    """Judge the adapters among `artifacts`. `told` are the registry's answers, if this process has them."""
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
        if (mismatch := _other_base(key, told)) is not None:
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


def _other_base(key: str, told: Positives | None) -> str | None:
    """The adapter and the base both say which model they belong to, and it is not the same one."""
    if told is None:
        return None
    base_key = BASE if BASE in told.answers else MODEL
    base, adapter = _said_base(told, base_key), _said_base(told, key)
    if base is None or adapter is None or base == adapter:
        return None
    return (
        f"its metadata says {BASE_MODEL_KEY} {adapter!r}, and that of the base ({field_of(base_key)}) says {base!r}; "
        "name the base that it was trained on"
    )


def _said_base(told: Positives, key: str) -> str | None:
    try:
        said = json.loads(told.answers[key].metadata or "{}")
    except (ValueError, RecursionError):
        return None
    found = said.get(BASE_MODEL_KEY) if isinstance(said, dict) else None
    return found if isinstance(found, str) and found else None
