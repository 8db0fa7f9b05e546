"""Property tests: every `Observed` has a plan and a status, and the safety rules hold for it."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from model.invariants import (
    exposure_of_a_held_revision_ends_at_once,
    exposure_of_a_held_revision_never_grows,
    idle_starts_nothing,
    no_new_weight_without_ready_pods,
    no_rule_without_ready_pods,
    the_stable_keeps_the_pods_of_its_share,
    unknown_holds_stop_growth,
    weights_add_up_or_the_route_is_blocked,
)
from modelsync.api.hold import HoldAction
from modelsync.api.requests import Requests
from modelsync.api.routing import HeaderMatch, Rule, RuleKind
from modelsync.api.status import ModelDeploymentStatus
from modelsync.report.report import report
from modelsync.rollout import plan
from modelsync.rollout.model import (
    BLOCKED,
    Canary,
    Failure,
    Hold,
    MoveReason,
    Observed,
    Pause,
    Previous,
    Problem,
    RegistryOutcome,
    RegistryView,
    RouteView,
    SetMatch,
    SetWeight,
    State,
    Target,
    Trouble,
    TroubleKind,
)
from unit.rollout.worlds import NOW, POLICY, V1, V2, V3, V4, candidate, digest, mark, read, up

MATCHES = ((), (HeaderMatch("x-user-group", "internal"),), (HeaderMatch("x-early", "^y.*$", regex=True),))

revisions = st.sampled_from([V1, V2, V3, V4])
moments = st.integers(-7200, 600).map(lambda seconds: NOW + timedelta(seconds=seconds))
steps = st.lists(
    st.one_of(
        st.builds(SetWeight, st.integers(0, 100)),
        st.builds(SetMatch, st.sampled_from(MATCHES[1:])),
        st.builds(Pause, st.sampled_from([None, timedelta(minutes=10)])),
    ),
    max_size=4,
).map(tuple)
canaries = st.builds(
    Canary,
    revisions,
    st.integers(0, 5),
    st.integers(0, 100),
    steps,
    moments,
    st.none() | moments,
    st.none() | moments,
    st.booleans(),
    st.none(),
    st.sampled_from(MATCHES),
)
states = st.builds(
    State,
    target=st.none() | st.builds(Target, revisions, st.sampled_from(MoveReason), moments),
    canary=st.none() | canaries,
    promoted=st.lists(revisions, max_size=4, unique=True).map(tuple),
    failed=st.lists(st.builds(Failure, revisions, st.just("Crashed"), moments), max_size=2).map(tuple),
    holds=st.lists(
        st.builds(Hold, st.builds(mark, revisions, st.sampled_from(["VersionTag", "Alias"])), moments),
        max_size=2,
        unique_by=lambda hold: hold.mark,
    ).map(tuple),
    previous=st.none() | st.builds(Previous, revisions, moments),
    handled=st.builds(Requests, promote=st.none() | revisions),
)
troubles = st.builds(Trouble, st.sampled_from(TroubleKind), st.just("it broke"), st.integers(1, 5), st.none() | moments)
views = st.builds(
    up,
    revisions,
    st.integers(0, 3),
    deployed=st.booleans(),
    recorded=st.booleans(),
    pods=st.integers(0, 3),
    replicas=st.integers(0, 3),
    ready_since=st.none() | moments,
    unready_since=st.none() | moments,
    progress_at=st.none() | moments,
    pulling=st.booleans(),
    cut=st.booleans(),
    trouble=st.none() | troubles,
)
backends = st.lists(
    st.tuples(st.sampled_from([V1, V2, V3, V4, BLOCKED]), st.integers(0, 1000)),
    max_size=3,
    unique_by=lambda entry: entry[0],
).map(tuple)
routes = st.builds(
    RouteView,
    backends,
    st.sampled_from([None, True, False]),
    st.none() | moments,
    drifted=st.booleans(),
    rules=st.lists(
        st.builds(Rule, revisions, st.sampled_from(RuleKind), st.sampled_from(MATCHES)), max_size=3, unique=True
    ).map(tuple),
)
registries = st.builds(
    RegistryView,
    st.sampled_from(RegistryOutcome),
    st.none() | revisions.map(candidate),
    st.none() | moments,
)


@st.composite
def worlds(draw: st.DrawFn) -> Observed:
    known = draw(st.lists(revisions, unique=True))
    reads = {
        digest(revision): read(revision, *([mark(revision)] if draw(st.booleans()) else []), asked_at=draw(moments))
        for revision in known
    }
    policy = replace(
        POLICY,
        replicas=draw(st.integers(0, 3)),
        steps=draw(steps),
        gateway=draw(st.booleans()),
        suspend=draw(st.booleans()),
        hold_action=draw(st.sampled_from(HoldAction)),
        history_limit=draw(st.integers(0, 2)),
        test_header=draw(st.booleans()),
        sessions=draw(st.booleans()),
    )
    return Observed(
        now=NOW,
        generation=1,
        policy=policy,
        requests=Requests(*(draw(st.none() | revisions) for _ in range(4))),
        state=draw(states),
        registry=draw(registries),
        holds=reads,
        revisions={view.revision: view for view in draw(st.lists(views, max_size=4))},
        route=draw(st.none() | routes),
        service=draw(st.sampled_from([None, V1, V2, V3, V4, BLOCKED])),
        problems=draw(st.sampled_from([(), (), (Problem("Conflict", "taken", blocks_route=True),)])),
    )


@settings(max_examples=200)
@given(worlds())
def test_there_is_always_a_plan_and_a_status(observed: Observed) -> None:
    made = plan(observed)
    status = report(observed, made, ModelDeploymentStatus(), name="chat").status
    assert ModelDeploymentStatus.model_validate(status.wire()) == status
    assert made.requeue_after is None or made.requeue_after > timedelta()


@settings(max_examples=200)
@given(worlds())
def test_intent_converges_while_nothing_changes(observed: Observed) -> None:
    for _ in range(8):
        state = plan(observed).state
        if state == observed.state:
            return
        observed = replace(observed, state=state)
    raise AssertionError("the planner changes its mind for ever")


@settings(max_examples=200)
@given(worlds())
def test_no_world_makes_a_held_or_unknown_revision_serve_more(observed: Observed) -> None:
    made = plan(observed)
    exposure_of_a_held_revision_never_grows(observed, made)
    exposure_of_a_held_revision_ends_at_once(observed, made)
    weights_add_up_or_the_route_is_blocked(observed, made)
    no_new_weight_without_ready_pods(observed, made)
    no_rule_without_ready_pods(observed, made)
    unknown_holds_stop_growth(observed, made)


@settings(max_examples=200)
@given(worlds())
def test_no_world_makes_idle_start_something_or_a_stable_lose_the_pods_of_its_share(observed: Observed) -> None:
    made = plan(observed)
    idle_starts_nothing(observed, made)
    the_stable_keeps_the_pods_of_its_share(observed, made)
