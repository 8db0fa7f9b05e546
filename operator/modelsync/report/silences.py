"""Reports that a held revision no longer responds: `status.silenced` and an event. Must never decide anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelsync.api import duration
from modelsync.api.reasons import Reason
from modelsync.api.status import SilencedStatus
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import Event, Revision, State

_MAX_ENTRIES = 16


@dataclass(frozen=True, slots=True)
class Silence:
    """What this process knows about a held revision whose pods were ordered to stop responding."""

    revision: Revision
    at: datetime
    """When the first pod was ordered to stop."""
    pods: int
    acknowledged: int
    last_byte: datetime | None


def silenced(
    facts: Facts, state: State, before: Sequence[SilencedStatus], silences: Sequence[Silence]
) -> tuple[SilencedStatus, ...]:
    """The entries of `status.silenced`, oldest first: those of `before` that are still valid, and `silences`."""
    entries = {entry.revision: entry for entry in before if not _serves_again(facts, entry.revision)}
    for silence in silences:
        since = min((hold.since for hold in state.holds if _concerns(facts, silence, hold.mark.digest)), default=None)
        if since is not None:
            old = entries.get(silence.revision)
            # After a failover this process knows only the remaining pods: the entry keeps what it has about the others.
            same = old if old is not None and old.held_since == since else None
            entries[silence.revision] = _entry(silence, since, same)
    return tuple(sorted(entries.values(), key=lambda entry: (entry.at, entry.revision))[-_MAX_ENTRIES:])


def events(before: Sequence[SilencedStatus], after: Sequence[SilencedStatus]) -> tuple[Event, ...]:
    """An event for each entry that is new in `after`."""
    return tuple(_event(entry) for entry in after if entry not in before)


def _serves_again(facts: Facts, revision: Revision) -> bool:
    return facts.live_weight(revision) > 0 and not facts.held(revision)


def _concerns(facts: Facts, silence: Silence, digest: str) -> bool:
    return digest in facts.view(silence.revision).digests


def _entry(silence: Silence, since: datetime, old: SilencedStatus | None) -> SilencedStatus:
    times = [time for time in (silence.last_byte, old.last_byte if old else None) if time is not None]
    last = max(times, default=None)
    return SilencedStatus(
        revision=silence.revision,
        held_since=since,
        at=min(silence.at, old.at) if old else silence.at,
        last_byte=last,
        within=duration.render(max(last - since, timedelta(0))) if last is not None else None,
        pods=max(silence.pods, old.pods) if old else silence.pods,
        acknowledged=max(silence.acknowledged, old.acknowledged) if old else silence.acknowledged,
    )


def _event(entry: SilencedStatus) -> Event:
    all_acknowledged = entry.acknowledged == entry.pods
    if entry.last_byte is None:
        when = "it had sent no response byte"
    else:
        sent = f"{entry.last_byte:%H:%M:%S.%f} UTC, {entry.within} after the hold was detected"
        when = f"its last response byte was sent at {sent}"
    acks = f"{entry.acknowledged} of {entry.pods} pods acknowledged"
    note = f"{entry.revision} no longer responds: {when}; {acks}"
    if not all_acknowledged:
        note = f"{entry.revision}: as far as known, {when}; {acks}; all are terminated with a short grace period"
    return Event("Normal" if all_acknowledged else "Warning", Reason.SILENCED, "CutOff", note, entry.revision)
