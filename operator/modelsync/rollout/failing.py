"""Who has failed: a bad model is not tried again, bad infrastructure is waited for (DESIGN §3, "Failing").

Only a canary, a canary that took over, and the target of a way back are judged; a first version and a fallback are not,
because nothing better is there to go back to. Nothing here takes anything back: `goal` and `moves` see the failure.
"""

from dataclasses import replace
from datetime import datetime

from modelsync.api import duration
from modelsync.api.reasons import Reason
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import Exam, ExamOutcome, Failure, MoveReason, Revision, State, TroubleKind
from modelsync.rollout.plan_builder import PlanBuilder
from modelsync.rollout.steps import sized_for

_MESSAGE = 512
"""Characters of a container's last words that are kept with a failure."""


def judge(facts: Facts, state: State, builder: PlanBuilder) -> State:
    """A canary, or the target of a way back, that failed its exam, crashed or made no progress has failed."""
    revision, started = _judged(state)
    if revision is None or started is None or any(failure.revision == revision for failure in state.failed):
        return state
    failure = _exam(facts, revision) or _crash(facts, revision, started) or _deadline(facts, state, revision, started)
    if failure is None:
        return state
    builder.warning(Reason.FAILED, "Judge", f"{revision} has failed: {failure.message}", revision)
    return failed(state, failure)


def _judged(state: State) -> tuple[Revision | None, datetime | None]:
    if state.canary is not None:
        return state.canary.revision, state.canary.started_at
    if state.target is not None and state.target.reason in (MoveReason.ROLLBACK, MoveReason.RECOVERY):
        return state.target.revision, state.target.started_at
    return None, None


def failed(state: State, failure: Failure) -> State:
    """`state` with the failure noted; a revision has at most one."""
    others = tuple(old for old in state.failed if old.revision != failure.revision)
    return replace(state, failed=(*others, failure))


def forget_failures(facts: Facts, state: State) -> State:
    """A failure counts until the alias, or the spec, has left the revision."""
    if not state.failed or facts.not_forward is not None or facts.named is None:
        return state
    kept = tuple(failure for failure in state.failed if failure.revision == facts.named)
    return replace(state, failed=kept) if kept != state.failed else state


def _exam(facts: Facts, revision: Revision) -> Failure | None:
    """Whenever it was taken: the same content would fail again."""
    exam = facts.flunked(revision)
    if exam is None:
        return None
    return Failure(revision, exam_reason(exam), facts.now, f"its own exam: {exam.message}"[:_MESSAGE])


def exam_reason(exam: Exam) -> Reason:
    """The reason under which an exam that was not passed is told."""
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
    message = f"no progress of its pods for {waited}, and nothing but the model explains it"
    return Failure(revision, Reason.PROGRESS_DEADLINE_EXCEEDED, facts.now, message)


def deadline(facts: Facts, state: State, revision: Revision, started: datetime) -> datetime | None:
    """When the revision fails for want of progress, or None while the clock stands: it runs only while pods are waited
    for, and never for a pull, for trouble of the infrastructure, or while forward moves are suspended."""
    view = facts.view(revision)
    wanted = facts.needed(sized_for(state.canary)) if state.canary is not None else facts.full
    if facts.ready(revision) >= wanted or view.pulling or facts.policy.suspend:
        return None
    if facts.infrastructure_trouble(revision) or not view.deployed:
        return None
    if view.ready >= view.replicas:
        return None  # all that were asked for are there: the total has grown, and more are about to be asked for
    marks = [started]
    if view.lacking_since is not None:
        marks.append(view.lacking_since)  # after hours in a pause, a pod that is lost has as long as the first had
    if view.progress_at is not None:
        marks.append(view.progress_at)
    if state.canary is not None and state.canary.look_after is not None:
        marks.append(state.canary.look_after)  # a pause does not count
    return max(marks) + facts.policy.progress_deadline
