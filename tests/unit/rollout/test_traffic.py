"""Shares and pods: what a revision gets, when, and under which conditions."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelsync.rollout import plan
from modelsync.rollout.model import (
    BLOCKED,
    EnsureRevision,
    MoveReason,
    Observed,
    PointService,
    Previous,
    Problem,
    Remove,
    RemoveRoute,
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
    PAUSE,
    POLICY,
    V1,
    V2,
    V3,
    V4,
    cold,
    crash,
    down,
    in_canary,
    reads,
    route,
    up,
    world,
)

FOUR = replace(POLICY, replicas=4)
AT_STEP_3 = replace(CANARY, step=2, look_after=LONG_AGO)


def weights(observed: Observed) -> tuple[tuple[str, int], ...] | None:
    """The routing that this pass writes, or None."""
    return next((action.weights for action in plan(observed).actions if isinstance(action, SetRoute)), None)


def going_back(ready: int, *, stable_ready: int = 4, live: tuple[tuple[str, int], ...]) -> Observed:
    return world(
        named=V1,
        policy=FOUR,
        state=State(promoted=(V1, V2), target=Target(V1, MoveReason.ROLLBACK, LONG_AGO)),
        views=(up(V1, ready, replicas=4), up(V2, stable_ready, replicas=4)),
        route=route(*live),
    )


def test_a_canary_is_listed_with_no_weight_before_it_gets_any() -> None:
    canary = replace(CANARY, step=0, weight=5, step_started_at=None)
    assert weights(in_canary(canary, route=route((V2, 100)))) == ((V2, 100), (V3, 0))


def test_a_greater_share_waits_until_the_route_has_settled() -> None:
    canary = replace(CANARY, step=0, weight=5, step_started_at=None)
    unsettled = in_canary(canary, route=route((V2, 100), (V3, 0), since=NOW - timedelta(seconds=4)))
    assert weights(unsettled) is None
    assert plan(unsettled).requeue_after == timedelta(seconds=1)
    assert weights(replace(unsettled, now=NOW + timedelta(seconds=1))) == ((V2, 95), (V3, 5))


def test_a_smaller_share_does_not_wait() -> None:
    assert weights(in_canary(named=V2, route=route((V2, 95), (V3, 5), since=NOW))) == ((V2, 100),)


def test_a_share_waits_for_the_pods_that_carry_it() -> None:
    waiting = in_canary(replace(AT_STEP_3, weight=5), policy=FOUR)
    made = plan(waiting)
    assert Scale(V3, 2) in made.actions
    assert made.state.canary is not None
    assert made.state.canary.weight == 5


def test_a_share_needs_a_registry_answer_that_is_newer_than_the_pause() -> None:
    over = replace(CANARY, step_started_at=NOW - PAUSE)
    made = plan(in_canary(over))
    assert made.look
    assert made.state.canary is not None
    assert (made.state.canary.step, made.state.canary.weight) == (2, 5)
    assert [wait.reason for wait in made.waits] == ["FreshLook"]


def test_a_canary_that_lost_some_pods_keeps_what_the_rest_carries() -> None:
    half = replace(CANARY, step=3, weight=50)
    views = (cold(V1), up(V2, 4), up(V3, 1, replicas=2))
    lost = in_canary(half, views=views, policy=FOUR, route=route((V2, 50), (V3, 50)))
    assert weights(lost) == ((V2, 75), (V3, 25))
    assert plan(lost).state.canary == half


def test_a_canary_that_lost_all_pods_has_no_weight_until_it_is_ready_for_a_while() -> None:
    lost = in_canary(view=down(V3))
    assert weights(lost) == ((V2, 100),)
    flapped = plan(lost).state
    back = in_canary(
        view=up(V3, 1, ready_since=NOW - timedelta(seconds=29)), state=flapped, route=route((V2, 100), (V3, 0))
    )
    assert weights(back) is None
    later = replace(back, now=NOW + timedelta(seconds=1))
    assert plan(later).state.canary == replace(CANARY, step_started_at=None, look_after=NOW + timedelta(seconds=1))


@pytest.mark.parametrize(("ready", "share"), [(1, 25), (2, 50), (3, 75), (4, 100)])
def test_a_rollback_rises_with_its_ready_pods(ready: int, share: int) -> None:
    assert weights(going_back(ready, live=((V2, 100), (V1, 0)))) == ((V2, 100 - share), (V1, share))


def test_a_rollback_from_a_stable_without_pods_takes_all_at_once() -> None:
    assert weights(going_back(1, stable_ready=0, live=((V2, 100),))) == ((V2, 0), (V1, 100))


def test_a_rollback_from_a_crashing_stable_takes_all_with_one_pod() -> None:
    crashing = going_back(1, live=((V2, 100), (V1, 0)))
    crashing = replace(crashing, revisions={**crashing.revisions, V2: up(V2, 3, replicas=4, trouble=crash())})
    assert weights(crashing) == ((V2, 0), (V1, 100))


def test_a_rollback_is_done_when_all_pods_serve_and_the_route_has_settled() -> None:
    made = plan(going_back(4, live=((V2, 0), (V1, 100))))
    assert made.state.promoted == (V1,)
    assert made.state.target is None
    assert made.actions == (SetRoute(((V1, 100),), f"{V1} is the stable revision"),)


def test_promotion_keeps_the_old_stable_warm_once_the_route_has_settled() -> None:
    promoting = in_canary(replace(CANARY, step=4, weight=100), up(V3), route=route((V2, 0), (V3, 100)))
    made = plan(promoting)
    assert made.state.promoted == (V1, V2, V3)
    assert made.state.previous == Previous(V2, NOW + timedelta(hours=1))
    assert weights(promoting) == ((V3, 100),)
    after = world(
        named=V3,
        state=made.state,
        views=(cold(V1), up(V2), up(V3)),
        route=route((V3, 100), since=NOW - timedelta(seconds=2)),
        service=V3,
    )
    assert plan(after).actions == ()
    assert plan(replace(after, now=NOW + timedelta(seconds=3))).actions == (Scale(V2, 1),)


def test_promotion_waits_for_all_pods() -> None:
    promoting = in_canary(replace(CANARY, step=4, weight=50), up(V3, 1), route=route((V2, 50), (V3, 50)))
    made = plan(promoting)
    assert made.actions == (Scale(V3, 2),)
    assert made.state.promoted == (V1, V2)


def test_the_stable_stays_whole_while_a_canary_runs() -> None:
    assert plan(in_canary(policy=FOUR, views=(cold(V1), up(V2, 2, replicas=2), up(V3, 1)))).actions == (Scale(V2, 4),)


def test_a_stable_follows_the_replicas_of_the_spec() -> None:
    assert plan(world(policy=replace(POLICY, replicas=1))).actions == (Scale(V2, 1),)


def test_a_stable_whose_deployment_was_deleted_is_brought_up_again() -> None:
    assert plan(world(views=(cold(V1), cold(V2)))).actions == (EnsureRevision(V2, 2),)


def test_a_route_that_was_edited_manually_is_corrected() -> None:
    assert weights(world(route=replace(route((V1, 50), (V2, 50)), drifted=True))) == ((V2, 100),)


def test_no_route_is_written_where_another_one_has_the_host() -> None:
    conflict = Problem("Conflict", "another route has chat.example.com", blocks_route=True)
    assert plan(world(route=None, problems=(conflict,))).actions == ()


def test_without_a_gateway_a_route_that_is_left_over_goes() -> None:
    assert plan(world(policy=replace(POLICY, gateway=False))).actions == (RemoveRoute(),)


def test_without_a_gateway_the_service_is_switched_when_all_pods_are_ready() -> None:
    service = replace(POLICY, gateway=False)
    canary = replace(CANARY, steps=(), step=0, weight=0, step_started_at=None)
    half = in_canary(canary, up(V3, 1), policy=service, route=None)
    assert plan(half).actions == (Scale(V3, 2),)
    assert plan(replace(half, revisions={**half.revisions, V3: up(V3)})).actions == (PointService(V3),)


def test_a_third_version_takes_the_canarys_place_and_not_the_stables() -> None:
    made = plan(in_canary(named=V4))
    assert made.state.canary is not None
    assert made.state.canary.revision == V4
    assert made.state.promoted == (V1, V2)
    assert weights(in_canary(named=V4)) == ((V2, 100),)


def test_the_same_model_with_an_earlier_spec_is_rolled_out_by_the_steps() -> None:
    earlier = "v2-0000beef"
    views = (replace(cold(V2), revision=earlier), up(V2))
    made = plan(world(named=earlier, views=views, state=State(promoted=(earlier, V2))))
    assert made.state.target is None
    assert made.state.canary is not None
    assert made.state.canary.revision == earlier


def test_an_earlier_version_comes_back_as_it_ran_whatever_the_spec_says_now() -> None:
    made = plan(world(named="v1-0000beef"))
    assert made.state.target == Target(V1, MoveReason.ROLLBACK, NOW)


def test_a_stable_that_flaps_moves_nothing() -> None:
    flap = in_canary(views=(cold(V1), down(V2, 2, unready_since=NOW - timedelta(seconds=14)), up(V3, 1)))
    assert plan(flap).actions == ()
    assert plan(flap).requeue_after == timedelta(seconds=1)


def test_a_canary_takes_over_from_a_stable_that_lost_its_pods() -> None:
    lost = in_canary(views=(cold(V1), down(V2, 2, unready_since=NOW - timedelta(seconds=15)), up(V3, 1)))
    assert plan(lost).state.target == Target(V3, MoveReason.RECOVERY, CANARY.started_at)
    assert weights(lost) == ((V2, 0), (V3, 100))


def test_a_canary_that_crashes_does_not_take_over() -> None:
    views = (cold(V1), down(V2, 2, unready_since=LONG_AGO), up(V3, 1, trouble=crash()))
    assert plan(in_canary(views=views)).state.target is None


def test_an_unexplained_route_stays_until_the_registry_has_answered_for_the_stable() -> None:
    unexplained = world(views=(up(V1, 1), up(V2, 0)), route=route((V1, 100)), service=V1, holds={})
    made = plan(unexplained)
    assert made.actions == ()
    assert made.look
    assert weights(replace(unexplained, holds=reads())) == ((V2, 100),)
    assert weights(replace(unexplained, holds=reads(V2))) is None


def test_a_blocked_route_stays_until_the_registry_has_answered_for_the_stable() -> None:
    blocked = world(views=(cold(V1), up(V2)), route=route((BLOCKED, 1)), service=BLOCKED, holds={})
    assert plan(blocked).actions == ()
    assert weights(replace(blocked, holds=reads())) == ((V2, 100),)


def test_a_blocked_route_stays_until_a_pod_can_answer() -> None:
    blocked = world(views=(cold(V1), down(V2, 2)), route=route((BLOCKED, 1)), service=BLOCKED)
    assert plan(blocked).actions == ()
    assert weights(replace(blocked, revisions={**blocked.revisions, V2: up(V2, 1, replicas=2)})) == ((V2, 100),)


def test_a_canary_goes_on_as_a_switch_when_the_gateway_is_taken_out_of_the_spec() -> None:
    observed = in_canary(route=None, policy=replace(POLICY, gateway=False), service=V2)
    made = plan(observed)
    assert made.state.canary is not None
    assert (made.state.canary.steps, made.state.canary.weight) == ((), 0)
    ready = replace(observed, state=made.state, revisions={**observed.revisions, V3: up(V3)})
    later = NOW + timedelta(seconds=10)
    asked = {digest: replace(read, asked_at=later) for digest, read in reads().items()}
    ready = replace(ready, now=later, holds=asked, registry=replace(ready.registry, asked_at=later))
    assert plan(ready).actions == (PointService(V3),)


def test_what_the_route_still_lists_keeps_its_pods() -> None:
    left = world(views=(cold(V1), up(V2), up(V3, 1)), route=route((V2, 100), since=JUST_NOW))
    assert plan(left).actions == ()
    assert plan(replace(left, now=NOW + timedelta(seconds=5))).actions == (Remove(V3),)


def test_records_beyond_the_history_limit_are_forgotten_oldest_first() -> None:
    names = [f"v{number}-99999999" for number in range(10, 15)]
    views = [
        replace(cold(name), revision=name, recorded_at=LONG_AGO + timedelta(seconds=number))
        for number, name in enumerate(names)
    ]
    made = plan(world(views=(cold(V1), up(V2), *views), policy=replace(POLICY, history_limit=3)))
    assert made.actions == tuple(Remove(name, forget=True) for name in names[:3])


def test_the_stack_is_cut_to_the_history_limit() -> None:
    promoting = in_canary(
        replace(CANARY, step=4, weight=100),
        up(V3),
        route=route((V2, 0), (V3, 100)),
        policy=replace(POLICY, history_limit=1),
    )
    assert plan(promoting).state.promoted == (V2, V3)
