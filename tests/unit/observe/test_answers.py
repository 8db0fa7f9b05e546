"""A spec with several references has a candidate only if all of them are resolved."""

from dataclasses import replace
from typing import Any

import pytest

from modelsync.api.model_ref import ModelRef
from modelsync.api.parts import MODEL, side_artifact
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.api.status import ModelDeploymentStatus
from modelsync.observe.gather import Gathered
from modelsync.observe.spec_status import read
from modelsync.registry.model import Answers, Artifact, Kept, Link, Missing, Resolved
from modelsync.resources.record import Record, record
from modelsync.rollout.model import Part, RegistryOutcome
from unit.observe.builders import OWNER, SETTINGS, family, live, model_deployment, spec
from unit.observe.test_gather import ASKED, NOW, answers, collection, gathered, resolved

PROMPTS = side_artifact("prompts")
PROMPTS_REF = ModelRef("acme", "prompt-library", "support", "production")
PROMPTS_DIGEST = "feedfeedfeedfeed"
SPEC = spec(serving={"artifacts": [{"name": "prompts", "modelRef": str(PROMPTS_REF)}]})


def prompts(version: int = 2, digest: str = PROMPTS_DIGEST, **parts: Any) -> Resolved:
    home = PROMPTS_REF.in_collection
    artifact = Artifact(
        artifact_id=f"id-prompts-v{version}",
        digest=digest,
        digest_algorithm=None,
        state=parts.pop("state", "COMMITTED"),
        size=100,
        file_count=1,
        type="prompt",
        tags=frozenset(parts.pop("tags", ())),
        metadata="",
        created_at="",
        updated_at="",
        source=None,
        source_version=None,
        links=(Link(home, f"v{version}", frozenset({"production"}), frozenset()),),
    )
    return Resolved(
        ref=PROMPTS_REF,
        collection_ref=home,
        version_index=version,
        aliases=frozenset({"production"}),
        collection_tags=frozenset(),
        artifact=artifact,
        asked_at=parts.get("asked_at", ASKED),
        answered_at=NOW,
        asked=(parts.pop("asked_at", ASKED) - ASKED).total_seconds(),
    )


def both(model: Any = None, other: Any = None, kept: Resolved | None = None) -> Answers:
    """Answers for the model and for the side artifact."""
    found = answers(model or resolved())
    other = other or prompts()
    positive = other if isinstance(other, Resolved) else kept
    home = replace(collection(), collection=PROMPTS_REF.in_collection)
    return replace(
        found,
        refs={**found.refs, PROMPTS_REF: Kept(latest=other, positive=positive, since=NOW)},
        collections={**found.collections, home.collection: Kept(latest=home, positive=home, since=NOW)},
    )


def seen(replies: Answers | None, status: Any = None, **parts: Any) -> Gathered:
    return gathered(family(owner=model_deployment(spec=parts.pop("spec", SPEC), status=status), **parts), replies)


def missing() -> Missing:
    return Missing(subject=PROMPTS_REF, what="alias", message="no alias production", asked_at=NOW, answered_at=NOW)


def test_every_reference_is_asked_for() -> None:
    question = read(family(owner=model_deployment(spec=SPEC)), SETTINGS).question
    assert {str(ref) for ref in question.refs} == {SPEC["modelRef"], str(PROMPTS_REF)}


def test_the_candidate_is_made_of_all_of_them() -> None:
    made = seen(both())
    candidate = made.observed.registry.candidate
    assert candidate is not None
    assert candidate.parts == (Part(MODEL, "v7", "0123456789abcdef"), Part(PROMPTS, "v2", PROMPTS_DIGEST))
    assert candidate.digests == ("0123456789abcdef", PROMPTS_DIGEST)
    other = seen(both(other=prompts(3, "0" * 16))).observed.registry.candidate
    assert other is not None
    assert other.version == candidate.version == "v7"
    assert other.revision != candidate.revision
    assert other.content != candidate.content


