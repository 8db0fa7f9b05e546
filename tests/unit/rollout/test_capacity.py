"""The number of pods follows `spec.replicas`, and a revision gets only the traffic that its ready pods can carry."""

from dataclasses import replace
from typing import Any

import pytest

from modelsync.api import names
from modelsync.api.routing import HeaderMatch, Rule, RuleKind
from modelsync.rollout import plan
from modelsync.rollout.model import MoveReason, Observed, Previous, Scale, SetRoute, SetWeight, State, Target
from unit.rollout.worlds import (
    CANARY,
    LONG_AGO,
    NOW,
    POLICY,
    V1,
    V2,
    V3,
    cold,
    down,
    in_canary,
    route,
    status_of,
    up,
    world,
)

HALF = replace(CANARY, step=3, weight=50)
"""A canary at 50 %, in a pause without a duration."""


def half(stable: int, canary: int, replicas: int, **changes: Any) -> Observed:
    """Stable and canary with 50 % each and the given numbers of ready pods, and another total."""
    values: dict[str, object] = {
        "views": (cold(V1), up(V2, stable), up(V3, canary)),
        "route": route((V2, 50), (V3, 50)),
        "policy": replace(POLICY, replicas=replicas),
    }
    return in_canary(HALF, **{**values, **changes})


def scales(observed: Observed) -> dict[str, int]:
    return {action.revision: action.replicas for action in plan(observed).actions if isinstance(action, Scale)}


def shares(observed: Observed) -> dict[str, int] | None:
    return next((dict(action.weights) for action in plan(observed).actions if isinstance(action, SetRoute)), None)


@pytest.mark.parametrize(
    ("weight", "total", "pods"), [(5, 1, 1), (5, 100, 5), (1, 101, 2), (50, 3, 2), (50, 5, 3), (99, 100, 99)]
)
def test_a_canary_has_the_pods_of_its_weight_rounded_up(weight: int, total: int, pods: int) -> None:
    canary = replace(CANARY, weight=weight, steps=POLICY.steps)
    observed = in_canary(
        canary,
        view=up(V3, 200),
        views=(cold(V1), up(V2, total), up(V3, 200)),
        route=route((V2, 100 - weight), (V3, weight)),
        policy=replace(POLICY, replicas=total),
    )
    assert scales(observed) == ({V3: pods} if pods != 200 else {})


def test_both_sides_grow_with_the_total() -> None:
    assert scales(replace(half(4, 2, 10), route=route((V2, 67), (V3, 33)))) == {V2: 10, V3: 5}


def test_both_sides_shrink_with_the_total_and_no_share_moves() -> None:
    assert shares(half(10, 5, 4)) is None
    assert scales(half(10, 5, 4)) == {V2: 4, V3: 2}


def test_a_canary_loses_no_pods_while_its_larger_share_is_still_live() -> None:
    lowered = replace(HALF, weight=10, steps=(SetWeight(10),), step=0)
    observed = in_canary(lowered, views=(cold(V1), up(V2, 10), up(V3, 5)), policy=replace(POLICY, replicas=10))
    observed = replace(observed, route=route((V2, 50), (V3, 50)))
    assert scales(observed) == {}
    assert shares(observed) == {V2: 90, V3: 10}


def test_when_the_total_grows_a_share_falls_no_lower_than_the_ready_pods_have_it() -> None:
    # Two of six: the other four could not carry 80 %.
    assert shares(half(4, 2, 10)) == {V2: 67, V3: 33}
    assert shares(half(10, 2, 10)) == {V2: 80, V3: 20}
    assert shares(half(10, 5, 10)) is None


def test_a_share_grows_again_when_the_pods_are_there() -> None:
    grown = half(10, 5, 10, route=route((V2, 80), (V3, 20)))
    assert shares(grown) == {V2: 50, V3: 50}


def test_a_rollback_rises_with_the_pods_that_are_there() -> None:
    state = State(promoted=(V1, V2), target=Target(V1, MoveReason.ROLLBACK, LONG_AGO))
    policy = replace(POLICY, replicas=10)
    observed = world(state=state, named=V1, views=(up(V1, 1), up(V2, 3)), policy=policy)
    assert shares(replace(observed, route=route((V2, 100), (V1, 0)))) == {V2: 75, V1: 25}


def test_the_stable_keeps_all_its_pods_until_the_promotion_has_settled() -> None:
    promoting = replace(HALF, step=4, weight=100)
    live = route((V2, 0), (V3, 100), since=NOW)
    assert scales(in_canary(promoting, views=(cold(V1), up(V2), up(V3)), route=live)) == {}


def test_warm_pods_are_never_more_than_the_total() -> None:
    state = State(promoted=(V1, V2), previous=Previous(V1, NOW.replace(year=2027)))
    policy = replace(POLICY, replicas=1, keep_previous_replicas=3)
    assert scales(world(state=state, views=(up(V1, 3), up(V2, 1)), policy=policy)) == {V1: 1}


def test_the_scale_counts_the_revisions_that_share_the_load() -> None:
    status = status_of(half(2, 1, 2))
    assert (status.replicas, status.ready_replicas) == (3, 3)
    assert status.selector == f"{names.NAME_LABEL}=chat,{names.REVISION_LABEL} in ({V2},{V3})"


def test_the_scale_does_not_count_warm_pods_nor_a_canary_without_traffic() -> None:
    starting = replace(CANARY, step=0, weight=0, step_started_at=None)
    status = status_of(
        in_canary(starting, views=(up(V1, 1), up(V2), down(V3, 1)), route=route((V2, 100), (V3, 0))),
    )
    assert status.replicas == 2
    assert status.selector == f"{names.NAME_LABEL}=chat,{names.REVISION_LABEL}={V2}"


def test_the_scale_counts_a_canary_that_has_a_segment_only() -> None:
    live = replace(route((V2, 100), (V3, 0)), rules=(Rule(V3, RuleKind.SEGMENT, (HeaderMatch("group", "internal"),)),))
    starting = replace(CANARY, step=0, weight=0, step_started_at=None)
    assert status_of(in_canary(starting, route=live)).replicas == 3


def test_the_scale_counts_a_first_version_that_is_starting() -> None:
    state = State(target=Target(V1, MoveReason.FIRST, LONG_AGO))
    status = status_of(world(state=state, views=(down(V1, 2),), named=V1, route=None, service=None))
    assert status.replicas == 2
    assert status.selector == f"{names.NAME_LABEL}=chat,{names.REVISION_LABEL}={V1}"
