"""User requests by annotation: each acts once, on the revision that it names, or is ignored with a Warning."""

from dataclasses import replace

import pytest

from modelsync.api.requests import Requests
from modelsync.rollout import plan
from modelsync.rollout.model import Failure, MoveReason, State, Target
from unit.rollout.worlds import CANARY, LONG_AGO, POLICY, V1, V2, V3, down, in_canary, route, routed_first, up, world

OPEN = replace(CANARY, step=3, weight=5)


def test_promote_ends_the_pause_and_is_echoed() -> None:
    made = plan(in_canary(requests=Requests(promote=V3)))
    assert made.state.canary is not None
    assert made.state.canary.step == 2
    assert made.state.handled.promote == V3


def test_promote_acts_once() -> None:
    state = State(promoted=(V1, V2), canary=CANARY, handled=Requests(promote=V3))
    assert plan(in_canary(state=state, requests=Requests(promote=V3))).state == state


def test_promote_with_another_token_acts_again() -> None:
    state = State(promoted=(V1, V2), canary=OPEN, handled=Requests(promote=V3))
    made = plan(in_canary(state=state, requests=Requests(promote=f"{V3}/2")))
    assert made.state.canary is not None
    assert made.state.canary.step == 4


def test_promote_before_the_pause_waits_for_it() -> None:
    bringing_up = replace(CANARY, step=0, weight=0, step_started_at=None)
    made = plan(in_canary(bringing_up, down(V3), route=route((V2, 100)), requests=Requests(promote=V3)))
    assert made.state.handled == Requests()
    assert made.state.canary == bringing_up


def test_promote_waits_while_suspended() -> None:
    made = plan(in_canary(requests=Requests(promote=V3), policy=replace(POLICY, suspend=True)))
    assert made.state.canary == CANARY
    assert made.state.handled == Requests()


def test_promote_full_skips_the_steps_but_not_the_pods() -> None:
    made = plan(in_canary(requests=Requests(promote_full=V3)))
    assert made.state.canary is not None
    assert (made.state.canary.step, made.state.canary.weight) == (len(POLICY.steps), 5)


def test_abort_fails_the_canary() -> None:
    made = plan(in_canary(requests=Requests(abort=V3)))
    assert made.state.canary is None
    assert [(failure.revision, failure.reason) for failure in made.state.failed] == [(V3, "Aborted")]
    assert routed_first(made) == ((V2, 100),)


def test_abort_ends_a_rollback() -> None:
    state = State(promoted=(V1, V2), target=Target(V1, MoveReason.ROLLBACK, LONG_AGO))
    made = plan(world(named=V1, state=state, views=(down(V1), up(V2)), requests=Requests(abort=V1)))
    assert made.state.target is None


def test_retry_forgets_the_failure_and_starts_again() -> None:
    state = State(promoted=(V1, V2), failed=(Failure(V3, "Crashed", LONG_AGO),))
    made = plan(world(named=V3, state=state, requests=Requests(retry=V3)))
    assert made.state.failed == ()
    assert made.state.canary is not None


@pytest.mark.parametrize("request_", ["promote", "promote_full", "abort", "retry"])
def test_a_request_that_names_another_revision_is_refused_and_echoed(request_: str) -> None:
    asked = replace(Requests(), **{request_: "v9-99999999"})
    made = plan(in_canary(requests=asked))
    assert made.state.handled == asked
    assert made.state.canary == CANARY
    assert [(event.type, event.reason) for event in made.events] == [("Warning", "RequestIgnored")]


def test_abort_of_the_stable_names_the_alternative() -> None:
    (event,) = plan(world(requests=Requests(abort=V2))).events
    assert "move the alias" in event.note


def test_a_request_that_is_taken_away_may_come_again() -> None:
    state = State(promoted=(V1, V2), canary=CANARY, handled=Requests(promote=V3))
    assert plan(in_canary(state=state)).state.handled == Requests()


def test_requested_at_asks_for_a_look_once() -> None:
    made = plan(world(requests=Requests(requested_at="now")))
    assert made.look
    assert not plan(world(requests=Requests(requested_at="now"), state=made.state)).look


def test_an_endless_annotation_is_cut_and_acts_once() -> None:
    endless = Requests(abort="x" * 10_000)
    state = plan(world(requests=endless)).state
    assert plan(world(requests=endless, state=state)).events == ()


def test_a_request_reports_its_user() -> None:
    promoted = plan(in_canary(requests=Requests(promote_full=f"{V3}/2/alice@example.com")))
    assert promoted.state.canary is not None
    assert promoted.state.canary.promoted_by == "alice@example.com"
    aborted = plan(in_canary(requests=Requests(abort=f"{V3}/2/alice@example.com")))
    assert [failure.message for failure in aborted.state.failed] == ["aborted by alice@example.com"]
