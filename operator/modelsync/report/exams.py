"""Reports exams: `status.exams` and the condition `ExamPassed`. Must never decide anything."""

from datetime import timedelta
from typing import Literal

from modelsync.api import duration
from modelsync.api.conditions import Truth
from modelsync.api.reasons import Reason
from modelsync.api.status import ExamStatus
from modelsync.report.situation import ReportContext
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import Exam, ExamOutcome, Revision, State

_Outcome = Literal["Running", "Passed", "Failed", "Invalid"]
_OUTCOMES: dict[ExamOutcome, _Outcome] = {
    ExamOutcome.RUNNING: "Running",
    ExamOutcome.PASSED: "Passed",
    ExamOutcome.FAILED: "Failed",
    ExamOutcome.INVALID: "Invalid",
}
_FAILURES = (Reason.EXAM_FAILED, Reason.EXAM_INVALID)
_MAX = 8


def exam_statuses(facts: Facts, state: State, previous: tuple[ExamStatus, ...]) -> tuple[ExamStatus, ...]:
    """Exams of the stable, the current move, and every failed revision.

    The exam of a failed revision is kept from the previous status, because its pods no longer exist.
    """
    before = {each.revision: each for each in previous}
    statuses = []
    for revision in _reported(state):
        exam = facts.view(revision).exam
        if exam is not None:
            statuses.append(_status(revision, exam))
        elif revision in before and any(f.revision == revision and f.reason in _FAILURES for f in state.failed):
            statuses.append(before[revision])
    return tuple(statuses[:_MAX])


def exam_condition(context: ReportContext) -> tuple[Truth, Reason, str] | None:
    """Status, reason and message of `ExamPassed`, or None if the revision has no exam.

    Of the revision that the alias names if it failed its exam, else of the current move, else of the stable.
    """
    facts, state = context.facts, context.state
    for failure in state.failed:
        if failure.revision == facts.named and failure.reason in _FAILURES:
            return "False", Reason(failure.reason), f"{context.version(failure.revision)}: {failure.message}"
    moving = state.canary or state.target
    revision = moving.revision if moving is not None else state.stable
    exam = facts.view(revision).exam if revision is not None else None
    if exam is None:
        return None
    about = context.version(revision)
    if exam.outcome is ExamOutcome.RUNNING:
        return "Unknown", Reason.EXAM_RUNNING, f"{about}: its exam is running"
    if exam.outcome is ExamOutcome.PASSED:
        took = duration.render(_took(exam))
        return "True", Reason.EXAM_PASSED, f"{about}: {exam.passed} of {exam.total} answers are as expected, in {took}"
    reason = Reason.EXAM_INVALID if exam.outcome is ExamOutcome.INVALID else Reason.EXAM_FAILED
    return "False", reason, f"{about}: {exam.message}"


def _reported(state: State) -> list[Revision]:
    stable = [state.stable] if state.stable is not None else []
    return list(dict.fromkeys([*stable, *state.moving, *(failure.revision for failure in state.failed)]))


def _status(revision: Revision, exam: Exam) -> ExamStatus:
    finished = exam.outcome is not ExamOutcome.RUNNING
    return ExamStatus(
        revision=revision,
        outcome=_OUTCOMES[exam.outcome],
        passed=exam.passed,
        total=exam.total,
        duration=duration.render(_took(exam)) if finished else None,
        message=exam.message or None,
    )


def _took(exam: Exam) -> timedelta:
    return timedelta(milliseconds=round(exam.seconds * 1000))
