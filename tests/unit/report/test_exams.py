"""Exams: a canary that does not pass its exam fails, and every result is reported."""

from dataclasses import replace

import pytest

from modelsync.api.hold import HoldAction
from modelsync.api.requests import Requests
from modelsync.rollout import plan
from modelsync.rollout.model import (
    Exam,
    ExamOutcome,
    MoveReason,
    Observed,
    Outcome,
    State,
    Target,
)
from unit.rollout.worlds import (
    CANARY,
    LONG_AGO,
    NOW,
    POLICY,
    V1,
    V2,
    V3,
    cold,
    conditions,
    down,
    in_canary,
    reads,
    route,
    status_of,
    up,
    world,
)

WRONG = 'line 3 (capital): wanted " Paris", got " Rome"'
PASSED = Exam(ExamOutcome.PASSED, 12, 12, 2.5, "12 of 12 answers are as expected")
FAILED = Exam(ExamOutcome.FAILED, 11, 12, 2.5, f"11 of 12 answers are as expected; {WRONG}")
INVALID = Exam(ExamOutcome.INVALID, message="modelsync/golden.jsonl: line 2: not JSON")
RUNNING = Exam(ExamOutcome.RUNNING)
STARTING = replace(CANARY, step=0, weight=0, step_started_at=None)


def starting(exam: Exam | None) -> Observed:
    """A canary whose pod runs and has the given exam result."""
    return in_canary(STARTING, down(V3, exam=exam), route=route((V2, 100)))


@pytest.mark.parametrize(("exam", "reason"), [(FAILED, "ExamFailed"), (INVALID, "ExamInvalid")])
def test_a_canary_that_does_not_pass_its_exam_is_taken_back_at_once(exam: Exam, reason: str) -> None:
    made = plan(starting(exam))

    assert [(failure.revision, failure.reason, failure.message) for failure in made.state.failed] == [
        (V3, reason, f"exam: {exam.message}")
    ]
    assert made.state.canary is None
    assert [(finished.outcome, finished.reason) for finished in made.finished] == [(Outcome.FAILED, reason)]
    assert any(event.type == "Warning" and exam.message in event.note for event in made.events)


@pytest.mark.parametrize("exam", [RUNNING, PASSED, None])
def test_a_canary_whose_exam_is_not_failed_goes_on(exam: Exam | None) -> None:
    made = plan(starting(exam))

    assert not made.state.failed
    assert made.state.canary is not None


def test_one_pod_that_fails_the_exam_takes_a_canary_back_that_has_traffic() -> None:
    made = plan(in_canary(view=up(V3, 1, exam=FAILED)))

    assert [failure.reason for failure in made.state.failed] == ["ExamFailed"]
    assert made.state.canary is None


def test_the_conditions_name_the_wrong_line_while_the_alias_names_the_version() -> None:
    status = status_of(starting(FAILED))
    by_type = conditions(status)

    assert by_type["ExamPassed"].status == "False"
    assert WRONG in by_type["ExamPassed"].message
    assert (by_type["Ready"].status, by_type["Ready"].reason) == ("False", "ExamFailed")
    assert (by_type["RolledBack"].status, by_type["Stalled"].status) == ("True", "True")
    assert by_type["Available"].status == "True"


def test_a_failed_exam_is_still_reported_when_the_pods_are_gone() -> None:
    before = status_of(starting(FAILED))
    state = plan(starting(FAILED)).state
    after = status_of(world(named=V3, views=(cold(V1), up(V2), cold(V3)), state=state), before)

    assert [(each.revision, each.outcome, each.passed, each.total) for each in after.exams] == [(V3, "Failed", 11, 12)]
    assert conditions(after)["ExamPassed"].reason == "ExamFailed"


def test_a_passed_exam_is_reported_with_its_counts_and_its_time() -> None:
    status = status_of(in_canary(view=up(V3, 1, exam=PASSED)))

    assert conditions(status)["ExamPassed"].message == f"v3 ({V3}): 12 of 12 answers are as expected, in 2s500ms"
    assert [(each.revision, each.outcome, each.duration) for each in status.exams] == [(V3, "Passed", "2s500ms")]


def test_a_running_exam_is_reported_as_unknown() -> None:
    by_type = conditions(status_of(starting(RUNNING)))

    assert (by_type["ExamPassed"].status, by_type["ExamPassed"].reason) == ("Unknown", "ExamRunning")


def test_a_version_without_an_exam_has_no_condition_of_it() -> None:
    status = status_of(world())

    assert "ExamPassed" not in conditions(status)
    assert status.exams == ()


def test_the_stables_exam_is_reported_when_nothing_moves() -> None:
    assert conditions(status_of(world(views=(cold(V1), up(V2, exam=PASSED)))))["ExamPassed"].status == "True"


def test_a_first_version_that_fails_its_exam_stays_and_is_stalled() -> None:
    observed = world(
        named=V1,
        views=(down(V1, exam=FAILED),),
        state=State(target=Target(V1, MoveReason.FIRST, LONG_AGO)),
        route=None,
        service=None,
    )
    status = status_of(observed)

    assert plan(observed).state.target == observed.state.target
    assert not plan(observed).state.failed
    by_type = conditions(status)
    assert (status.phase, by_type["Ready"].status, by_type["Ready"].reason) == ("Stalled", "False", "ExamFailed")
    assert WRONG in by_type["Stalled"].message


def test_a_rollback_to_a_version_that_fails_its_exam_now_is_given_up() -> None:
    observed = world(
        named=V1,
        views=(down(V1, exam=FAILED), up(V2)),
        state=State(promoted=(V1, V2), target=Target(V1, MoveReason.ROLLBACK, LONG_AGO)),
    )

    made = plan(observed)

    assert [failure.reason for failure in made.state.failed] == ["ExamFailed"]
    assert made.state.target is None
    assert made.state.stable == V2


def test_a_fallback_that_fails_its_exam_makes_room_for_what_the_alias_names() -> None:
    observed = world(
        named=V3,
        views=(down(V1, exam=FAILED), up(V2), cold(V3)),
        state=State(promoted=(V1, V2), target=Target(V1, MoveReason.FALLBACK, LONG_AGO)),
        holds=reads(V2),
        policy=replace(POLICY, hold_action=HoldAction.FALLBACK),
    )

    target = plan(observed).state.target

    assert target is not None
    assert (target.revision, target.reason) == (V3, MoveReason.FIRST)


def test_a_pod_of_the_stable_that_fails_the_exam_is_reported_and_nothing_is_taken_back() -> None:
    observed = world(views=(cold(V1), up(V2, 1, replicas=2, pods=2, exam=FAILED)))

    assert plan(observed).state == observed.state
    assert conditions(status_of(observed))["Ready"].reason == "ExamFailed"


def test_retry_tries_a_version_again_that_failed_its_exam() -> None:
    state = plan(starting(FAILED)).state
    observed = world(
        now=NOW,
        named=V3,
        views=(cold(V1), up(V2), cold(V3)),
        state=state,
        requests=Requests(retry=V3),
    )

    made = plan(observed)

    assert not made.state.failed
    assert made.state.canary is not None
