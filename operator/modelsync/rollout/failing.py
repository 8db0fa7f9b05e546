"""Which revisions have failed (docs/design/README.md, "Failing").

A bad model is not retried; infrastructure trouble is waited out. Only a canary, a canary that took over, and the target
of a rollback can fail. A first version and a fallback cannot, because there is nothing better to go back to. This
module must never end a move: it records the failure, and `goal` and `moves` act on it.
"""

from dataclasses import replace
from datetime import datetime

from modelsync.api import duration
from modelsync.api.reasons import Reason
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import Exam, ExamOutcome, Failure, MoveReason, Revision, State, TroubleKind
from modelsync.rollout.plan_builder import PlanBuilder
from modelsync.rollout.steps import sizing_weight

_MESSAGE = 512
"""Characters of the container's last output that are kept with a failure."""


def judge(facts: Facts, state: State, builder: PlanBuilder) -> State:
    """Record a failure of the canary or rollback target: failed exam, crash, or no progress before the deadline."""
    revision, started = _judged(state)
    if revision is None or started is None or any(failure.revision == revision for failure in state.failed):
        return state
    failure = _exam(facts, revision) or _crash(facts, revision, started) or _deadline(facts, state, revision, started)
    if failure is None:
        return state
    builder.warning(Reason.FAILED, "Judge", f"{revision} failed: {failure.message}", revision)
    return failed(state, failure)


def _judged(state: State) -> tuple[Revision | None, datetime | None]:
    if state.canary is not None:
        return state.canary.revision, state.canary.started_at
    if state.target is not None and state.target.reason in (MoveReason.ROLLBACK, MoveReason.RECOVERY):
        return state.target.revision, state.target.started_at
    return None, None


def failed(state: State, failure: Failure) -> State:
    """`state` with the failure added; a revision has at most one."""
    others = tuple(old for old in state.failed if old.revision != failure.revision)
    return replace(state, failed=(*others, failure))


def forget_failures(facts: Facts, state: State) -> State:
    """Drop failures of revisions that the alias and the spec no longer lead to."""
    if not state.failed or facts.forward_blocker is not None or facts.named is None:
        return state
    kept = tuple(failure for failure in state.failed if failure.revision == facts.named)
    return replace(state, failed=kept) if kept != state.failed else state


def _exam(facts: Facts, revision: Revision) -> Failure | None:
    """Counts whenever the exam was taken, because the same content would fail again."""
    exam = facts.failed_exam(revision)
    if exam is None:
        return None
    return Failure(revision, exam_reason(exam), facts.now, f"exam: {exam.message}"[:_MESSAGE])


def exam_reason(exam: Exam) -> Reason:
    """The condition reason for an exam that was not passed."""
    return Reason.EXAM_INVALID if exam.outcome is ExamOutcome.INVALID else Reason.EXAM_FAILED


def _crash(facts: Facts, revision: Revision, started: datetime) -> Failure | None:
    trouble = facts.view(revision).trouble
    if trouble is None or not facts.crashed_since(revision, started):
        return None
    reason = Reason.CRASHED if trouble.kind is TroubleKind.CRASHED else Reason.CRASHED_LOADING
    return Failure(revision, reason, facts.now, trouble.message[:_MESSAGE])


def _deadline(facts: Facts, state: State, revision: Revision, started: datetime) -> Failure | None:
    ends = deadline(facts, state, revision, started)
    if ends is None or ends > facts.now:
        return None
    waited = duration.render(facts.policy.progress_deadline)
    message = f"its pods made no progress for {waited}, and no infrastructure problem was found"
    return Failure(revision, Reason.PROGRESS_DEADLINE_EXCEEDED, facts.now, message)


def deadline(facts: Facts, state: State, revision: Revision, started: datetime) -> datetime | None:
    """When the revision fails because its pods make no progress; None while the clock is stopped.

    The clock runs only while pods are awaited; never during a pull, infrastructure trouble, or a suspension.
    """
    view = facts.view(revision)
    wanted = facts.needed(sizing_weight(state.canary)) if state.canary is not None else facts.full_replicas
    if facts.ready(revision) >= wanted or view.pulling or facts.policy.suspend:
        return None
    if facts.infrastructure_trouble(revision) or not view.deployed:
        return None
    if view.ready >= view.replicas:
        return None  # all requested pods are ready; the total was raised and the Deployment is about to be scaled
    marks = [started]
    if view.lacking_since is not None:
        marks.append(view.lacking_since)  # a pod lost after a long pause gets the whole deadline again
    if view.progress_at is not None:
        marks.append(view.progress_at)
    if state.canary is not None and state.canary.look_after is not None:
        marks.append(state.canary.look_after)  # time in a pause does not count
    return max(marks) + facts.policy.progress_deadline
