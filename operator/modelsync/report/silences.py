"""How it is told that a held revision has fallen silent: `status.silenced`, and an Event. Nothing is decided here."""

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
    """What this process knows of a revision whose pods were told to fall silent."""

    revision: Revision
    at: datetime
    """When the first of them was told."""
    pods: int
    acknowledged: int
    last_byte: datetime | None


def silenced(
    facts: Facts, state: State, before: Sequence[SilencedStatus], news: Sequence[Silence]
) -> tuple[SilencedStatus, ...]:
    """The entries to tell, oldest first: what was told `before` and is still so, with what came since."""
    entries = {entry.revision: entry for entry in before if not _serves_again(facts, entry.revision)}
    for silence in news:
        since = min((hold.since for hold in state.holds if _concerns(facts, silence, hold.mark.digest)), default=None)
        if since is not None:
            told = entries.get(silence.revision)
            # An operator that took over knows only the pods that were left: what was told of the others stays true.
            same = told if told is not None and told.held_since == since else None
            entries[silence.revision] = _entry(silence, since, same)
    return tuple(sorted(entries.values(), key=lambda entry: (entry.at, entry.revision))[-_MAX_ENTRIES:])


def events(before: Sequence[SilencedStatus], after: Sequence[SilencedStatus]) -> tuple[Event, ...]:
    """What is new in `after`, for people."""
    return tuple(_event(entry) for entry in after if entry not in before)


def _serves_again(facts: Facts, revision: Revision) -> bool:
    return facts.live(revision) > 0 and not facts.held(revision)


def _concerns(facts: Facts, silence: Silence, digest: str) -> bool:
    return digest in facts.view(silence.revision).digests


def _entry(silence: Silence, since: datetime, told: SilencedStatus | None) -> SilencedStatus:
    times = [time for time in (silence.last_byte, told.last_byte if told else None) if time is not None]
    last = max(times, default=None)
    return SilencedStatus(
        revision=silence.revision,
        held_since=since,
        at=min(silence.at, told.at) if told else silence.at,
        last_byte=last,
        within=duration.render(max(last - since, timedelta(0))) if last is not None else None,
        pods=max(silence.pods, told.pods) if told else silence.pods,
        acknowledged=max(silence.acknowledged, told.acknowledged) if told else silence.acknowledged,
    )


def _event(entry: SilencedStatus) -> Event:
    whole = entry.acknowledged == entry.pods
    if entry.last_byte is None:
        when = "no byte of it had left"
    else:
        when = f"its last byte left at {entry.last_byte:%H:%M:%S.%f} UTC, {entry.within} after the hold was seen"
    who = f"{entry.acknowledged} of {entry.pods} pods acknowledged"
    note = f"{entry.revision} is silent: {when}; {who}"
    if not whole:
        note = f"{entry.revision}: {when}, as far as is known; {who}, all are ended with a short grace"
    return Event("Normal" if whole else "Warning", Reason.SILENCED, "CutOff", note, entry.revision)