def test_the_answer_counts_as_asked_for_when_the_oldest_part_of_it_was() -> None:
    earlier = ASKED.replace(minute=0, second=1)
    assert seen(both(other=prompts(asked_at=earlier))).observed.registry.asked_at == earlier


def test_without_an_answer_for_one_there_is_no_candidate() -> None:
    view = seen(answers(resolved())).observed.registry
    assert (view.outcome, view.candidate) == (RegistryOutcome.PENDING, None)


def test_one_that_is_not_there_is_named_and_the_last_answers_are_kept() -> None:
    view = seen(both(other=missing(), kept=prompts())).observed.registry
    assert view.outcome is RegistryOutcome.MISSING
    assert view.message == "spec.serving.artifacts[prompts].modelRef: no alias production"
    assert view.candidate is not None


@pytest.mark.parametrize(
    ("state", "outcome"), [("DELETED", RegistryOutcome.WITHDRAWN), ("PENDING", RegistryOutcome.MISSING)]
)
def test_one_that_cannot_be_pulled_is_reported_like_the_model(state: str, outcome: RegistryOutcome) -> None:
    view = seen(both(other=prompts(state=state))).observed.registry
    assert view.outcome is outcome
    assert "spec.serving.artifacts[prompts].modelRef" in view.message


def test_a_reference_that_is_none_is_a_problem_and_makes_no_candidate() -> None:
    bad = spec(serving={"artifacts": [{"name": "prompts", "modelRef": "acme/prompt library /support:production"}]})
    made = seen(answers(resolved()), spec=bad)
    assert "spec.serving.artifacts[prompts].modelRef" in made.observed.problems[0].message
    assert made.observed.registry.candidate is None


def test_a_hold_on_one_part_is_a_hold_on_the_candidate() -> None:
    made = seen(both(other=prompts(tags=["regulatory-hold"])))
    (mark,) = made.observed.holds[PROMPTS_DIGEST].marks
    assert mark.digest in (made.observed.registry.candidate.digests if made.observed.registry.candidate else ())


def test_after_a_restart_all_parts_are_remembered_or_none() -> None:
    before = seen(both()).resolved
    assert before is not None
    status = ModelDeploymentStatus(resolved=before).wire()
    again = seen(None, status=status).observed.registry.candidate
    assert again is not None
    assert again.revision == before.revision
    assert [part.key for part in again.parts] == [MODEL, PROMPTS]

    more = [*SPEC["serving"]["artifacts"], {"name": "more", "modelRef": "acme/prompt-library/more:production"}]
    assert seen(None, status=status, spec=spec(serving={"artifacts": more})).observed.registry.candidate is None


def test_first_seen_begins_anew_when_any_part_changes() -> None:
    before = seen(both()).resolved
    assert before is not None
    status = ModelDeploymentStatus(resolved=before.model_copy(update={"first_seen": ASKED})).wire()
    same, moved = seen(both(), status=status).resolved, seen(both(other=prompts(3, "0" * 16)), status=status).resolved
    assert same is not None
    assert moved is not None
    assert (same.first_seen, moved.first_seen) == (ASKED, NOW)


def test_a_record_pins_every_part_and_each_is_watched() -> None:
    pinned = seen(both()).pinned
    assert pinned is not None
    wanted = ModelDeploymentSpec.model_validate(SPEC)
    body = live(
        record(OWNER, pinned.inputs, pinned.artifact, wanted, SETTINGS, fuse_sha256="ab" * 32, others=pinned.others)
    )
    made = Record.parse(body)
    assert made.digests == ("0123456789abcdef", PROMPTS_DIGEST)
    found = family((made, body), plain=made.revision)
    assert {each.artifact_id for each in read(found, SETTINGS).question.served} == {"id-v7", "id-prompts-v2"}
    assert gathered(found).observed.revisions[made.revision].parts == (
        Part(MODEL, "v7", "0123456789abcdef"),
        Part(PROMPTS, "v2", PROMPTS_DIGEST),
    )
