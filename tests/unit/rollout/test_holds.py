"""Holds are latched, are lifted only by a positive answer, and a held revision never serves."""

from dataclasses import replace
from datetime import timedelta

from modelsync.api.hold import HoldAction
from modelsync.rollout import plan
from modelsync.rollout.model import (
    BLOCKED,
    CutOff,
    EnsureRevision,
    Hold,
    MoveReason,
    Observed,
    PointService,
    Previous,
    Problem,
    RegistryOutcome,
    RegistryView,
    Scale,
    SetRoute,
    State,
    Target,
)
from unit.rollout.worlds import (
    CANARY,
    LONG_AGO,
    NOW,
    POLICY,
    V1,
    V2,
    V3,
    candidate,
    cold,
    crash,
    digest,
    down,
    in_canary,
    mark,
    read,
    reads,
    route,
    routed_first,
    up,
    world,
)


def latched(*revisions: str, via: str = "VersionTag") -> tuple[Hold, ...]:
    return tuple(Hold(mark(revision, via), LONG_AGO) for revision in revisions)


def with_hold_on_previous(**changes: object) -> Observed:
    state = State(promoted=(V1, V2), holds=latched(V1), previous=None)
    return world(**{"state": state, **changes})


def test_while_suspended_a_hold_on_the_stable_does_not_give_the_canary_all_traffic() -> None:
    policy = replace(POLICY, suspend=True, hold_action=HoldAction.BLOCK)
    made = plan(in_canary(policy=policy, holds=reads(V2)))
    assert (made.state.canary, made.state.target) == (None, None)
    assert made.actions[0] == SetRoute(((BLOCKED, 1),), f"{V2} is on hold")
    resumed = plan(in_canary(policy=replace(policy, suspend=False), state=made.state, holds=reads(V2)))
    assert resumed.state.target == Target(V3, MoveReason.FIRST, NOW)


def test_a_hold_that_is_lifted_ends_only_when_no_pod_is_left_that_may_have_fallen_silent() -> None:
    """The operator may have crashed after blowing the fuses and before deleting the pods, which never serve again."""
    for left in (up(V1), down(V1), up(V1, 0, replicas=2)):
        lifted = with_hold_on_previous(views=(left, up(V2)))
        assert plan(lifted).state.holds == latched(V1)
        assert CutOff(V1) in plan(lifted).actions

    for gone in (cold(V1), down(V1, 0, pods=2, cut=True)):
        assert plan(with_hold_on_previous(views=(gone, up(V2)))).state.holds == ()


def test_a_hold_stays_when_the_registry_is_unreachable() -> None:
    silent = with_hold_on_previous(holds={}, registry=RegistryView(RegistryOutcome.UNREACHABLE, candidate(V2)))
    assert plan(silent).state.holds == latched(V1)


def test_a_hold_ends_when_a_newer_read_shows_the_tag_gone() -> None:
    assert plan(with_hold_on_previous()).state.holds == ()


def test_another_server_that_never_had_the_mark_does_not_end_it() -> None:
    old, new = "https://old.example", "https://new.example"
    seen = tuple(replace(hold, server=old) for hold in latched(V1))
    state = State(promoted=(V1, V2), holds=seen)

    def on(server: str, *held: str) -> State:
        answers = {key: replace(one, server=server) for key, one in reads(*held).items()}
        return plan(with_hold_on_previous(state=state, holds=answers)).state

    assert on(new).holds == seen
    assert on(f"{old}/").holds == (), "the server that showed it confirms that it is gone"

    state = on(new, V1)
    assert [(hold.mark, hold.since, hold.server) for hold in state.holds] == [(mark(V1), LONG_AGO, new)]
    assert on(new).holds == (), "now the new one has had it"


def test_a_hold_that_another_server_shows_too_is_no_event() -> None:
    state = State(promoted=(V1, V2), holds=latched(V1))
    answers = {key: replace(one, server="https://new.example") for key, one in reads(V1).items()}
    made = plan(with_hold_on_previous(state=state, holds=answers))
    assert made.state.holds == tuple(replace(hold, server="https://new.example") for hold in latched(V1))
    assert [event for event in made.events if event.action == "Hold"] == []


