"""Converts the planner's `State` to fields of `.status` and back.

`load(dump(state)) == state` must hold for every state, or an idle operator would write the status forever. A status
written by an older or newer operator is read as far as possible: a missing field means what it meant before the field
existed.
"""

from dataclasses import asdict
from typing import Any

from modelsync.api import duration
from modelsync.api.hold import HoldMark
from modelsync.api.requests import HandledStatus, Requests
from modelsync.api.routing import HeaderMatch
from modelsync.api.status import (
    CanaryStatus,
    FailureStatus,
    HeaderMatchStatus,
    HoldStatus,
    ModelDeploymentStatus,
    PauseDurationStatus,
    PreviousStatus,
    StepStatus,
    TargetStatus,
)
from modelsync.rollout.model import (
    Canary,
    Failure,
    Hold,
    MoveReason,
    Pause,
    Previous,
    SetMatch,
    SetWeight,
    State,
    Step,
    Target,
)

_MESSAGE = 1024

_MAX_HOLDS = 256
"""The CRD's limit. Holds beyond it are in force too; they are latched again in every pass."""


def load(status: ModelDeploymentStatus) -> State:
    """The intent in `status`; the empty state for an empty status."""
    return State(
        target=_load_target(status.target),
        canary=_load_canary(status.canary),
        promoted=tuple(status.promoted),
        failed=tuple(Failure(item.revision, item.reason, item.at, item.message) for item in status.failed),
        holds=tuple(
            Hold(
                HoldMark(item.digest, item.collection, item.version, item.via, item.name), item.since, item.server or ""
            )
            for item in status.holds
        ),
        previous=Previous(status.previous.revision, status.previous.until) if status.previous else None,
        handled=Requests(**status.handled.model_dump()) if status.handled else Requests(),
    )


def dump(state: State) -> dict[str, Any]:
    """The fields of `ModelDeploymentStatus` that contain intent, by their Python names."""
    return {
        "target": _dump_target(state.target),
        "canary": _dump_canary(state.canary),
        "promoted": state.promoted,
        "failed": tuple(
            FailureStatus(revision=item.revision, reason=item.reason, message=item.message[:_MESSAGE], at=item.at)
            for item in state.failed
        ),
        "holds": tuple(
            HoldStatus(
                digest=hold.mark.digest,
                collection=hold.mark.collection,
                version=hold.mark.version,
                via=hold.mark.via,
                name=hold.mark.name,
                since=hold.since,
                server=hold.server or None,
            )
            for hold in state.holds[:_MAX_HOLDS]
        ),
        "previous": (
            PreviousStatus(revision=state.previous.revision, until=state.previous.until) if state.previous else None
        ),
        "handled": _dump_handled(state.handled),
    }


def _load_target(target: TargetStatus | None) -> Target | None:
    return Target(target.revision, MoveReason(target.reason), target.started_at) if target is not None else None


def _dump_target(target: Target | None) -> TargetStatus | None:
    if target is None:
        return None

    return TargetStatus(revision=target.revision, reason=target.reason.value, started_at=target.started_at)


def _load_canary(canary: CanaryStatus | None) -> Canary | None:
    if canary is None:
        return None
    return Canary(
        revision=canary.revision,
        step=canary.step,
        weight=canary.weight,
        steps=tuple(_load_step(step) for step in canary.steps),
        started_at=canary.started_at,
        step_started_at=canary.step_started_at,
        look_after=canary.look_after,
        flapped=canary.flapped,
        promoted_by=canary.promoted_by,
        match=_load_match(canary.match),
    )


def _load_step(step: StepStatus) -> Step:
    if step.match is not None:
        return SetMatch(_load_match(step.match))
    if step.set_weight is not None:
        return SetWeight(step.set_weight)
    if step.pause is None or step.pause.duration is None:
        return Pause()
    try:
        return Pause(duration.parse(step.pause.duration))
    except ValueError:
        return Pause()  # not written by modelsync: a person ends it


def _dump_canary(canary: Canary | None) -> CanaryStatus | None:
    if canary is None:
        return None
    return CanaryStatus(
        revision=canary.revision,
        step=canary.step,
        weight=canary.weight,
        steps=tuple(_dump_step(step) for step in canary.steps),
        started_at=canary.started_at,
        step_started_at=canary.step_started_at,
        look_after=canary.look_after,
        flapped=canary.flapped,
        promoted_by=canary.promoted_by,
        match=_dump_match(canary.match),
    )


def _dump_step(step: Step) -> StepStatus:
    if isinstance(step, SetMatch):
        return StepStatus(match=_dump_match(step.match))
    if isinstance(step, SetWeight):
        return StepStatus(set_weight=step.weight)
    length = duration.render(step.duration) if step.duration is not None else None
    return StepStatus(pause=PauseDurationStatus(duration=length))


def _load_match(match: tuple[HeaderMatchStatus, ...]) -> tuple[HeaderMatch, ...]:
    return tuple(HeaderMatch(each.name, each.value, each.regex) for each in match)


def _dump_match(match: tuple[HeaderMatch, ...]) -> tuple[HeaderMatchStatus, ...]:
    return tuple(HeaderMatchStatus(name=each.name, value=each.value, regex=each.regex) for each in match)


def _dump_handled(handled: Requests) -> HandledStatus | None:
    if handled == Requests():
        return None
    return HandledStatus(**asdict(handled))
