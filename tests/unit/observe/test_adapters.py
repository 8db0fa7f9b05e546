"""LoRA adapters are read and checked before anything is scheduled."""

import json
from dataclasses import replace
from typing import Any

import pytest

from modelsync.api.model_ref import ModelRef
from modelsync.api.parts import BASE, MODEL, adapter
from modelsync.observe.adapters import Failing, Refused
from modelsync.observe.gather import Gathered
from modelsync.registry.model import Answers, Kept, Resolved
from modelsync.resources.adapter_config import AdapterConfig
from modelsync.resources.record import Record, record
from modelsync.rollout import plan
from modelsync.rollout.model import Part, RegistryOutcome
from unit.observe.builders import OWNER, SETTINGS, family, live, model_deployment, spec
from unit.observe.test_answers import prompts
from unit.observe.test_gather import NOW, answers, collection, gathered, resolved

LEGAL_REF = ModelRef("acme", "wandb-registry-model", "legal lora", "production")
DIGEST = "feedfeedfeedfeed"
SPEC = spec(serving={"adapters": [{"name": "legal", "modelRef": str(LEGAL_REF)}]})


def legal(metadata: Any = None) -> Resolved:
    found = prompts(2, DIGEST)
    return replace(
        found,
        ref=LEGAL_REF,
        collection_ref=LEGAL_REF.in_collection,
        artifact=replace(found.artifact, metadata=json.dumps(metadata) if metadata else ""),
    )


def seen(known: Any = None, *records: Any, other: Resolved | None = None, model: Any = None, **parts: Any) -> Gathered:
    found = answers(model or resolved())
    home = replace(collection(), collection=LEGAL_REF.in_collection)
    other = other or legal()
    replies: Answers = replace(
        found,
        refs={**found.refs, LEGAL_REF: Kept(latest=other, positive=other, since=NOW)},
        collections={**found.collections, home.collection: Kept(latest=home, positive=home, since=NOW)},
    )
    owner = model_deployment(spec=parts.pop("spec", SPEC))
    return gathered(family(*records, owner=owner, **parts), replies, adapters=known or {})


def test_an_adapter_is_a_part_of_the_candidate() -> None:
    candidate = seen().observed.registry.candidate
    assert candidate is not None
    assert candidate.parts == (Part(MODEL, "v7", "0123456789abcdef"), Part(adapter("legal"), "v2", DIGEST))


def test_nothing_begins_before_the_adapter_has_been_read() -> None:
    made = seen()
    assert made.pinned is not None
    assert [each.digest for each in made.pinned.lora.to_read] == [DIGEST]
    assert made.observed.registry.outcome is RegistryOutcome.PENDING
    assert plan(made.observed).actions == ()


def test_one_that_has_been_read_determines_the_rank_for_vllm() -> None:
    made = seen({DIGEST: AdapterConfig(24)})
    assert made.pinned is not None
    assert (made.pinned.lora.rank, made.pinned.lora.to_read) == (32, ())
    assert made.observed.registry.outcome is RegistryOutcome.RESOLVED


def test_one_that_vllm_cannot_load_is_a_problem_that_names_field_and_version() -> None:
    (problem,) = seen({DIGEST: Refused("vLLM does not support DoRA")}).observed.problems
    assert problem.reason == "AdapterRefused"
    assert problem.message.startswith("spec.serving.adapters[legal].modelRef: acme/wandb-registry-model/legal lora:v2 ")
    assert problem.message.endswith("vLLM does not support DoRA")


def test_a_rank_above_what_vllm_allows_is_a_problem() -> None:
    (problem,) = seen({DIGEST: AdapterConfig(1024)}).observed.problems
    assert "its rank is 1024, but vLLM accepts at most 512" in problem.message


def test_one_that_cannot_be_read_is_reported_and_read_again() -> None:
    made = seen({DIGEST: Failing("502")})
    assert made.observed.registry.outcome is RegistryOutcome.UNREACHABLE
    assert "spec.serving.adapters[legal].modelRef" in made.observed.registry.message
    assert made.observed.registry.message.endswith("502")
    assert made.pinned is not None
    assert made.pinned.lora.to_read


def test_of_a_revision_that_is_written_down_nothing_is_asked() -> None:
    pinned = seen({DIGEST: AdapterConfig(8)}).pinned
    assert pinned is not None
    from modelsync.api.spec import ModelDeploymentSpec

    wanted = ModelDeploymentSpec.model_validate(SPEC)
    others = pinned.others
    body = live(record(OWNER, pinned.inputs, pinned.artifact, wanted, SETTINGS, fuse_sha256="ab" * 32, others=others))
    again = seen(None, (Record.parse(body), body))
    assert again.observed.registry.outcome is RegistryOutcome.RESOLVED
    assert again.pinned is not None
    assert again.pinned.lora.to_read == ()


def base_of(name: str | None) -> dict[str, str] | None:
    return {"wandb.base_model": name} if name else None


@pytest.mark.parametrize(
    ("base", "own", "refused"),
    [("a/b", "a/b", False), ("a/b", "a/c", True), ("a/b", None, False), (None, "a/c", False), (None, None, False)],
)
def test_a_base_that_is_another_than_the_adapters_is_refused_where_both_say_it(
    base: str | None, own: str | None, refused: bool
) -> None:
    model = resolved()
    model = replace(model, artifact=replace(model.artifact, metadata=json.dumps(base_of(base) or {})))
    made = seen({DIGEST: AdapterConfig(8)}, other=legal(base_of(own)), model=model)
    assert [problem.reason for problem in made.observed.problems] == (["AdapterRefused"] if refused else [])


def test_with_a_base_the_model_is_the_adapter_that_is_read() -> None:
    made = seen(spec=spec(serving={"baseModelRef": str(LEGAL_REF)}))
    assert made.pinned is not None
    assert list(made.pinned.artifacts) == [MODEL, BASE]
    assert [each.digest for each in made.pinned.lora.to_read] == ["0123456789abcdef"]
