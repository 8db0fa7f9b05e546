"""The catalogue of events, and the events that follow from a change of the status.

The planner adds events for moves, steps and holds where it decides them (`PlanBuilder`). Events for problems that a
user must fix, and for registry results, are derived here from the first status that contains them. This module must
never decide anything.
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
    """One kind of event, which rules that match events can rely on. `reason` is a reason, or describes which ones."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    when: str


EVENTS: tuple[EventKind, ...] = (
    EventKind("Normal", Reason.ALIAS_MOVED, "Resolve", "an alias now names other content"),
    EventKind("Normal", Reason.FIRST, "Move", "the first version starts, without steps"),
    EventKind("Normal", Reason.STARTED, "Start", "a canary started"),
    EventKind("Normal", Reason.STEP, "Step", "a canary completed a step"),
    EventKind("Normal", Reason.STEP, "Promote", "a user ended a pause"),
    EventKind("Normal", Reason.PROMOTING, "Promote", "a user skipped the remaining steps"),
    EventKind("Normal", Reason.PROMOTED, "Promote", "a revision became the stable"),
    EventKind("Normal", Reason.ROLLBACK, "Move", "the alias names an earlier version again: a rollback starts"),
    EventKind("Normal", Reason.RECOVERY, "Move", "the stable lost all its pods and the canary takes over"),
    EventKind("Normal", Reason.TAKEN_BACK, "Abort", "a move without steps was cancelled"),
    EventKind("Warning", Reason.TAKEN_BACK, "Abort", "a canary lost its traffic"),
    EventKind("Warning", Reason.SUPERSEDED, "Abort", "a newer version replaced the canary"),
    EventKind("Warning", Reason.FLAPPED, "Step", "a canary lost all its pods"),
    EventKind("Warning", Reason.FAILED, "Judge", "a revision failed and will not be retried"),
    EventKind("Warning", Reason.FAILED, "Abort", "a canary lost its traffic because it failed"),
    EventKind("Normal", Reason.RETRIED, "Retry", "a user requested a retry of a failed revision"),
    EventKind(
        "Warning", Reason.REQUEST_IGNORED, "Request", "a request annotation does not apply to the current rollout"
    ),
    EventKind("Warning", Reason.REGULATORY_HOLD, "Hold", "a hold was detected"),
    EventKind("Warning", Reason.REGULATORY_HOLD, "Abort", "a canary lost its traffic because it is on hold"),
    EventKind("Normal", Reason.FALLBACK, "Move", "the stable is on hold and an earlier version takes over"),
    EventKind(
        "Normal", Reason.SILENCED, "CutOff", "all pods of a held version acknowledged that they no longer respond"
    ),
    EventKind(
        "Warning", Reason.SILENCED, "CutOff", "some of its pods did not; they are terminated with a short grace period"
    ),
    EventKind("Normal", Reason.HOLD_LIFTED, "Hold", "a hold was lifted"),
    EventKind(
        "Warning", Reason.STALE, "Hold", "the hold marks of what serves have not been read for `hold.maxStaleness`"
    ),
    EventKind("Normal", Reason.FRESH, "Hold", "they are read again"),
    EventKind("Warning", "the reason of Stalled", "Stall", "a user must act: the condition Stalled became True"),
    EventKind("Warning", "the reason of ModelResolved", "Resolve", "the alias can no longer be resolved"),
    EventKind("Normal", Reason.RESOLVED, "Resolve", "the alias can be resolved again"),
)
"""Every kind of event on a ModelDeployment."""


def transitions(
    before: ModelDeploymentStatus, after: ModelDeploymentStatus, others: Iterable[Event] = ()
) -> tuple[Event, ...]:
    """Events for what is new in `after`, without those that duplicate one of this pass's `others`."""
    reasons = {event.reason for event in others}
    events = [*_alias_moved(before.resolved, after.resolved), *_registry(before, after), *_holds_known(before, after)]
    stalled, was = find(after.conditions, ConditionType.STALLED), find(before.conditions, ConditionType.STALLED)
    is_new = stalled is not None and (was is None or was.reason != stalled.reason)
    if stalled is not None and is_new and Reason.FAILED not in reasons and stalled.reason != Reason.REGULATORY_HOLD:
        events = [event for event in events if event.reason != stalled.reason]
        events.append(Event("Warning", stalled.reason, "Stall", stalled.message))
    return tuple(events)


def _alias_moved(before: ResolvedStatus | None, after: ResolvedStatus | None) -> Iterable[Event]:
    if before is None or after is None or before.first_seen == after.first_seen:
        return ()
    if before.alias == after.alias and before.collection == after.collection and before.digest != after.digest:
        note = f"{after.collection}:{after.alias} now names {after.version} (was {before.version})"
    else:
        note = f"the spec's references now name {_versions(after)} (were {_versions(before)})"
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


def _holds_known(before: ModelDeploymentStatus, after: ModelDeploymentStatus) -> Iterable[Event]:
    was, now = (find(status.conditions, ConditionType.HOLDS_KNOWN) for status in (before, after))
    if now is not None and now.status == "False" and (was is None or was.status != "False"):
        return (Event("Warning", Reason.STALE, "Hold", now.message),)
    if was is not None and was.status == "False" and now is not None and now.status == "True":
        return (Event("Normal", Reason.FRESH, "Hold", now.message),)
    return ()


def _not_asked_yet(condition: Condition) -> bool:
    """Whether the registry has not been queried yet, as after a start of the operator: not worth an event."""
    return condition.reason == Reason.RESOLVING