def test_an_answer_that_is_older_than_the_hold_does_not_end_it() -> None:
    older = reads() | {digest(V1): read(V1, asked_at=LONG_AGO - timedelta(minutes=1))}
    assert plan(with_hold_on_previous(holds=older)).state.holds == latched(V1)


def test_a_hold_by_alias_stays_while_another_version_carries_the_alias() -> None:
    state = State(promoted=(V1, V2), holds=latched(V1, via="Alias"))
    moved = reads() | {digest(V1): read(V1, elsewhere=True)}
    assert plan(world(state=state, holds=moved)).state.holds == latched(V1, via="Alias")
    assert plan(world(state=state, holds=reads())).state.holds == ()


def test_a_hold_that_is_seen_again_keeps_its_first_time() -> None:
    assert plan(with_hold_on_previous(holds=reads(V1))).state.holds == latched(V1)


def test_a_hold_of_content_that_no_revision_has_is_forgotten() -> None:
    state = State(promoted=(V1, V2), holds=latched(V3))
    assert plan(world(state=state, holds=reads(V3))).state.holds == ()


def test_no_hold_is_forgotten_while_the_content_of_a_revision_is_not_known() -> None:
    state = State(promoted=(V1, V2), holds=latched(V3))
    unreadable = replace(cold(V1), digests=())
    assert plan(world(state=state, views=(unreadable, up(V2)), holds={})).state.holds == latched(V3)


def test_a_hold_on_the_canary_ends_its_exposure_before_its_pods() -> None:
    made = plan(in_canary(holds=reads(V3)))
    assert made.urgent
    assert made.state.canary is None
    assert [type(action) for action in made.actions] == [SetRoute, CutOff]
    assert routed_first(made) == ((V2, 100),)


def test_a_hold_on_the_stable_goes_to_a_warm_version_in_the_order_of_the_design() -> None:
    made = plan(world(views=(up(V1, 1), up(V2)), holds=reads(V2)))
    assert made.urgent
    route_write, service, cut, scale = made.actions
    assert isinstance(route_write, SetRoute)
    assert route_write.weights == ((V1, 100),)
    assert service == PointService(V1)
    assert cut == CutOff(V2)
    assert scale == Scale(V1, 2)
    assert made.state.target == Target(V1, MoveReason.FALLBACK, NOW)


def test_a_hold_on_the_stable_blocks_until_a_cold_version_has_started() -> None:
    made = plan(world(holds=reads(V2)))
    assert routed_first(made) == ((BLOCKED, 1),)
    assert PointService(BLOCKED) in made.actions
    assert EnsureRevision(V1, 2) in made.actions


def test_a_hold_on_the_stable_never_falls_back_to_a_canary() -> None:
    made = plan(in_canary(holds=reads(V2)))
    assert made.state.canary is None
    assert routed_first(made) == ((BLOCKED, 1),)
    assert made.state.target == Target(V1, MoveReason.FALLBACK, NOW)


def test_a_hold_on_every_promoted_version_blocks() -> None:
    made = plan(world(views=(up(V1, 1), up(V2)), holds=reads(V1, V2)))
    write, service, *cuts = made.actions
    assert isinstance(write, SetRoute)
    assert (write, service) == (SetRoute(((BLOCKED, 1),), write.reason), PointService(BLOCKED))
    assert set(cuts) == {CutOff(V1), CutOff(V2)}
    assert made.state.target is None


def test_block_does_not_fall_back() -> None:
    made = plan(world(views=(up(V1, 1), up(V2)), holds=reads(V2), policy=replace(POLICY, hold_action=HoldAction.BLOCK)))
    assert routed_first(made) == ((BLOCKED, 1),)
    assert made.state.target is None


