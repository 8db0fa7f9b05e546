"""`status.history` and other parts of the status that depend on past moves."""

from dataclasses import replace
from datetime import timedelta

from modelsync.api.parts import MODEL, side_artifact
from modelsync.api.status import ModelDeploymentStatus
from modelsync.report.report import report
from modelsync.rollout import plan
from modelsync.rollout.model import Observed, Part
from unit.rollout.worlds import CANARY, NOW, V1, V2, V3, crash, digest, in_canary, reads, route, status_of, up, world

PROMOTING = in_canary(replace(CANARY, step=4, weight=100), up(V3), route=route((V2, 0), (V3, 100)))


def ended(observed: Observed, previous: ModelDeploymentStatus | None = None) -> list[tuple[str, str, str, str]]:
    status = status_of(observed, previous)
    return [(entry.revision, entry.outcome, entry.reason, entry.trigger) for entry in status.history]


def test_a_promotion_is_an_entry_that_stays_open() -> None:
    (entry,) = status_of(PROMOTING).history
    assert (entry.revision, entry.version, entry.digest) == (V3, "v3", "digest-v3")
    assert (entry.outcome, entry.trigger, entry.from_, entry.to) == ("Promoted", "Alias", NOW, None)


def test_a_promotion_records_which_part_changed_beside_the_model() -> None:
    prompts = side_artifact("prompts")
    old, new = Part(prompts, "v1", "p1"), Part(prompts, "v2", "p2")
    views = dict(PROMOTING.revisions)
    views[V2] = replace(views[V2], parts=(Part(MODEL, "v3", digest(V3)), old))
    views[V3] = replace(views[V3], parts=(Part(MODEL, "v3", digest(V3)), new))
    (entry,) = status_of(replace(PROMOTING, revisions=views)).history
    assert (entry.changed, entry.digest) == ("artifact prompts v1 -> v2", digest(V3))
    assert entry.trigger == "Alias"
    views[V2] = replace(views[V2], parts=(Part(MODEL, "v3", digest(V3)),))
    (entry,) = status_of(replace(PROMOTING, revisions=views)).history
    assert (entry.changed, entry.trigger) == ("artifact prompts v2 added", "Spec")


def test_the_next_promotion_closes_the_entry_of_the_one_before() -> None:
    before = status_of(PROMOTING)
    later = replace(PROMOTING, now=NOW + timedelta(hours=1))
    first, second = report(later, plan(later), before, name="chat").status.history
    assert first.to == later.now
    assert second.to is None


def test_a_canary_that_is_taken_back_is_in_the_history() -> None:
    assert ended(in_canary(named=V2)) == [(V3, "TakenBack", "TakenBack", "Alias")]


def test_a_canary_that_crashed_has_its_reason_in_the_history() -> None:
    assert ended(in_canary(view=up(V3, 1, trouble=crash()))) == [(V3, "Failed", "Crashed", "Pods")]


def test_a_canary_that_a_hold_ended_is_in_the_history() -> None:
    assert ended(in_canary(holds=reads(V3))) == [(V3, "Held", "RegulatoryHold", "Hold")]


def test_a_pass_in_which_nothing_ends_adds_nothing() -> None:
    before = status_of(PROMOTING)
    assert status_of(world(), before).history == before.history


def test_the_fallback_of_a_hold_is_reported_beforehand() -> None:
    cold_one = status_of(world()).fallback
    assert cold_one is not None
    assert (cold_one.revision, cold_one.ready) == (V1, False)
    warm = status_of(world(views=(up(V1, 1), up(V2)))).fallback
    assert warm is not None
    assert (warm.revision, warm.ready) == (V1, True)
    none = status_of(world(holds=reads(V1))).fallback
    assert none is not None
    assert none.revision is None
    assert "blocks" in none.reason


def test_autoscalers_see_the_pods_that_are_counted() -> None:
    alone = status_of(world(views=(up(V1, 1), up(V2))))
    assert (alone.replicas, alone.ready_replicas) == (2, 2)
    assert alone.selector == f"modelsync.dev/name=chat,modelsync.dev/revision={V2}"
    both = status_of(in_canary())
    assert (both.replicas, both.ready_replicas) == (3, 3)
    assert both.selector == f"modelsync.dev/name=chat,modelsync.dev/revision in ({V2},{V3})"
