"""Observed worlds for the planner's tests: `v2` serves, `v1` was promoted before it, plus the test's changes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from modelsync.api.conditions import Condition
from modelsync.api.hold import HoldAction, HoldMark, HoldSource
from modelsync.api.requests import Requests
from modelsync.api.status import ModelDeploymentStatus
from modelsync.report.report import report
from modelsync.rollout import plan
from modelsync.rollout.model import (
    Canary,
    Candidate,
    HoldRead,
    Observed,
    Pause,
    Plan,
    Policy,
    RegistryOutcome,
    RegistryView,
    Revision,
    RevisionView,
    RouteView,
    SetRoute,
    SetWeight,
    State,
    Trouble,
    TroubleKind,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)
JUST_NOW = NOW - timedelta(seconds=1)
PAUSE = timedelta(minutes=10)

V1, V2, V3, V4 = "v1-11111111", "v2-22222222", "v3-33333333", "v4-44444444"

POLICY = Policy(
    replicas=2,
    steps=(SetWeight(5), Pause(PAUSE), SetWeight(50), Pause()),
    progress_deadline=timedelta(minutes=30),
    keep_previous_replicas=1,
    keep_previous_for=timedelta(hours=1),
    hold_action=HoldAction.FALLBACK,
    settle=timedelta(seconds=5),
    shutdown_timeout=timedelta(seconds=60),
    gateway=True,
    suspend=False,
    history_limit=10,
    max_staleness=timedelta(hours=24),
)
"""Knowledge of marks never becomes too old here; `test_staleness` is about that."""

CANARY = Canary(V3, 1, 5, POLICY.steps, LONG_AGO, JUST_NOW, LONG_AGO)


def digest(revision: Revision) -> str:
    return f"digest-{revision.partition('-')[0]}"


def candidate(revision: Revision) -> Candidate:
    version = revision.partition("-")[0]
    return Candidate(revision, version, f"content-{version}", (digest(revision),))


def up(revision: Revision, ready: int = 2, **changes: object) -> RevisionView:
    """A revision with the given number of pods, all ready."""
    version = revision.partition("-")[0]
    view = RevisionView(
        revision,
        version,
        f"content-{version}",
        (digest(revision),),
        deployed=True,
        replicas=ready,
        ready=ready,
        pods=ready,
        ready_since=LONG_AGO if ready else None,
        unready_since=None if ready else LONG_AGO,
        progress_at=JUST_NOW,
    )
    return replace(view, **changes)  # type: ignore[arg-type]


def cold(revision: Revision) -> RevisionView:
    """A revision of which only the record is left."""
    return up(revision, 0, deployed=False, unready_since=None, progress_at=None)


def down(revision: Revision, replicas: int = 1, **changes: object) -> RevisionView:
    """A revision whose pods are not ready."""
    return up(revision, 0, **{"replicas": replicas, "pods": replicas, "unready_since": JUST_NOW, **changes})


def crash(count: int = 1, kind: TroubleKind = TroubleKind.CRASHED) -> Trouble:
    return Trouble(kind, "out of memory", count, NOW)


def mark(revision: Revision, via: str = "VersionTag") -> HoldMark:
    return HoldMark(digest(revision), "acme/r/chat", revision.partition("-")[0], HoldSource(via), "regulatory-hold")


def read(revision: Revision, *marks: HoldMark, asked_at: datetime = JUST_NOW, elsewhere: bool = False) -> HoldRead:
    return HoldRead(digest(revision), marks, alias_mark_elsewhere=elsewhere, asked_at=asked_at)


def reads(*held: Revision) -> dict[str, HoldRead]:
    """A fresh registry answer for every version, with a hold mark on the `held` ones."""
    return {
        digest(revision): read(revision, *([mark(revision)] if revision in held else []))
        for revision in (V1, V2, V3, V4)
    }


def route(*weights: tuple[Revision, int], since: datetime = LONG_AGO) -> RouteView:
    return RouteView(weights, accepted=True, accepted_since=since)


def world(**changes: object) -> Observed:
    """`v2` has all traffic, `v1` is cold; `named` is the revision that the alias names."""
    named = changes.pop("named", V2)
    views = changes.pop("views", (cold(V1), up(V2)))
    observed = Observed(
        now=NOW,
        generation=3,
        policy=POLICY,
        requests=Requests(),
        state=State(promoted=(V1, V2)),
        registry=RegistryView(RegistryOutcome.RESOLVED, candidate(str(named)) if named else None, JUST_NOW),
        holds=reads(),
        revisions={view.revision: view for view in views},  # type: ignore[attr-defined]
        route=route((V2, 100)),
        service=V2,
    )
    return replace(observed, **changes)  # type: ignore[arg-type]


def in_canary(canary: Canary = CANARY, view: RevisionView | None = None, **changes: object) -> Observed:
    """The canary `v3` has 5 % and is in the pause of its second step."""
    values: dict[str, object] = {
        "named": V3,
        "views": (cold(V1), up(V2), view or up(V3, 1)),
        "state": State(promoted=(V1, V2), canary=canary),
        "route": route((V2, 95), (V3, 5)),
    }
    return world(**{**values, **changes})


def routed_first(made: Plan) -> tuple[tuple[Revision, int], ...]:
    """The weights that the plan's first action writes into the route."""
    action = made.actions[0]
    assert isinstance(action, SetRoute)
    return action.weights


def status_of(observed: Observed, previous: ModelDeploymentStatus | None = None) -> ModelDeploymentStatus:
    """The status after one pass over `observed`."""
    return report(observed, plan(observed), previous or ModelDeploymentStatus(), name="chat").status


def conditions(status: ModelDeploymentStatus) -> dict[str, Condition]:
    return {condition.type: condition for condition in status.conditions}
