"""Knowledge of hold marks that is too old: what stops, what goes on, and how traffic returns."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from modelsync.api.hold import OnStale
from modelsync.api.reasons import Reason
from modelsync.rollout import plan
from modelsync.rollout.model import (
    BLOCKED,
    Action,
    CutOff,
    HoldRead,
    MoveReason,
    Observed,
    Plan,
    PointService,
    Problem,
    RegistryOutcome,
    RegistryView,
    Remove,
    Scale,
    SetRoute,
    State,
    Target,
)
from unit.rollout.worlds import (
    CANARY,
    JUST_NOW,
    LONG_AGO,
    NOW,
    POLICY,
    V1,
    V2,
    V3,
    candidate,
    cold,
    in_canary,
    mark,
    read,
    reads,
    route,
    up,
    world,
)

LIMIT = timedelta(minutes=5)
SERVE = replace(POLICY, max_staleness=LIMIT)
BLOCK = replace(SERVE, on_stale=OnStale.BLOCK)
UNREACHABLE = RegistryView(RegistryOutcome.UNREACHABLE, candidate(V2), LONG_AGO)


def aged(*stale: str, age: timedelta = LIMIT) -> dict[str, HoldRead]:
    """A fresh answer for every version, except that the marks of `stale` were last read `age` ago."""
    return {**reads(), **{f"digest-{each[:2]}": read(each, asked_at=NOW - age) for each in stale}}


def routed(made: Plan) -> tuple[tuple[str, int], ...] | None:
    return next((action.weights for action in made.actions if isinstance(action, SetRoute)), None)


def waits(made: Plan) -> list[tuple[Reason, str | None]]:
    return [(wait.reason, wait.revision) for wait in made.waits]


def takes_pods(action: Action) -> bool:
    return isinstance(action, CutOff | Remove) or (isinstance(action, Scale) and action.replicas == 0)


# --- forward ---------------------------------------------------------------------------------------------------------


def test_a_rollout_does_not_start_on_marks_that_are_too_old() -> None:
    made = plan(world(policy=SERVE, named=V3, holds=aged(V3)))
    assert made.state.canary is None
    assert waits(made) == [(Reason.HOLDS_STALE, None)]
    fresh = plan(world(policy=SERVE, named=V3, holds=aged(V3, age=LIMIT - timedelta(seconds=1))))
    assert fresh.state.canary is not None


def test_a_first_version_does_not_start_on_marks_that_are_too_old() -> None:
    empty = world(policy=SERVE, named=V3, holds=aged(V3), state=State(), views=(), route=None, service=None)
    assert plan(empty).state.target is None


def test_a_canary_takes_no_step_on_marks_that_are_too_old() -> None:
    over = replace(CANARY, step_started_at=LONG_AGO)
    assert plan(in_canary(over, policy=SERVE, holds=aged(V3))).state.canary == over
    moved = plan(in_canary(over, policy=SERVE)).state.canary
    assert moved is not None
    assert moved.step > over.step


def test_a_stable_whose_marks_are_too_old_does_not_stop_the_move_away_from_it() -> None:
    """Its server may be gone for good."""
    assert plan(world(policy=SERVE, named=V3, holds=aged(V2))).state.canary is not None


@pytest.mark.parametrize("policy", [SERVE, BLOCK])
def test_going_back_needs_no_fresh_knowledge_of_what_is_left(policy: Any) -> None:
    made = plan(world(policy=policy, named=V1, views=(up(V1), up(V2)), holds=aged(V2)))
    assert made.state.target == Target(V1, MoveReason.ROLLBACK, NOW)


def test_an_abort_needs_no_fresh_knowledge() -> None:
    made = plan(in_canary(policy=SERVE, named=V2, holds=aged(V2, V3)))
    assert made.state.canary is None
    assert routed(made) == ((V2, 100),)


def test_going_back_to_marks_that_are_too_old_waits_where_nothing_stale_may_serve() -> None:
    back = world(policy=BLOCK, named=V1, views=(up(V1), up(V2)), holds=aged(V1))
    assert plan(back).state.target is None
    assert waits(plan(back)) == [(Reason.HOLDS_STALE, V1)]
    assert plan(replace(back, policy=SERVE)).state.target is not None


# --- what serves -----------------------------------------------------------------------------------------------------


def test_what_serves_goes_on_serving_by_default() -> None:
    made = plan(world(policy=SERVE, holds=aged(V2), registry=UNREACHABLE))
    assert made.actions == ()
    assert made.state == world().state


@pytest.mark.parametrize("gateway", [True, False])
def test_what_serves_is_blocked_if_the_administrator_says_so_and_keeps_its_pods(gateway: bool) -> None:
    policy = replace(BLOCK, gateway=gateway)
    observed = world(policy=policy, holds=aged(V2), registry=UNREACHABLE)
    made = plan(observed if gateway else replace(observed, route=None))
    assert routed(made) == (((BLOCKED, 1),) if gateway else None)
    assert PointService(BLOCKED) in made.actions
    assert made.urgent, "a refused status write must not keep it reachable"
    assert not any(map(takes_pods, made.actions))
    assert made.state.holds == ()
    assert made.state.promoted == (V1, V2)


def test_a_blocked_one_stays_blocked_and_its_pods_stay_in_the_passes_after() -> None:
    blocked = world(policy=BLOCK, holds=aged(V2), registry=UNREACHABLE, route=route((BLOCKED, 1)), service=BLOCKED)
    assert plan(blocked).actions == ()
    assert waits(plan(blocked)) == [(Reason.HOLDS_STALE, V2)]


def test_traffic_returns_at_once_when_the_marks_are_read_again() -> None:
    made = plan(world(policy=BLOCK, route=route((BLOCKED, 1)), service=BLOCKED))
    assert routed(made) == ((V2, 100),)
    assert made.state == world().state


def test_a_canary_whose_marks_are_too_old_gives_its_share_to_the_stable_and_gets_it_back() -> None:
    half = replace(CANARY, step=3, weight=50)
    views = (cold(V1), up(V2), up(V3))
    stale = in_canary(half, policy=BLOCK, holds=aged(V3), views=views, route=route((V2, 50), (V3, 50)))
    made = plan(stale)
    assert routed(made) == ((V2, 100), (V3, 0))
    kept = made.state.canary
    assert kept is not None
    assert (kept.weight, kept.step) == (50, 3)
    assert kept.step_started_at is None, "a pause measures time with traffic"
    again = plan(replace(stale, state=made.state, holds=reads(), route=route((V2, 100), (V3, 0))))
    assert routed(again) == ((V2, 50), (V3, 50))


def test_rules_to_what_is_too_old_go_too() -> None:
    policy = replace(BLOCK, test_header=True, sessions=True)
    observed = in_canary(policy=policy)
    with_rules = next(action for action in plan(observed).actions if isinstance(action, SetRoute))
    assert any(rule.revision == V3 for rule in with_rules.rules)
    live = replace(route(*with_rules.weights), rules=with_rules.rules)
    made = plan(replace(observed, holds=aged(V3), route=live))
    action = next(action for action in made.actions if isinstance(action, SetRoute))
    assert not any(rule.revision == V3 for rule in action.rules)


def test_a_route_that_must_not_be_written_is_blocked_all_the_same() -> None:
    conflict = (Problem(Reason.CONFLICT, "somebody else has this host", blocks_route=True),)
    assert routed(plan(world(policy=BLOCK, holds=aged(V2), problems=conflict))) == ((BLOCKED, 1),)


def test_a_canary_does_not_take_over_a_dead_stable_on_marks_that_are_too_old() -> None:
    dead = up(V2, 0, replicas=2, pods=2, unready_since=LONG_AGO)
    observed = in_canary(policy=BLOCK, views=(cold(V1), dead, up(V3, 1)), holds=aged(V3))
    assert plan(observed).state.target is None
    assert plan(replace(observed, holds=reads())).state.target is not None


# --- what was never read ---------------------------------------------------------------------------------------------


def unread(since: datetime) -> Observed:
    return world(policy=BLOCK, holds={}, views=(cold(V1), up(V2, unread_since=since)), registry=UNREACHABLE)


def test_a_process_that_has_read_nothing_counts_from_when_it_looked() -> None:
    assert plan(unread(JUST_NOW)).actions == ()
    assert routed(plan(unread(NOW - LIMIT))) == ((BLOCKED, 1),)


def test_the_planner_wakes_when_knowledge_becomes_too_old() -> None:
    assert plan(world(policy=SERVE, holds=aged(V2, age=timedelta(minutes=2)))).requeue_after == timedelta(minutes=3)
    assert plan(unread(NOW - timedelta(minutes=1))).requeue_after == timedelta(minutes=4)
    assert plan(world(policy=SERVE, holds=aged(V2))).requeue_after is None, (
        "it is told, and only an answer changes that"
    )


# --- a record that vanishes ------------------------------------------------------------------------------------------

HELD = State(promoted=(V1, V2), holds=plan(world(holds=reads(V2))).state.holds)


def test_a_record_that_vanishes_does_not_end_a_hold() -> None:
    nameless = up(V2, digests=(), content="", recorded=False)
    made = plan(world(state=HELD, views=(cold(V1), nameless), holds={}, registry=UNREACHABLE, named=None))
    assert CutOff(V2) in made.actions
    assert routed(made) == ((BLOCKED, 1),)
    assert made.state.holds == HELD.holds


def test_without_a_hold_a_version_whose_record_vanished_serves_on() -> None:
    made = plan(world(views=(cold(V1), up(V2, digests=(), content="", recorded=False))))
    assert routed(made) is None
    assert not any(map(takes_pods, made.actions))


def test_an_entry_of_the_stack_that_left_no_trace_does_not_keep_the_others_from_serving() -> None:
    """V1 is in the stack, and neither its record nor a pod is left: the fallback is chosen without it."""
    state = State(promoted=(V3, V1, V2))
    made = plan(world(state=state, views=(up(V3), up(V2)), holds=reads(V2)))
    assert made.state.target is not None
    assert made.state.target.revision == V3
    assert routed(made) == ((V3, 100),)


def test_a_stable_that_left_no_trace_is_replaced_although_another_hold_is_in_force() -> None:
    held = State(promoted=(V2,), holds=plan(world(holds=reads(V1))).state.holds)
    made = plan(world(state=held, named=V3, views=(cold(V1),), holds=reads(V1), route=route((V2, 100))))
    assert made.state.target is not None
    assert made.state.target.revision == V3


def test_a_hold_that_is_lifted_ends_only_when_pods_of_unknown_content_are_gone() -> None:
    """They may have blown their fuses, and would never serve again."""
    lifted = {**reads(), "digest-v1": read(V1)}
    held = State(promoted=(V1, V2), holds=plan(world(holds={**reads(), "digest-v1": read(V1, mark(V1))})).state.holds)
    nameless = up("v9-99999999", digests=(), content="", recorded=False, replicas=0, deployed=False)
    observed = world(state=held, views=(cold(V1), up(V2), nameless), holds=lifted, now=NOW + timedelta(seconds=9))
    later = {key: replace(each, asked_at=NOW + timedelta(seconds=5)) for key, each in lifted.items()}
    assert plan(replace(observed, holds=later)).state.holds
    gone = {name: view for name, view in observed.revisions.items() if name != nameless.revision}
    assert not plan(replace(observed, holds=later, revisions=gone)).state.holds
