"""`spec.replicas: 0` is idle: traffic is removed first, then the pods; when scaled up, the stable starts first."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelsync.rollout import plan
from modelsync.rollout.model import (
    BLOCKED,
    Canary,
    EnsureRevision,
    Failure,
    MoveReason,
    Observed,
    Outcome,
    PointService,
    Previous,
    Remove,
    Scale,
    SetRoute,
    State,
    Target,
    Trouble,
    TroubleKind,
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
    cold,
    conditions,
    down,
    in_canary,
    reads,
    route,
    status_of,
    up,
    world,
)

IDLE = replace(POLICY, replicas=0)
BLOCKED_ROUTE = route((BLOCKED, 1))
ASLEEP = down(V2, 0, unready_since=LONG_AGO)
"""The stable, without pods."""


def asleep(**changes: object) -> Observed:
    """Nothing runs, and the blocked route has settled."""
    values: dict[str, object] = {"views": (cold(V1), ASLEEP), "route": BLOCKED_ROUTE, "service": BLOCKED}
    return world(**{"policy": IDLE, **values, **changes})


def test_the_traffic_goes_before_the_pods() -> None:
    going = world(policy=IDLE)
    assert plan(going).actions == (SetRoute(((BLOCKED, 1),), "spec.replicas is 0"),)
    going = replace(going, route=route((BLOCKED, 1), since=JUST_NOW))
    assert plan(going).actions == (PointService(BLOCKED),)
    going = replace(going, service=BLOCKED)
    assert plan(going).actions == (), "the data plane may not know yet"
    settled = replace(going, now=NOW + timedelta(seconds=5))
    assert plan(settled).actions == (Scale(V2, 0),)


def test_without_a_gateway_the_service_selects_nothing_before_the_pods_go() -> None:
    going = world(policy=replace(IDLE, gateway=False), route=None)
    assert plan(going).actions == (PointService(BLOCKED),)
    assert plan(replace(going, service=BLOCKED)).actions == (Scale(V2, 0),)


def test_warm_pods_go_too_and_come_back_while_their_time_lasts() -> None:
    state = State(promoted=(V1, V2), previous=Previous(V1, NOW + timedelta(minutes=10)))
    world_of = asleep(views=(up(V1, 1), ASLEEP), state=state)
    made = plan(world_of)
    assert made.actions == (Scale(V1, 0),)
    assert made.state.previous == state.previous
    woken = replace(world_of, policy=POLICY, revisions={V1: down(V1, 0), V2: up(V2)})
    assert Scale(V1, 1) in plan(replace(woken, route=route((V2, 100)), service=V2)).actions


def test_idle_and_at_rest_nothing_is_written() -> None:
    made = plan(asleep())
    assert made.actions == ()
    assert made.state == asleep().state


def test_going_idle_ends_a_canary_and_nothing_fails() -> None:
    made = plan(in_canary(policy=IDLE))
    assert made.state.canary is None
    assert made.state.failed == ()
    assert [(each.revision, each.outcome) for each in made.finished] == [(V3, Outcome.TAKEN_BACK)]
    assert made.actions == (SetRoute(((BLOCKED, 1),), "spec.replicas is 0"),)


@pytest.mark.parametrize("reason", MoveReason)
def test_going_idle_ends_any_move(reason: MoveReason) -> None:
    state = State(promoted=(V1, V2), target=Target(V1, reason, LONG_AGO))
    assert plan(world(policy=IDLE, views=(down(V1), up(V2)), state=state)).state.target is None


def test_nothing_begins_while_idle() -> None:
    for named in (V1, V3):
        made = plan(asleep(named=named))
        assert made.actions == ()
        assert made.state == asleep().state


def test_before_the_first_version_idle_starts_nothing() -> None:
    made = plan(asleep(state=State(), views=(), route=None, service=None, named=V1))
    assert made.actions == ()
    assert made.state == State()


def test_from_none_the_stable_starts_and_has_the_traffic_when_a_pod_is_ready() -> None:
    woken = asleep(policy=POLICY)
    assert plan(woken).actions == (Scale(V2, 2),)
    starting = replace(woken, revisions={**woken.revisions, V2: down(V2, 2)})
    assert plan(starting).actions == ()
    ready = replace(woken, revisions={**woken.revisions, V2: up(V2, 1, replicas=2)})
    assert next(action for action in plan(ready).actions if isinstance(action, SetRoute)).weights == ((V2, 100),)


def test_an_unproven_version_waits_until_the_woken_stable_serves() -> None:
    woken = asleep(policy=POLICY, named=V3, views=(cold(V1), down(V2, 2, unready_since=LONG_AGO)))
    made = plan(woken)
    assert made.state.canary is None
    assert [(wait.reason, wait.revision) for wait in made.waits] == [("Starting", V2)]
    serving = replace(woken, route=route((V2, 100)), service=V2, revisions={V1: cold(V1), V2: up(V2)})
    assert plan(serving).state.canary is not None


def test_a_woken_stable_that_cannot_start_does_not_keep_another_version_from_starting() -> None:
    trouble = Trouble(TroubleKind.PULL_FAILED, "the version is deleted")
    broken = down(V2, 2, unready_since=LONG_AGO, trouble=trouble)
    made = plan(asleep(policy=POLICY, named=V3, views=(cold(V1), broken)))
    assert made.state.canary is not None
    assert made.state.canary.revision == V3


def test_the_alias_back_while_idle_starts_that_version_and_not_the_one_that_was_left() -> None:
    made = plan(asleep(policy=POLICY, named=V1))
    assert made.state.promoted == (V1,)
    assert made.state.target is None
    assert made.actions == (EnsureRevision(V1, 2),)


def test_a_hold_on_the_stable_is_latched_while_idle_and_its_fallback_starts() -> None:
    held = asleep(holds=reads(V2))
    made = plan(held)
    assert [hold.mark.version for hold in made.state.holds] == ["v2"]
    assert not any(isinstance(action, Scale | EnsureRevision) for action in made.actions)
    woken = plan(replace(held, policy=POLICY, state=made.state))
    assert woken.state.target == Target(V1, MoveReason.FALLBACK, NOW)
    assert EnsureRevision(V1, 2) in woken.actions


def test_a_hold_while_the_pods_still_drain_cuts_them_off() -> None:
    made = plan(asleep(views=(cold(V1), down(V2, 0, pods=2)), holds=reads(V2)))
    assert made.urgent
    assert [type(action).__name__ for action in made.actions] == ["CutOff"]


def test_a_woken_stable_waits_for_the_registry_to_confirm_that_it_is_not_held() -> None:
    unknown = asleep(policy=POLICY, views=(cold(V1), up(V2)), holds={})
    assert plan(unknown).actions == ()
    assert plan(unknown).look


def test_what_is_left_of_a_canary_goes_when_the_route_has_settled() -> None:
    left = asleep(views=(cold(V1), ASLEEP, up(V3, 1)), named=V3)
    assert plan(left).actions == (Remove(V3),)


def test_idle_is_ready_and_not_available() -> None:
    status = status_of(asleep(named=V3))
    by_type = conditions(status)
    assert (status.phase, by_type["Ready"].status, by_type["Ready"].reason) == ("Idle", "True", "Idle")
    assert "clients get 503; v2 (v2-22222222) starts" in by_type["Ready"].message
    assert (by_type["Available"].status, by_type["Available"].reason) == ("False", "Idle")
    assert by_type["SpecApplied"].status == "True"
    assert (status.replicas, status.ready_replicas) == (0, 0)
    assert status.selector is not None
    assert status.waiting is None


def test_idle_names_the_version_the_alias_would_start() -> None:
    assert "v1 (v1-11111111) starts" in conditions(status_of(asleep(named=V1)))["Ready"].message


def test_on_the_way_to_idle_ready_is_unknown() -> None:
    by_type = conditions(status_of(world(policy=IDLE)))
    assert (by_type["Ready"].status, by_type["Ready"].reason) == ("Unknown", "Idle")
    assert by_type["Reconciling"].status == "True"


def test_on_the_way_back_the_status_reports_that_clients_get_503() -> None:
    by_type = conditions(status_of(asleep(policy=POLICY, views=(cold(V1), down(V2, 2)))))
    assert (by_type["Ready"].status, by_type["Ready"].reason) == ("Unknown", "Starting")
    assert "until then clients get 503" in by_type["Ready"].message


def test_a_failure_is_still_reported_while_idle() -> None:
    failed = (Failure(V3, "Crashed", LONG_AGO, "out of memory"),)
    by_type = conditions(status_of(asleep(named=V3, state=State(promoted=(V1, V2), failed=failed))))
    assert by_type["Ready"].reason == "Idle"
    assert by_type["RolledBack"].status == "True"


def test_a_paused_canary_of_an_old_status_is_not_judged_for_pods_that_nobody_wants() -> None:
    canary: Canary = replace(CANARY, started_at=LONG_AGO, look_after=LONG_AGO)
    assert plan(in_canary(canary, view=down(V3, 0, unready_since=LONG_AGO), policy=IDLE)).state.failed == ()
