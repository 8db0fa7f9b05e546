"""Segments, the test header and sessions: when a rule sends requests to one revision regardless of the shares."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelsync.api.routing import HeaderMatch, Routing, Rule, RuleKind
from modelsync.rollout import plan
from modelsync.rollout.model import (
    Canary,
    CutOff,
    EnsureRevision,
    Observed,
    Pause,
    Plan,
    Previous,
    Remove,
    RouteView,
    Scale,
    SetMatch,
    SetRoute,
    SetWeight,
    State,
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
    down,
    in_canary,
    reads,
    status_of,
    up,
)

INTERNAL = (HeaderMatch("x-user-group", "internal"),)
BETA = (HeaderMatch("x-user-group", "^beta-.*$", regex=True), HeaderMatch("x-early", "yes"))
STEPS = (SetMatch(INTERNAL), Pause(PAUSE), SetWeight(50), Pause(PAUSE), SetMatch(BETA), Pause())
SEGMENT = Rule(V3, RuleKind.SEGMENT, INTERNAL)
STARTING = Canary(V3, 0, 0, STEPS, LONG_AGO, None, LONG_AGO)
IN_SEGMENT = replace(STARTING, step=1, match=INTERNAL, step_started_at=JUST_NOW)
TESTED = replace(POLICY, test_header=True)


def live(*weights: tuple[str, int], rules: tuple[Rule, ...] = (), since: object = LONG_AGO) -> RouteView:
    return RouteView(weights, accepted=True, accepted_since=since, rules=rules)  # type: ignore[arg-type]


def written(made: Plan) -> Routing | None:
    """The routing that this pass writes, or None."""
    return next((action.routing for action in made.actions if isinstance(action, SetRoute)), None)


def segment(canary: Canary = IN_SEGMENT, **changes: Any) -> Observed:
    """A canary that has only its segment, settled, and no share."""
    return in_canary(canary, **{"route": live((V2, 100), (V3, 0), rules=(SEGMENT,)), **changes})


# --- segments ------------------------------------------------------------------------------------------------------


def test_a_canary_is_listed_before_a_segment_goes_to_it() -> None:
    made = plan(in_canary(replace(STARTING, match=INTERNAL), route=live((V2, 100))))
    assert written(made) == Routing(((V2, 100), (V3, 0)))


def test_a_segment_waits_until_the_route_has_settled() -> None:
    canary = replace(STARTING, match=INTERNAL)
    unsettled = in_canary(canary, route=live((V2, 100), (V3, 0), since=NOW - timedelta(seconds=4)))
    assert written(plan(unsettled)) is None
    later = plan(replace(unsettled, now=NOW + timedelta(seconds=1)))
    assert written(later) == Routing(((V2, 100), (V3, 0)), (SEGMENT,))


def test_the_pods_for_the_next_share_come_before_the_segment() -> None:
    four = replace(POLICY, replicas=4, steps=STEPS)
    starting = in_canary(STARTING, up(V3, 1), policy=four, route=live((V2, 100), (V3, 0)))
    made = plan(starting)
    assert Scale(V3, 2) in made.actions
    assert made.state.canary == STARTING
    ready = plan(replace(starting, revisions={**starting.revisions, V3: up(V3, 2)}))
    assert ready.state.canary is not None
    assert ready.state.canary.match == INTERNAL


def test_with_no_share_to_come_the_canary_of_a_segment_has_all_pods() -> None:
    steps = (SetMatch(INTERNAL), Pause())
    beginning = in_canary(state=State(promoted=(V1, V2)), policy=replace(POLICY, steps=steps), views=(up(V2),))
    assert EnsureRevision(V3, 2) in plan(replace(beginning, route=live((V2, 100)))).actions


def test_a_segment_needs_a_registry_answer_that_is_newer_than_the_last_wait() -> None:
    made = plan(in_canary(replace(STARTING, look_after=JUST_NOW), route=live((V2, 100), (V3, 0))))
    assert made.look
    assert made.state.canary is not None
    assert made.state.canary.match == ()


def test_the_clock_of_a_pause_runs_from_the_moment_at_which_the_segment_had_settled() -> None:
    made = plan(segment(replace(STARTING, match=INTERNAL)))
    assert made.state.canary is not None
    assert (made.state.canary.step, made.state.canary.step_started_at) == (1, NOW)


def test_a_segment_stays_in_force_beside_the_shares() -> None:
    canary = replace(IN_SEGMENT, step=2, weight=50, step_started_at=None)
    four = replace(POLICY, replicas=4)
    views = (up(V2, 4), up(V3, 4))
    made = plan(segment(canary, policy=four, views=views))
    assert written(made) == Routing(((V2, 50), (V3, 50)), (SEGMENT,))


def test_another_match_takes_the_place_of_the_first_in_one_write() -> None:
    canary = replace(IN_SEGMENT, step=4, weight=50, look_after=LONG_AGO)
    route = live((V2, 50), (V3, 50), rules=(SEGMENT,))
    made = plan(segment(canary, view=up(V3), route=route))
    assert written(made) == Routing(((V2, 50), (V3, 50)), (Rule(V3, RuleKind.SEGMENT, BETA),))


def test_who_has_all_the_traffic_needs_no_segment() -> None:
    canary = replace(IN_SEGMENT, step=6, weight=50, look_after=LONG_AGO)
    route = live((V2, 50), (V3, 50), rules=(SEGMENT,))
    assert written(plan(segment(canary, view=up(V3), route=route))) == Routing(((V2, 0), (V3, 100)))


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param({"named": V2}, id="the alias is back on the stable"),
        pytest.param({"view": down(V3)}, id="the canary lost all its pods"),
        pytest.param({"holds": reads(V3)}, id="a hold is on the canary"),
    ],
)
def test_a_segment_ends_in_one_write_that_waits_for_nothing(ends: dict[str, Any]) -> None:
    route = live((V2, 100), (V3, 0), rules=(SEGMENT,), since=NOW)
    assert written(plan(segment(**{"route": route, **ends}))) == Routing(((V2, 100),))


def test_a_canary_that_lost_its_pods_in_a_segment_has_to_be_ready_for_a_while_again() -> None:
    state = plan(segment(view=down(V3))).state
    assert state.canary is not None
    assert state.canary.flapped
    back = segment(view=up(V3, 1, ready_since=JUST_NOW), state=state, route=live((V2, 100), (V3, 0)))
    assert written(plan(back)) is None


def test_pods_of_a_segment_stay_until_the_route_has_settled_that_it_has_ended() -> None:
    ended = segment(named=V2, state=State(promoted=(V1, V2)), route=live((V2, 100), since=NOW))
    assert not any(isinstance(action, Remove) for action in plan(ended).actions)


def test_a_held_canary_with_a_segment_only_is_cut_off_at_once() -> None:
    made = plan(segment(holds=reads(V3)))
    assert made.urgent
    assert [type(action) for action in made.actions] == [SetRoute, CutOff]


def test_a_segment_that_the_status_does_not_know_is_drift() -> None:
    foreign = Rule(V3, RuleKind.SEGMENT, BETA)
    made = plan(segment(route=live((V2, 100), (V3, 0), rules=(SEGMENT, foreign))))
    assert written(made) == Routing(((V2, 100), (V3, 0)), (SEGMENT,))


def test_a_route_that_someone_emptied_is_corrected_and_reported() -> None:
    emptied = in_canary(route=RouteView((), accepted=True, accepted_since=LONG_AGO, drifted=True))
    assert written(plan(emptied)) == Routing(((V2, 100), (V3, 0)))
    available = next(each for each in status_of(emptied).conditions if each.type == "Available")
    assert available.status == "False"


# --- the test header -----------------------------------------------------------------------------------------------


def test_the_test_header_reaches_a_canary_at_weight_zero() -> None:
    waiting = in_canary(replace(STARTING, look_after=NOW), policy=TESTED, route=live((V2, 100), (V3, 0)))
    assert written(plan(waiting)) == Routing(((V2, 100), (V3, 0)), (Rule(V3, RuleKind.TEST),))


def test_the_test_header_reaches_both_who_share_the_traffic() -> None:
    sharing = in_canary(policy=TESTED, route=live((V2, 95), (V3, 5)))
    assert written(plan(sharing)) == Routing(((V2, 95), (V3, 5)), (Rule(V2, RuleKind.TEST), Rule(V3, RuleKind.TEST)))


def warm(**changes: Any) -> Observed:
    previous = Previous(V1, NOW + PAUSE)
    state = State(promoted=(V1, V2), previous=previous)
    return in_canary(**{"named": V2, "policy": TESTED, "views": (up(V1, 1), up(V2)), "state": state, **changes})


def test_the_test_header_reaches_what_is_kept_warm_once_the_gateway_knows_it() -> None:
    assert written(plan(warm(route=live((V2, 100))))) == Routing(((V2, 100), (V1, 0)))
    listed = warm(route=live((V2, 100), (V1, 0)))
    assert written(plan(listed)) == Routing(((V2, 100), (V1, 0)), (Rule(V1, RuleKind.TEST),))


def test_a_warm_version_that_only_the_test_header_reaches_still_loses_the_pods_it_has_too_many() -> None:
    ruled = live((V2, 100), (V1, 0), rules=(Rule(V1, RuleKind.TEST),))
    assert Scale(V1, 1) in plan(warm(views=(up(V1, 2), up(V2)), route=ruled)).actions


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        pytest.param({"holds": reads(V1)}, ((V2, 100),), id="it is held"),
        pytest.param({"views": (down(V1), up(V2))}, ((V2, 100),), id="it has no ready pod"),
        pytest.param({"state": State(promoted=(V1, V2))}, ((V2, 100),), id="it is kept warm no more"),
        pytest.param({"policy": POLICY}, ((V2, 100),), id="the header is off"),
    ],
)
def test_the_test_header_ends_in_one_write(changes: dict[str, object], left: tuple[tuple[str, int], ...]) -> None:
    ruled = live((V2, 100), (V1, 0), rules=(Rule(V1, RuleKind.TEST),), since=NOW)
    assert written(plan(warm(**{"route": ruled, **changes}))) == Routing(left)


def test_an_unknown_hold_state_keeps_the_test_header_from_new_revisions_only() -> None:
    unknown = {digest: read for digest, read in reads().items() if digest != "digest-v1"}
    assert written(plan(warm(route=live((V2, 100), (V1, 0)), holds=unknown))) is None
    ruled = live((V2, 100), (V1, 0), rules=(Rule(V1, RuleKind.TEST),))
    assert written(plan(warm(route=ruled, holds=unknown))) is None


def test_a_canary_that_only_the_test_header_reaches_is_given_up_though_the_stable_is_down() -> None:
    reached = in_canary(
        replace(STARTING, look_after=NOW),
        named=V2,
        policy=TESTED,
        views=(up(V3, 1), down(V2)),
        route=live((V2, 100), (V3, 0), rules=(Rule(V3, RuleKind.TEST),)),
    )
    assert plan(reached).state.canary is None


# --- sessions ------------------------------------------------------------------------------------------------------

STICKY = replace(POLICY, sessions=True)
SESSIONS = (Rule(V2, RuleKind.SESSION), Rule(V3, RuleKind.SESSION))


def test_stable_and_canary_keep_their_clients_while_they_share_the_traffic() -> None:
    canary = replace(CANARY, step=0, step_started_at=None)
    rising = in_canary(canary, policy=STICKY, route=live((V2, 100), (V3, 0)))
    assert written(plan(rising)) == Routing(((V2, 95), (V3, 5)), SESSIONS)


def test_nobody_is_kept_by_a_canary_without_a_share_nor_by_a_stable_without_a_canary() -> None:
    assert written(plan(segment(policy=STICKY))) is None
    assert written(plan(in_canary(named=V2, policy=STICKY, route=live((V2, 95), (V3, 5), rules=SESSIONS)))) == Routing(
        ((V2, 100),)
    )


def test_a_canary_that_lost_pods_keeps_no_clients_beyond_its_share() -> None:
    half = replace(IN_SEGMENT, step=3, match=(), weight=50, steps=(*POLICY.steps,))
    views = (up(V2, 4), up(V3, 1, replicas=2))
    lost = in_canary(
        half, policy=replace(STICKY, replicas=4), views=views, route=live((V2, 50), (V3, 50), rules=SESSIONS)
    )
    assert written(plan(lost)) == Routing(((V2, 75), (V3, 25)), SESSIONS[:1])


# --- reporting -----------------------------------------------------------------------------------------------------


def test_the_status_shows_what_goes_to_a_revision_whatever_its_weight() -> None:
    rules = (Rule(V3, RuleKind.TEST), SEGMENT, Rule(V3, RuleKind.SEGMENT, BETA), Rule(V1, RuleKind.SESSION))
    status = status_of(segment(policy=TESTED, route=live((V2, 100), (V3, 0), rules=rules)))
    assert [(each.revision, each.weight, each.rules) for each in status.traffic] == [
        (V2, 100, ()),
        (
            V3,
            0,
            (
                "requests that name it in the test header (spec.traffic.testHeader)",
                "requests whose header x-user-group is internal",
                "requests whose header x-user-group matches ^beta-.*$ or x-early is yes",
            ),
        ),
        (V1, 0, ("clients that it has served (spec.traffic.sessionAffinity)",)),
    ]


def test_the_situation_includes_the_segment() -> None:
    ready = next(each for each in status_of(segment()).conditions if each.type == "Ready")
    assert "v3 (v3-33333333) at 0 % and its segment, step 2 of 6" in ready.message
