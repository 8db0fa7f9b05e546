"""`status.history`: past moves and how they ended. Must never decide anything."""

from collections.abc import Callable
from datetime import datetime
from itertools import pairwise

from modelsync.api.parts import MODEL
from modelsync.api.reasons import Reason
from modelsync.api.status import HistoryEntry
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import Finished, MoveReason, Outcome, Plan, Revision, RevisionView
from modelsync.rollout.part_names import difference

_LENGTH = 20
"""Entries that are kept."""


def history(facts: Facts, plan: Plan, before: tuple[HistoryEntry, ...]) -> tuple[HistoryEntry, ...]:
    """`before`, oldest first, plus the moves that ended in this pass."""
    entries = before
    for finished in plan.finished:
        if finished.outcome is Outcome.PROMOTED:
            entries = tuple(_closed(entry, facts.now) for entry in entries)
        entries = (*entries, _entry(facts, finished, plan))
    return entries[-_LENGTH:]


def displaced_by_hold(
    entries: tuple[HistoryEntry, ...], stable: Revision, held: Callable[[Revision], bool]
) -> Revision | None:
    """The held revision that `stable` replaced, directly or through further fallbacks; None if there is none."""
    promoted = [entry for entry in reversed(entries) if entry.outcome == Outcome.PROMOTED.value]
    if not promoted or promoted[0].revision != stable:
        return None
    for entry, before in pairwise(promoted):
        if entry.reason != MoveReason.FALLBACK:
            return None
        if held(before.revision):
            return before.revision
    return None


def _closed(entry: HistoryEntry, now: datetime) -> HistoryEntry:
    return entry if entry.to is not None else entry.model_copy(update={"to": now})


def _entry(facts: Facts, finished: Finished, plan: Plan) -> HistoryEntry:
    view = facts.view(finished.revision)
    promoted = finished.outcome is Outcome.PROMOTED
    return HistoryEntry(
        revision=finished.revision,
        version=view.version,
        digest=_model_digest(view),
        changed=_changed(facts, finished, plan),
        from_=facts.now if promoted else finished.started_at,
        to=None if promoted else facts.now,
        outcome=finished.outcome.value,
        reason=finished.reason,
        trigger=_trigger(facts, finished, plan),
    )


def _model_digest(view: RevisionView) -> str | None:
    return next((part.digest for part in view.parts if part.key == MODEL), view.digests[0] if view.digests else None)


def _changed(facts: Facts, finished: Finished, plan: Plan) -> str | None:
    """Changed parts compared with the stable; for a new stable, compared with the previous one."""
    before = _stable_before(finished, plan)
    if before is None:
        return None
    return difference(facts.view(before).parts, facts.view(finished.revision).parts) or None


def _stable_before(finished: Finished, plan: Plan) -> Revision | None:
    before = [revision for revision in plan.state.promoted if revision != finished.revision]
    return before[-1] if before else None


def _trigger(facts: Facts, finished: Finished, plan: Plan) -> str:
    if finished.outcome is Outcome.HELD or finished.reason == MoveReason.FALLBACK:
        return "Hold"
    if finished.reason == Reason.ABORTED:
        return "Person"
    if finished.outcome is Outcome.FAILED or finished.reason == MoveReason.RECOVERY:
        return "Pods"
    before = _stable_before(finished, plan)
    if finished.reason == Reason.CANARY and before is not None:
        one, other = facts.view(before), facts.view(finished.revision)
        # The spec adds or removes parts; an alias changes the content of existing parts.
        same_parts = {part.key for part in one.parts} == {part.key for part in other.parts}
        return "Spec" if one.content == other.content or not same_parts else "Alias"
    return "Alias"
