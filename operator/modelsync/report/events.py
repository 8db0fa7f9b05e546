"""Which events there are, and those that follow from one status becoming another. Nothing is decided here.

The planner tells of moves, steps and holds where it decides them (`notes`); what a person has to put right, and what
the registry says, is told when the status that says so is written for the first time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from modelsync.api.conditions import Condition, ConditionType, find
from modelsync.api.reasons import Reason
from modelsync.api.status import ModelDeploymentStatus, ResolvedStatus
from modelsync.rollout.model import Event, Part
from modelsync.rollout.part_names import versions


@dataclass(frozen=True, slots=True)
class EventKind:
    """One sort of event: what a rule that matches events can rely on. `reason` is a word, or says which."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    when: str


EVENTS: tuple[EventKind, ...] = (
    EventKind("Normal", Reason.ALIAS_MOVED, "Resolve", "an alias came to name other content"),
    EventKind("Normal", Reason.FIRST, "Move", "a first version starts, without steps"),
    EventKind("Normal", Reason.STARTED, "Start", "a canary begins"),
    EventKind("Normal", Reason.STEP, "Step", "a canary reached its next step"),
    EventKind("Normal", Reason.STEP, "Promote", "a person ended a pause"),
    EventKind("Normal", Reason.PROMOTING, "Promote", "a person skipped the steps that were left"),
    EventKind("Normal", Reason.PROMOTED, "Promote", "a revision is the stable now"),
    EventKind("Normal", Reason.ROLLBACK, "Move", "the alias went back, and the traffic goes with it"),
    EventKind("Normal", Reason.RECOVERY, "Move", "the stable lost all its pods, and the canary takes over"),
    EventKind("Normal", Reason.TAKEN_BACK, "Abort", "a move without steps ends before it was done"),
    EventKind("Warning", Reason.TAKEN_BACK, "Abort", "a canary lost its traffic"),
    EventKind("Warning", Reason.SUPERSEDED, "Abort", "a third version took a canary's place"),
    EventKind("Warning", Reason.FLAPPED, "Step", "a canary lost all its pods"),
    EventKind("Warning", Reason.FAILED, "Judge", "a revision has failed and is not tried again"),
    EventKind("Warning", Reason.FAILED, "Abort", "a canary lost its traffic because of that"),
    EventKind("Normal", Reason.RETRIED, "Retry", "a person had a failed revision tried again"),
    EventKind("Warning", Reason.REQUEST_IGNORED, "Request", "a person's annotation does not fit what goes on"),
    EventKind("Warning", Reason.REGULATORY_HOLD, "Hold", "a hold was seen"),
    EventKind("Warning", Reason.REGULATORY_HOLD, "Abort", "a canary lost its traffic because of a hold"),
    EventKind("Normal", Reason.FALLBACK, "Move", "a hold is on the stable, and an earlier version takes over"),
    EventKind("Normal", Reason.SILENCED, "CutOff", "all pods of a held version acknowledged that it answers no more"),
    EventKind("Warning", Reason.SILENCED, "CutOff", "some of its pods did not; they are ended with a short grace"),
    EventKind("Normal", Reason.HOLD_LIFTED, "Hold", "a hold is gone"),
    EventKind("Warning", "the reason of Stalled", "Stall", "a person is needed: the condition Stalled became True"),
    EventKind("Warning", "the reason of ModelResolved", "Resolve", "the registry stops to say what the alias names"),
    EventKind("Normal", Reason.RESOLVED, "Resolve", "the registry says again what the alias names"),
)
"""Every sort of event on a ModelDeployment."""


def transitions(
    before: ModelDeploymentStatus, after: ModelDeploymentStatus, told: Iterable[Event] = ()
) -> tuple[Event, ...]:
    """What is new in `after`; what the planner has `told` in this pass is not told in other words again."""
    reasons = {event.reason for event in told}
    events = [*_alias_moved(before.resolved, after.resolved), *_registry(before, after)]
    stalled, was = find(after.conditions, ConditionType.STALLED), find(before.conditions, ConditionType.STALLED)
    news = stalled is not None and (was is None or was.reason != stalled.reason)
    if stalled is not None and news and Reason.FAILED not in reasons and stalled.reason != Reason.REGULATORY_HOLD:
        events = [event for event in events if event.reason != stalled.reason]
        events.append(Event("Warning", stalled.reason, "Stall", stalled.message))
    return tuple(events)


def _alias_moved(before: ResolvedStatus | None, after: ResolvedStatus | None) -> Iterable[Event]:
    if before is None or after is None or before.first_seen == after.first_seen:
        return ()
    if before.alias == after.alias and before.collection == after.collection and before.digest != after.digest:
        note = f"{after.collection}:{after.alias} names {after.version} now, {before.version} before"
    else:
        note = f"the spec's references name {_versions(after)} now, {_versions(before)} before"
    return (Event("Normal", Reason.ALIAS_MOVED, "Resolve", note),)


def _versions(resolved: ResolvedStatus) -> str:
    return versions(resolved.version, [Part(each.part, each.version, each.digest) for each in resolved.parts])


def _registry(before: ModelDeploymentStatus, after: ModelDeploymentStatus) -> Iterable[Event]:
    was, now = (find(status.conditions, ConditionType.MODEL_RESOLVED) for status in (before, after))
    if was is None or now is None or was.status == now.status or _not_asked_yet(was) or _not_asked_yet(now):
        return ()
    if now.status == "True":
        return (Event("Normal", Reason.RESOLVED, "Resolve", now.message),)
    return (Event("Warning", now.reason, "Resolve", now.message),) if was.status == "True" else ()


def _not_asked_yet(condition: Condition) -> bool:
    """After a start nothing is known for a moment, which is no news of the registry."""
    return condition.reason == Reason.RESOLVING
