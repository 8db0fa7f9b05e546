"""The status shows when a held revision sent its last byte, until the revision serves again."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from modelsync.api.status import ModelDeploymentStatus, SilencedStatus
from modelsync.report.report import report
from modelsync.report.silences import Silence, events
from modelsync.rollout import plan
from modelsync.rollout.model import Hold, Observed, State
from unit.rollout.worlds import LONG_AGO, NOW, V1, V2, mark, reads, route, up, world

SINCE = NOW - timedelta(seconds=2)
LAST = SINCE + timedelta(milliseconds=210)
SILENCE = Silence(V2, at=SINCE + timedelta(milliseconds=100), pods=2, acknowledged=2, last_byte=LAST)


def held(**changes: object) -> Observed:
    """v2 was the stable when it was put on hold; v1 serves."""
    state = State(promoted=(V1, V2), holds=(Hold(mark(V2), SINCE),))
    views = {V1: up(V1), V2: up(V2, 0)}
    return world(**{"state": state, "revisions": views, "route": route((V1, 100)), "holds": reads(V2), **changes})


def entries(
    observed: Observed, *silences: Silence, before: Sequence[SilencedStatus] = ()
) -> tuple[SilencedStatus, ...]:
    previous = ModelDeploymentStatus(silenced=tuple(before))
    return report(observed, plan(observed), previous, name="chat", silences=silences).status.silenced


def test_the_time_from_the_hold_to_the_last_byte_is_reported() -> None:
    [entry] = entries(held(), SILENCE)

    assert (entry.revision, entry.held_since, entry.last_byte) == (V2, SINCE, LAST)
    assert entry.within == "210ms"
    assert (entry.pods, entry.acknowledged) == (2, 2)


def test_an_entry_stays_while_the_hold_does_and_nothing_new_is_known() -> None:
    before = entries(held(), SILENCE)

    assert entries(held(), before=before) == before


def test_an_operator_that_took_over_adds_to_what_was_reported() -> None:
    before = entries(held(), SILENCE)
    later = replace(SILENCE, at=NOW, pods=1, acknowledged=1, last_byte=None)

    assert entries(held(), later, before=before) == before


def test_a_later_hold_is_reported_again() -> None:
    earlier = SILENCE
    before = entries(held(state=State(promoted=(V1, V2), holds=(Hold(mark(V2), LONG_AGO),))), earlier)

    [entry] = entries(held(), replace(SILENCE, pods=1, acknowledged=1), before=before)

    assert (entry.held_since, entry.pods) == (SINCE, 1)


def test_an_entry_stays_after_the_hold_until_the_revision_serves_again() -> None:
    before = entries(held(), SILENCE)
    lifted = State(promoted=(V1, V2), holds=())

    free = held(state=lifted, holds=reads())
    assert entries(free, before=before) == before

    serving = held(state=lifted, holds=reads(), route=route((V2, 100)), revisions={V1: up(V1), V2: up(V2)})
    assert entries(serving, before=before) == ()


def test_what_is_known_of_a_revision_that_is_not_held_any_more_is_not_reported_again() -> None:
    assert entries(held(state=State(promoted=(V1, V2)), holds=reads()), SILENCE) == ()


def test_a_revision_that_was_silent_when_the_hold_came_took_no_time() -> None:
    [entry] = entries(held(), replace(SILENCE, last_byte=LONG_AGO))

    assert (entry.last_byte, entry.within) == (LONG_AGO, "0s")


def test_the_event_names_the_time_and_warns_when_a_pod_did_not_acknowledge() -> None:
    whole = entries(held(), SILENCE)
    [event] = events((), whole)
    assert (event.type, event.reason, event.revision) == ("Normal", "Silenced", V2)
    assert "210ms after the hold was detected; 2 of 2 pods acknowledged" in event.note
    assert events(whole, whole) == ()

    [event] = events((), entries(held(), replace(SILENCE, acknowledged=1)))
    assert event.type == "Warning"
    assert "1 of 2 pods acknowledged" in event.note

    [event] = events((), entries(held(), replace(SILENCE, last_byte=None)))
    assert "it had sent no response byte" in event.note