def test_a_version_that_the_alias_names_while_blocked_needs_a_fresh_answer() -> None:
    state = State(promoted=(V2,), holds=latched(V2), target=Target(V3, MoveReason.FIRST, NOW))
    blocked = world(
        named=V3,
        state=state,
        views=(up(V2, 0), up(V3)),
        holds=reads(V2),
        route=route((BLOCKED, 1)),
        service=BLOCKED,
    )
    made = plan(blocked)
    assert made.look
    assert not made.actions
    asked = replace(blocked, now=NOW + timedelta(seconds=2), registry=replace(blocked.registry, asked_at=NOW + JUST))
    fresh = {key: replace(value, asked_at=NOW + JUST) for key, value in reads(V2).items()}
    assert routed_first(plan(replace(asked, holds=fresh))) == ((V3, 100),)


JUST = timedelta(seconds=1)


def test_pods_that_drain_are_cut_too() -> None:
    draining = replace(cold(V1), pods=1)
    assert plan(world(views=(draining, up(V2)), holds=reads(V1))).actions == (CutOff(V1),)


def test_pods_that_are_cut_already_are_left_to_end() -> None:
    ending = replace(cold(V1), pods=1, cut=True)
    assert plan(world(views=(ending, up(V2)), holds=reads(V1))).actions == ()


def test_a_hold_on_the_version_kept_warm_touches_nothing_else() -> None:
    state = State(promoted=(V1, V2), previous=Previous(V1, NOW + timedelta(minutes=5)))
    made = plan(world(state=state, views=(up(V1, 1), up(V2)), holds=reads(V1)))
    assert made.actions == (CutOff(V1),)
    assert made.state.previous is None
    assert made.state.promoted == (V1, V2)


def test_a_held_version_does_not_start() -> None:
    made = plan(world(named=V3, holds=reads(V3)))
    assert made.state.canary is None
    assert made.actions == ()


def test_a_version_with_unknown_holds_does_not_start() -> None:
    unknown = {key: value for key, value in reads().items() if key != digest(V3)}
    made = plan(world(named=V3, holds=unknown))
    assert made.state.canary is None
    assert made.look


def test_unknown_holds_keep_what_a_canary_has() -> None:
    assert plan(in_canary(holds={})).actions == ()


def test_unknown_holds_do_not_give_a_canary_back_what_it_lost() -> None:
    lost = in_canary(route=route((V2, 100), (V3, 0)), holds={})
    assert plan(lost).actions == ()
    assert plan(replace(lost, holds=reads())).actions == (SetRoute(((V2, 95), (V3, 5)), "canary v3-33333333 at 5 %"),)


def test_a_fallback_is_never_a_held_version_whatever_becomes_unready() -> None:
    state = State(promoted=(V1,), holds=latched(V2))
    lost = world(
        named=V2,
        state=state,
        views=(down(V1, 2, unready_since=LONG_AGO), cold(V2)),
        holds=reads(V2),
        route=route((V1, 100)),
        service=V1,
    )
    assert plan(lost).actions == ()


def test_a_fallback_in_trouble_makes_room_for_a_version_that_may_serve() -> None:
    state = State(promoted=(V1, V2), holds=latched(V2), target=Target(V1, MoveReason.FALLBACK, LONG_AGO))
    views = (down(V1, 2), replace(up(V2, 0)))
    coming = world(named=V3, state=state, views=views, holds=reads(V2), route=route((BLOCKED, 1)), service=BLOCKED)
    assert plan(coming).state.target == state.target
    stuck = replace(coming, revisions={**coming.revisions, V1: replace(views[0], trouble=crash())})
    assert plan(stuck).state.target == Target(V3, MoveReason.FIRST, NOW)


def test_a_held_route_that_may_not_be_written_is_written_all_the_same() -> None:
    conflict = Problem("Conflict", "another route has this host", blocks_route=True)
    assert plan(in_canary(problems=(conflict,), route=route((V2, 90), (V3, 10)))).actions == ()
    assert routed_first(plan(in_canary(problems=(conflict,), holds=reads(V3)))) == ((V2, 100),)


def test_the_step_starts_again_after_a_hold_was_lifted() -> None:
    state = State(promoted=(V1, V2), holds=latched(V3))
    made = plan(world(named=V3, state=state))
    assert made.state.canary == replace(CANARY, step=0, weight=0, started_at=NOW, step_started_at=None, look_after=NOW)
