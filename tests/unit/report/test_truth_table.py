"""Truth table of phase and conditions (docs/design/README.md, "Status"), one row per situation."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from modelsync.api.hold import HoldAction, OnStale
from modelsync.api.status import HistoryEntry, ModelDeploymentStatus
from modelsync.report.history import displaced_by_hold
from modelsync.rollout import plan
from modelsync.rollout.model import (
    BLOCKED,
    Failure,
    MoveReason,
    Observed,
    Problem,
    RegistryOutcome,
    RegistryView,
    Revision,
    State,
    Target,
    Trouble,
    TroubleKind,
    Verified,
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
    conditions,
    crash,
    down,
    in_canary,
    read,
    reads,
    route,
    status_of,
    up,
    world,
)

NOTHING_BEFORE = ModelDeploymentStatus()


@dataclass(frozen=True)
class Row:
    """The expected phase, `Ready` with its reason, and which abnormal conditions are present."""

    observed: Observed
    phase: str
    ready: str
    reason: str
    available: str = "True"
    reconciling: bool = False
    stalled: bool = False
    on_hold: bool = False
    rolled_back: bool = False
    before: ModelDeploymentStatus = NOTHING_BEFORE


FIRST = State(target=Target(V1, MoveReason.FIRST, LONG_AGO))
BLOCKED_ROUTE = route((BLOCKED, 1))


def promoted(revision: Revision, reason: str, until: datetime | None) -> HistoryEntry:
    """A history entry of a promotion of `revision`."""
    version = revision.partition("-")[0]
    return HistoryEntry(
        revision=revision,
        version=version,
        digest=f"digest-{version}",
        from_=LONG_AGO,
        to=until,
        outcome="Promoted",
        reason=reason,
        trigger="Alias",
    )


FELL_BACK = ModelDeploymentStatus(
    history=(promoted(V1, "First", LONG_AGO), promoted(V2, "Canary", LONG_AGO), promoted(V1, "Fallback", None))
)

ROWS = {
    "before the first answer": Row(
        world(
            state=State(),
            views=(),
            named=None,
            route=None,
            service=None,
            registry=RegistryView(RegistryOutcome.PENDING),
        ),
        "Pending",
        "Unknown",
        "Resolving",
        "False",
        reconciling=True,
    ),
    "the first version is pulled": Row(
        world(state=FIRST, views=(down(V1, pulling=True),), named=V1, route=BLOCKED_ROUTE, service=BLOCKED),
        "Pulling",
        "Unknown",
        "First",
        "False",
        reconciling=True,
    ),
    "what the alias names serves fully": Row(world(), "Healthy", "True", "Healthy"),
    "a canary is in a timed pause": Row(in_canary(), "Canary", "Unknown", "Paused", reconciling=True),
    "a canary waits for a person": Row(
        in_canary(replace(CANARY, step=3, weight=50), route=route((V2, 50), (V3, 50))),
        "Paused",
        "Unknown",
        "AwaitingPromotion",
        reconciling=True,
    ),
    "a canary is promoted": Row(
        in_canary(replace(CANARY, step=4, weight=100), up(V3), route=route((V2, 0), (V3, 100), since=JUST_NOW)),
        "Promoting",
        "Unknown",
        "Promoting",
        reconciling=True,
    ),
    "a canary is brought up": Row(
        in_canary(replace(CANARY, step=0, weight=0, step_started_at=None), down(V3), route=route((V2, 100))),
        "Starting",
        "Unknown",
        "Starting",
        reconciling=True,
    ),
    "a canary waits for a node": Row(
        in_canary(
            replace(CANARY, step=0, weight=0, step_started_at=None),
            down(V3, trouble=Trouble(TroubleKind.UNSCHEDULABLE, "no node has 1 nvidia.com/gpu")),
            route=route((V2, 100)),
        ),
        "Starting",
        "Unknown",
        "InsufficientCapacity",
        reconciling=True,
    ),
    "a canary has waited for a node for half an hour": Row(
        in_canary(
            replace(CANARY, step=0, weight=0, step_started_at=None),
            down(V3, trouble=Trouble(TroubleKind.UNSCHEDULABLE, "no node has 1 nvidia.com/gpu"), progress_at=LONG_AGO),
            route=route((V2, 100)),
        ),
        "Stalled",
        "False",
        "InsufficientCapacity",
        stalled=True,
    ),
    "the bytes are not those of the version": Row(
        in_canary(
            replace(CANARY, step=0, weight=0, step_started_at=None),
            down(V3, trouble=Trouble(TroubleKind.CONTENT_REFUSED, "model.safetensors: MD5 differs")),
            route=route((V2, 100)),
        ),
        "Stalled",
        "False",
        "ContentRefused",
        stalled=True,
    ),
    "the spec needs a person": Row(
        world(problems=(Problem("InvalidSpec", "spec.serving.args[0]: unknown flag"),)),
        "Stalled",
        "False",
        "InvalidSpec",
        stalled=True,
    ),
    "the alias is unknown and nothing serves": Row(
        world(
            state=State(),
            views=(),
            named=None,
            route=None,
            service=None,
            registry=RegistryView(RegistryOutcome.MISSING, message="acme/r/chat has no alias 'prod'"),
        ),
        "Stalled",
        "False",
        "Missing",
        "False",
        stalled=True,
    ),
    "the gateway refuses the route": Row(
        world(route=replace(route((V2, 100)), accepted=False, message="no listener matches")),
        "Stalled",
        "False",
        "RouteNotAccepted",
        stalled=True,
    ),
    "the gateway refuses the first route for a moment": Row(
        world(
            state=FIRST,
            views=(up(V1),),
            named=V1,
            route=replace(
                BLOCKED_ROUTE,
                accepted=False,
                refused_since=JUST_NOW,
                message="BackendNotFound: endpointslices not found",
            ),
            service=BLOCKED,
        ),
        "Starting",
        "Unknown",
        "First",
        "False",
        reconciling=True,
    ),
    "the canary was taken back and is still named": Row(
        world(
            named=V3,
            views=(cold(V1), up(V2)),
            state=State(promoted=(V1, V2), failed=(Failure(V3, "Crashed", LONG_AGO, "out of memory"),)),
        ),
        "Degraded",
        "False",
        "Crashed",
        stalled=True,
        rolled_back=True,
    ),
    "the canary crashes": Row(
        in_canary(view=down(V3, trouble=crash())),
        "Degraded",
        "False",
        "Crashed",
        stalled=True,
        rolled_back=True,
    ),
    "held, and a fallback serves": Row(
        world(
            state=State(promoted=(V1,)), views=(up(V1), cold(V2)), holds=reads(V2), route=route((V1, 100)), service=V1
        ),
        "OnHold",
        "False",
        "RegulatoryHold",
        stalled=True,
        on_hold=True,
    ),
    "held, and a warm fallback is about to serve": Row(
        world(views=(up(V1, 1), up(V2)), holds=reads(V2)),
        "OnHold",
        "False",
        "RegulatoryHold",
        stalled=True,
        on_hold=True,
    ),
    "a hold has taken the stable away while the alias names a failed version": Row(
        world(
            named=V3,
            state=State(promoted=(V1,), failed=(Failure(V3, "Crashed", LONG_AGO, "out of memory"),)),
            views=(up(V1), cold(V2), cold(V3)),
            holds=reads(V2),
            route=route((V1, 100)),
            service=V1,
        ),
        "OnHold",
        "False",
        "RegulatoryHold",
        stalled=True,
        on_hold=True,
        rolled_back=True,
        before=FELL_BACK,
    ),
    "a hold has taken the stable away while the alias names a version that may not begin": Row(
        world(
            named=V3,
            state=State(promoted=(V1,)),
            views=(up(V1), cold(V2)),
            holds=reads(V2),
            route=route((V1, 100)),
            service=V1,
            policy=replace(POLICY, suspend=True),
        ),
        "OnHold",
        "False",
        "RegulatoryHold",
        stalled=True,
        on_hold=True,
        before=FELL_BACK,
    ),
    "a hold has taken the stable away, and the alias went back with it": Row(
        world(
            named=V1,
            state=State(promoted=(V1,)),
            views=(up(V1), cold(V2)),
            holds=reads(V2),
            route=route((V1, 100)),
            service=V1,
        ),
        "Healthy",
        "True",
        "Healthy",
        before=FELL_BACK,
    ),
    "a hold has taken the stable away, and what the alias names goes by the steps": Row(
        in_canary(
            state=State(promoted=(V1,), canary=CANARY),
            views=(up(V1), cold(V2), up(V3, 1)),
            holds=reads(V2),
            route=route((V1, 95), (V3, 5)),
            service=V1,
        ),
        "Canary",
        "Unknown",
        "Paused",
        reconciling=True,
        before=FELL_BACK,
    ),
    "the hold is lifted that took the stable away, and the alias names a failed version": Row(
        world(
            named=V3,
            state=State(promoted=(V1,), failed=(Failure(V3, "Crashed", LONG_AGO, "out of memory"),)),
            views=(up(V1), cold(V2), cold(V3)),
            route=route((V1, 100)),
            service=V1,
        ),
        "Degraded",
        "False",
        "Crashed",
        stalled=True,
        rolled_back=True,
        before=FELL_BACK,
    ),
    "held and blocked": Row(
        world(
            views=(cold(V1), up(V2, 0)),
            holds=reads(V2),
            route=BLOCKED_ROUTE,
            service=BLOCKED,
            policy=replace(POLICY, hold_action=HoldAction.BLOCK),
        ),
        "Blocked",
        "False",
        "RegulatoryHold",
        "False",
        stalled=True,
        on_hold=True,
    ),
    "a hold on what is kept warm": Row(world(views=(up(V1, 1), up(V2)), holds=reads(V1)), "Healthy", "True", "Healthy"),
    "nothing may serve whose marks are too old": Row(
        world(
            holds={**reads(), "digest-v2": read(V2, asked_at=LONG_AGO)},
            route=BLOCKED_ROUTE,
            service=BLOCKED,
            policy=replace(POLICY, max_staleness=timedelta(minutes=5), on_stale=OnStale.BLOCK),
            registry=RegistryView(RegistryOutcome.UNREACHABLE, candidate(V2), LONG_AGO, "no answer within 30 s"),
        ),
        "Blocked",
        "False",
        "HoldsStale",
        "False",
        stalled=True,
    ),
    "registry silent for long, serving as asked": Row(
        world(
            holds={**reads(), "digest-v2": read(V2, asked_at=LONG_AGO)},
            policy=replace(POLICY, max_staleness=timedelta(minutes=5)),
            registry=RegistryView(RegistryOutcome.UNREACHABLE, candidate(V2), LONG_AGO, "no answer within 30 s"),
        ),
        "Healthy",
        "True",
        "Healthy",
    ),
    "registry unreachable, serving as asked": Row(
        world(registry=RegistryView(RegistryOutcome.UNREACHABLE, candidate(V2), LONG_AGO)),
        "Healthy",
        "True",
        "Healthy",
    ),
    "suspended on its target": Row(world(policy=replace(POLICY, suspend=True)), "Suspended", "True", "Suspended"),
    "suspended in mid-canary": Row(
        in_canary(policy=replace(POLICY, suspend=True)), "Suspended", "Unknown", "Suspended", reconciling=True
    ),
    "idle": Row(
        world(views=(cold(V1), down(V2, 0)), route=BLOCKED_ROUTE, service=BLOCKED, policy=replace(POLICY, replicas=0)),
        "Idle",
        "True",
        "Idle",
        "False",
    ),
    "on the way to idle": Row(
        world(route=route((BLOCKED, 1), since=JUST_NOW), service=BLOCKED, policy=replace(POLICY, replicas=0)),
        "Idle",
        "Unknown",
        "Idle",
        "False",
        reconciling=True,
    ),
    "idle, and the stable is held": Row(
        world(
            views=(cold(V1), down(V2, 0)),
            route=BLOCKED_ROUTE,
            service=BLOCKED,
            policy=replace(POLICY, replicas=0),
            holds=reads(V2),
        ),
        "Blocked",
        "False",
        "RegulatoryHold",
        "False",
        stalled=True,
        on_hold=True,
    ),
    "all pods are back, but the traffic is not yet": Row(
        world(route=BLOCKED_ROUTE, service=BLOCKED),
        "Starting",
        "Unknown",
        "Starting",
        "False",
        reconciling=True,
    ),
    "on the way back from idle": Row(
        world(views=(cold(V1), down(V2, 2)), route=BLOCKED_ROUTE, service=BLOCKED),
        "Starting",
        "Unknown",
        "Starting",
        "False",
        reconciling=True,
    ),
    "going back": Row(
        world(
            named=V1,
            views=(down(V1), up(V2)),
            state=State(promoted=(V1, V2), target=Target(V1, MoveReason.ROLLBACK, LONG_AGO)),
        ),
        "RollingBack",
        "Unknown",
        "Rollback",
        reconciling=True,
    ),
    "the stable lacks a pod": Row(
        world(views=(cold(V1), up(V2, 1, replicas=2))), "Degraded", "False", "UnderCapacity", reconciling=True
    ),
    "the stable has no pod": Row(
        world(views=(cold(V1), down(V2, 2))), "Degraded", "False", "UnderCapacity", "False", reconciling=True
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_the_situation_matches_the_truth_table(row: Row) -> None:
    status = status_of(row.observed, row.before)
    by_type = conditions(status)
    assert (status.phase, by_type["Ready"].status, by_type["Ready"].reason) == (row.phase, row.ready, row.reason)
    assert by_type["Available"].status == row.available
    abnormal = {"Reconciling", "Stalled", "OnHold", "RolledBack"}
    expected = {
        "Reconciling": row.reconciling,
        "Stalled": row.stalled,
        "OnHold": row.on_hold,
        "RolledBack": row.rolled_back,
    }
    assert {name: name in by_type for name in abnormal} == expected
    assert by_type["Ready"].message


AT_REST = {name: row for name, row in ROWS.items() if plan(row.observed).state == row.observed.state}


@pytest.mark.parametrize("row", AT_REST.values(), ids=AT_REST.keys())
def test_an_equal_world_gives_an_equal_status_later(row: Row) -> None:
    first = status_of(row.observed, row.before)
    assert status_of(replace(row.observed, now=NOW + timedelta(seconds=1)), first) == first


def test_whatever_is_not_as_asked_has_a_wait() -> None:
    for name, row in ROWS.items():
        waiting = status_of(row.observed, row.before).waiting
        if row.ready == "True":
            assert waiting is None, name
        else:
            assert waiting is not None or plan(row.observed).actions, name


def test_a_registry_that_asks_for_patience_is_waited_for_until_the_time_that_it_names() -> None:
    later = NOW + timedelta(minutes=5)
    throttled = RegistryView(RegistryOutcome.THROTTLED, candidate(V3), LONG_AGO, retry_at=later)
    waiting = status_of(world(named=V3, registry=throttled)).waiting
    assert waiting is not None
    assert (waiting.reason, waiting.who, waiting.until) == ("Throttled", "registry", later)


def test_registry_unreachable_makes_model_resolved_unknown() -> None:
    by_type = conditions(status_of(ROWS["registry unreachable, serving as asked"].observed))
    assert (by_type["ModelResolved"].status, by_type["ModelResolved"].reason) == ("Unknown", "Unreachable")


def test_verified_sums_all_artifacts_of_a_revision() -> None:
    proof = Verified("digest-v2", files=7, size=72500, seconds=1.5, artifacts=2)
    verified = conditions(status_of(world(views=(cold(V1), up(V2, verified=proof)))))["ModelVerified"]
    assert verified.status == "True"
    assert verified.message.endswith(
        "7 files of 2 artifacts, 72500 bytes in 1.5 s, matching their digests (model: digest-v2)"
    )


def test_refused_content_makes_model_verified_false() -> None:
    by_type = conditions(status_of(ROWS["the bytes are not those of the version"].observed))
    assert (by_type["ModelVerified"].status, by_type["ModelVerified"].reason) == ("False", "ContentRefused")
    assert "model.safetensors" in by_type["ModelVerified"].message


def test_a_hold_names_the_mark_in_the_message() -> None:
    by_type = conditions(status_of(ROWS["held and blocked"].observed))
    assert "'regulatory-hold' on acme/r/chat:v2" in by_type["Ready"].message


def test_a_hold_that_has_taken_the_stable_away_is_reported_before_the_failure_of_another_version() -> None:
    row = ROWS["a hold has taken the stable away while the alias names a failed version"]
    status = status_of(row.observed, row.before)
    message = conditions(status)["Ready"].message
    assert message == (
        f"v2 ({V2}) must not serve: hold 'regulatory-hold' on acme/r/chat:v2; v1 ({V1}) serves; "
        f"v3 ({V3}) failed and will not be retried: out of memory"
    )
    assert status.waiting is not None
    assert status.waiting.who == "person"
    assert status.waiting.message == f"the alias to move away from v3 ({V3}), or a manual retry"
    assert status.waiting.command is not None
    assert status.waiting.command.startswith("kubectl annotate modeldeployment chat modelsync.dev/retry=")


def test_a_hold_that_led_over_several_versions_is_reported_while_it_is_on_one_of_them() -> None:
    first = (promoted(V1, "First", LONG_AGO), promoted(V2, "Canary", LONG_AGO), promoted(V3, "Canary", LONG_AGO))
    entries = (*first, promoted(V2, "Fallback", LONG_AGO), promoted(V1, "Fallback", None))
    held = {V2, V3}
    assert displaced_by_hold(entries, V1, held.__contains__) == V2
    held.remove(V2)
    assert displaced_by_hold(entries, V1, held.__contains__) == V3
    held.remove(V3)
    assert displaced_by_hold(entries, V1, held.__contains__) is None
    assert displaced_by_hold(first, V3, {V2}.__contains__) is None, "what was promoted over it was asked for"


def test_a_transition_time_changes_only_with_the_status() -> None:
    first = status_of(world())
    later = status_of(replace(in_canary(), now=NOW + timedelta(minutes=1)), first)
    assert conditions(later)["Available"].last_transition_time == NOW
    assert conditions(later)["Ready"].last_transition_time == NOW + timedelta(minutes=1)
    assert V3 in str(later.canary)


def test_a_route_that_was_edited_manually_is_reported_as_it_is() -> None:
    edited = route(*((f"v{number}-99999999", 500_000) for number in range(3, 40)))
    status = status_of(world(route=replace(edited, drifted=True)))
    assert [entry.weight for entry in status.traffic] == [500_000] * 16
