"""A bad model fails; infrastructure trouble is waited out."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelsync.rollout import plan
from modelsync.rollout.model import MoveReason, Observed, RegistryOutcome, State, Target, Trouble, TroubleKind
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
    crash,
    down,
    in_canary,
    reads,
    route,
    up,
    world,
)

BRINGING_UP = replace(CANARY, step=0, weight=0, step_started_at=None)
HALF_HOUR = timedelta(minutes=30)


def bringing_up(**view: Any) -> Observed:
    return in_canary(BRINGING_UP, down(V3, **view), route=route((V2, 100)))


def reasons(observed: Observed) -> list[str]:
    return [failure.reason for failure in plan(observed).state.failed]


def test_a_crash_after_loading_fails_at_once() -> None:
    assert reasons(in_canary(view=up(V3, 1, trouble=crash()))) == ["Crashed"]


def test_a_crash_before_the_rollout_began_does_not_count() -> None:
    earlier = Trouble(TroubleKind.CRASHED, "out of memory", since=LONG_AGO - timedelta(minutes=1))
    assert reasons(in_canary(view=up(V3, 1, trouble=earlier))) == []


@pytest.mark.parametrize(("count", "expected"), [(2, []), (3, ["CrashedLoading"])])
def test_crashes_while_loading_fail_at_the_third(count: int, expected: list[str]) -> None:
    assert reasons(bringing_up(trouble=crash(count, TroubleKind.CRASHED_LOADING))) == expected


def test_no_progress_fails_at_the_deadline() -> None:
    assert reasons(bringing_up(progress_at=NOW - HALF_HOUR)) == ["ProgressDeadlineExceeded"]
    assert reasons(bringing_up(progress_at=NOW - HALF_HOUR + timedelta(seconds=1))) == []


def test_the_deadline_wakes_the_planner() -> None:
    assert plan(bringing_up(progress_at=NOW - timedelta(minutes=10))).requeue_after == timedelta(minutes=20)


def test_pulling_stops_the_deadline() -> None:
    assert reasons(bringing_up(progress_at=LONG_AGO, pulling=True)) == []


def test_a_pause_does_not_count_towards_the_deadline() -> None:
    promoting = replace(CANARY, step=4, weight=5, look_after=NOW - timedelta(minutes=1))
    waiting = in_canary(promoting, up(V3, 1, progress_at=LONG_AGO))
    assert reasons(waiting) == []


def test_the_deadline_stands_while_suspended() -> None:
    assert reasons(replace(bringing_up(progress_at=LONG_AGO), policy=replace(POLICY, suspend=True))) == []


@pytest.mark.parametrize("kind", sorted(set(TroubleKind) - {TroubleKind.CRASHED, TroubleKind.CRASHED_LOADING}))
def test_infrastructure_never_fails_a_version(kind: TroubleKind) -> None:
    trouble = Trouble(kind, "not the model's fault", 99, NOW)
    assert reasons(bringing_up(trouble=trouble, progress_at=LONG_AGO - timedelta(days=9))) == []


def test_a_first_version_is_never_given_up() -> None:
    first = world(
        named=V1,
        state=State(target=Target(V1, MoveReason.FIRST, LONG_AGO)),
        views=(down(V1, trouble=crash(9, TroubleKind.CRASHED_LOADING), progress_at=LONG_AGO),),
    )
    assert plan(first).state == first.state


def test_a_fallback_from_a_hold_has_no_deadline() -> None:
    state = State(promoted=(V1, V2), target=Target(V1, MoveReason.FALLBACK, LONG_AGO))
    made = plan(world(state=state, views=(down(V1, progress_at=LONG_AGO), up(V2, 0)), holds=reads(V2)))
    assert made.state.failed == ()
    assert made.state.target is not None


def test_a_failed_way_back_leaves_the_stable_serving() -> None:
    state = State(promoted=(V1, V2), target=Target(V1, MoveReason.ROLLBACK, LONG_AGO))
    made = plan(world(named=V1, state=state, views=(down(V1, trouble=crash()), up(V2))))
    assert made.state.target is None
    assert made.state.promoted == (V1, V2)


def test_a_failure_is_forgotten_when_the_alias_leaves() -> None:
    failed = plan(in_canary(view=up(V3, 1, trouble=crash()))).state
    assert plan(world(named=V3, state=failed)).state.failed == failed.failed
    assert plan(world(named=V2, state=failed)).state.failed == ()


def test_a_failure_stays_while_the_registry_is_unreachable() -> None:
    failed = plan(in_canary(view=up(V3, 1, trouble=crash()))).state
    silent = world(named=V2, state=failed)
    silent = replace(silent, registry=replace(silent.registry, outcome=RegistryOutcome.UNREACHABLE))
    assert plan(silent).state.failed == failed.failed


def test_what_failed_is_not_left_while_nothing_else_serves() -> None:
    stuck = in_canary(view=up(V3, 1, trouble=crash()), views=(cold(V1), down(V2, 2), up(V3, 1, trouble=crash())))
    made = plan(stuck)
    assert made.state.canary is not None
    assert [wait.reason for wait in made.waits] == ["StableNotReady"]


def test_a_deadline_begins_when_pods_begin_to_lack() -> None:
    paused = replace(CANARY, step=3, weight=50, started_at=LONG_AGO, look_after=LONG_AGO)
    lost = up(V3, 1, replicas=2, progress_at=LONG_AGO, lacking_since=JUST_NOW)
    policy = replace(POLICY, replicas=4)
    observed = in_canary(paused, views=(cold(V1), up(V2, 4), lost), policy=policy)
    assert plan(observed).state.failed == ()
    late = replace(observed, revisions={**observed.revisions, V3: replace(lost, lacking_since=LONG_AGO)})
    assert [failure.reason for failure in plan(late).state.failed] == ["ProgressDeadlineExceeded"]


def test_a_total_that_grows_after_a_long_pause_is_no_lack_of_progress() -> None:
    paused = replace(CANARY, step=3, weight=50, started_at=LONG_AGO, look_after=LONG_AGO)
    views = (cold(V1), up(V2, 4), up(V3, 2, progress_at=LONG_AGO))
    assert plan(in_canary(paused, views=views, policy=replace(POLICY, replicas=8))).state.failed == ()
