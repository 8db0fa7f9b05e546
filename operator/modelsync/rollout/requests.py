"""User requests by annotation: promote, promote-full, abort, retry, and refresh (query the registry now).

Each is acted on once and echoed in `State.handled`. A request for the wrong revision is also echoed, and answered by a
Warning event, so that an old annotation can never act on a new rollout. This module must never start a move.
"""

from collections.abc import Callable
from dataclasses import replace

from modelsync.api.reasons import Reason
from modelsync.api.requests import MAX_LENGTH, Request, Requests
from modelsync.rollout.facts import Facts
from modelsync.rollout.failing import failed
from modelsync.rollout.model import Failure, MoveReason, Pause, Revision, State
from modelsync.rollout.plan_builder import PlanBuilder

_Handler = Callable[[Facts, State, Request, PlanBuilder], State | None]


def answer(facts: Facts, state: State, builder: PlanBuilder) -> State:
    """Act on new requests. One that cannot be acted on yet stays pending."""
    asked, handled = facts.observed.requests, state.handled
    if asked == handled:
        return state
    asked = Requests(*(_short(getattr(asked, field)) for field in Requests.__dataclass_fields__))
    done: dict[str, str | None] = {}
    for name, handle in _HANDLERS.items():
        value = getattr(asked, name)
        if value == getattr(handled, name):
            continue
        answered = state if value is None else handle(facts, state, Request.parse(value), builder)
        if answered is not None:
            state = answered
            done[name] = value
    if asked.requested_at != handled.requested_at:
        builder.look = builder.look or asked.requested_at is not None
        done["requested_at"] = asked.requested_at
    return replace(state, handled=replace(handled, **done)) if done else state


def _short(value: str | None) -> str | None:
    """Truncated to the length that the status can echo. No revision and no reasonable token is longer."""
    return value if value is None else value[:MAX_LENGTH]


def _promote(facts: Facts, state: State, request: Request, builder: PlanBuilder) -> State | None:
    revision = request.revision
    canary = state.canary
    if canary is None or canary.revision != revision:
        return _ignored(state, "promote", revision, "it is not the canary", builder)
    if facts.forward_blocker is not None:
        return None
    step = canary.steps[canary.step] if canary.step < len(canary.steps) else None
    if step is None:
        return state  # only the promotion is left, which waits for pods and not for a user
    if not isinstance(step, Pause) or canary.step_started_at is None:
        return None  # the pause has not started yet
    builder.normal(Reason.STEP, "Promote", f"{request.who} ended the pause of {revision}", revision)
    return replace(state, canary=replace(canary, step=canary.step + 1, look_after=facts.now))


def _promote_full(facts: Facts, state: State, request: Request, builder: PlanBuilder) -> State | None:
    revision = request.revision
    canary = state.canary
    if canary is None or canary.revision != revision:
        return _ignored(state, "promote-full", revision, "it is not the canary", builder)
    if facts.forward_blocker is not None:
        return None
    builder.normal(Reason.PROMOTING, "Promote", f"{request.who} skipped the remaining steps of {revision}", revision)
    skipped = replace(canary, step=len(canary.steps), look_after=facts.now, promoted_by=request.who)
    return replace(state, canary=skipped)


def _abort(facts: Facts, state: State, request: Request, builder: PlanBuilder) -> State | None:
    revision = request.revision
    target = state.target
    rolling_back = target is not None and target.reason is MoveReason.ROLLBACK and target.revision == revision
    if (state.canary is None or state.canary.revision != revision) and not rolling_back:
        why = "only a canary or a rollback can be aborted; move the alias to serve another version"
        return _ignored(state, "abort", revision, why, builder)
    return failed(state, Failure(revision, Reason.ABORTED, facts.now, f"aborted by {request.who}"))


def _retry(facts: Facts, state: State, request: Request, builder: PlanBuilder) -> State | None:
    revision = request.revision
    if not any(failure.revision == revision for failure in state.failed):
        return _ignored(state, "retry", revision, "it has not failed", builder)
    builder.normal(Reason.RETRIED, "Retry", f"{request.who} requested a retry of {revision}", revision)
    return replace(state, failed=tuple(failure for failure in state.failed if failure.revision != revision))


def _ignored(state: State, request: str, revision: Revision, why: str, builder: PlanBuilder) -> State:
    builder.warning(Reason.REQUEST_IGNORED, "Request", f"{request} of {revision!r} was ignored: {why}")
    return state


_HANDLERS: dict[str, _Handler] = {
    "promote": _promote,
    "promote_full": _promote_full,
    "abort": _abort,
    "retry": _retry,
}
