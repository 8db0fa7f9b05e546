"""Metrics of passes: holds, drift, rollouts and pulls are each counted once, when they have happened."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from modelsync.api.kinds import Key
from modelsync.api.status import ModelDeploymentStatus, ResolvedStatus, SilencedStatus
from modelsync.controller.instrumentation import Instrumentation
from modelsync.report.report import report
from modelsync.rollout import plan
from modelsync.rollout.model import BLOCKED, Observed, Plan, PointService, SetRoute, State
from modelsync.telemetry.metrics import Metrics
from unit.rollout.worlds import JUST_NOW, LONG_AGO, NOW, POLICY, V1, V2, V3, cold, mark, read, reads, route, up, world
from unit.telemetry.scraping import scraped, value

KEY = Key("prod", "chat")
LABELS = {"namespace": "prod", "name": "chat"}


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def instrumentation() -> tuple[Metrics, Instrumentation, Clock]:
    clock = Clock()
    metrics = Metrics()
    return metrics, Instrumentation(metrics, now=clock), clock


def resolved(revision: str, *, first_seen: datetime = LONG_AGO) -> ResolvedStatus:
    version = revision.partition("-")[0]
    return ResolvedStatus(
        alias="production",
        collection="acme/r/chat",
        version=version,
        artifact_id=f"id-{version}",
        digest=f"digest-{version}",
        first_seen=first_seen,
        revision=revision,
        content=f"content-{version}",
    )


def decide(
    to: Instrumentation,
    observed: Observed,
    named: ResolvedStatus | None = None,
    before: ModelDeploymentStatus | None = None,
    pods: tuple[dict[str, Any], ...] = (),
) -> tuple[Plan, ModelDeploymentStatus]:
    """Record one decision, as the reconciler does."""
    decided = plan(observed)
    status = report(observed, decided, before or ModelDeploymentStatus(), name="chat", resolved=named).status
    to.on_decided(KEY, observed, decided, status, alias="acme/r/chat:production", pods=pods)
    return decided, status


# --- holds ----------------------------------------------------------------------------------------------------------


def test_a_hold_is_measured_from_the_request_that_showed_it_to_the_write_that_made_the_route_safe() -> None:
    metrics, to, clock = instrumentation()
    held = world(holds=reads(V2), views=(up(V1), up(V2)))
    decided, _ = decide(to, held)
    assert value(metrics, "modelsync_hold_reaction_seconds_count", stage="RouteSafe") == 0
    clock.now += timedelta(seconds=0.5)
    for action in decided.actions:
        to.on_action_done(KEY, held, decided, action)
    # JUST_NOW is a second before NOW.
    assert value(metrics, "modelsync_hold_reaction_seconds_count", stage="RouteSafe") == 1
    assert value(metrics, "modelsync_hold_reaction_seconds_sum", stage="RouteSafe") == 1.5


def test_the_exposure_of_a_held_revision_is_exported_until_it_ends() -> None:
    metrics, to, _ = instrumentation()
    held = world(holds=reads(V2), views=(up(V1), up(V2)))
    decided, status = decide(to, held)
    exposed = value(metrics, "modelsync_held_exposure_seconds", **LABELS)
    assert exposed is not None
    assert exposed > 0
    decide(to, replace(held, state=decided.state, route=route((V1, 100)), service=V1), before=status)
    assert value(metrics, "modelsync_held_exposure_seconds", **LABELS) == 0


def test_a_write_that_leaves_the_held_revision_in_the_route_is_no_reaction() -> None:
    metrics, to, _ = instrumentation()
    held = world(holds=reads(V2), views=(up(V1), up(V2)))
    decided, _ = decide(to, held)
    to.on_action_done(KEY, held, decided, SetRoute(((V1, 50), (V2, 50)), "half"))
    to.on_action_done(KEY, held, decided, PointService(V1))
    assert value(metrics, "modelsync_hold_reaction_seconds_count", stage="RouteSafe") == 0


def test_without_a_gateway_the_write_of_the_plain_service_counts() -> None:
    metrics, to, _ = instrumentation()
    held = world(holds=reads(V2), policy=replace(POLICY, gateway=False, steps=()), route=None)
    decided, _ = decide(to, held)
    to.on_action_done(KEY, held, decided, PointService(BLOCKED))
    assert value(metrics, "modelsync_hold_reaction_seconds_count", stage="RouteSafe") == 1


def test_an_edit_that_exposes_a_revision_under_an_old_hold_counts_from_when_it_is_seen() -> None:
    metrics, to, clock = instrumentation()
    first = world(holds=reads(V2), views=(up(V1), up(V2)))
    state = plan(first).state
    clock.now += timedelta(hours=5)
    later = replace(first, state=state, now=clock.now)
    decided, _ = decide(to, later)
    to.on_action_done(KEY, later, decided, SetRoute(((V1, 100),), "hold"))
    assert value(metrics, "modelsync_hold_reaction_seconds_sum", stage="RouteSafe") == 0


def test_the_last_byte_is_measured_once_all_pods_have_acknowledged() -> None:
    metrics, to, _ = instrumentation()
    half = SilencedStatus(revision=V2, held_since=JUST_NOW, at=NOW, last_byte=NOW, within="1s", pods=2, acknowledged=1)
    whole = half.model_copy(update={"acknowledged": 2})
    empty = Plan(State())
    statuses = [ModelDeploymentStatus(silenced=each) for each in ((), (half,), (whole,), (whole,))]
    counts = []
    for before, after in pairwise(statuses):
        to.on_status_written(before, empty, after)
        counts.append(value(metrics, "modelsync_hold_reaction_seconds_count", stage="LastByte"))
    assert counts == [0, 1, 1]
    assert value(metrics, "modelsync_hold_reaction_seconds_sum", stage="LastByte") == 1


# --- drift ----------------------------------------------------------------------------------------------------------


def test_there_is_no_drift_while_the_content_of_the_alias_is_promoted() -> None:
    metrics, to, _ = instrumentation()
    decide(to, world(), resolved(V2))
    assert value(metrics, "modelsync_alias_drift_seconds", **LABELS) == 0


def test_drift_grows_from_when_the_alias_was_first_seen_on_the_new_version() -> None:
    metrics, to, _ = instrumentation()
    decide(to, world(named=V3), resolved(V3))
    drift = value(metrics, "modelsync_alias_drift_seconds", **LABELS)
    assert drift is not None
    assert drift > 3600


def test_a_hold_on_what_the_alias_names_is_no_drift() -> None:
    metrics, to, _ = instrumentation()
    decide(to, world(named=V3, holds=reads(V3)), resolved(V3))
    assert value(metrics, "modelsync_alias_drift_seconds", **LABELS) == 0


def promoted_at_once() -> tuple[Observed, ModelDeploymentStatus]:
    """Return the pass that promotes `v1`, to which the alias was moved back, and the status before."""
    moved = world(named=V1, views=(up(V1), up(V2)), holds=reads())
    started = plan(moved).state
    serving = replace(moved, state=started, route=route((V1, 100)), service=V1)
    return serving, ModelDeploymentStatus(resolved=resolved(V1, first_seen=JUST_NOW))


def test_a_rollout_and_the_drift_it_ends_are_counted_when_its_status_is_written() -> None:
    metrics, to, clock = instrumentation()
    observed, before = promoted_at_once()
    decided, status = decide(to, observed, before.resolved, before)
    assert decided.finished, "the pass must promote"
    assert value(metrics, "modelsync_rollouts_total", outcome="Promoted", trigger="Alias") == 0
    clock.now += timedelta(seconds=9)
    to.on_status_written(before, decided, status)
    assert value(metrics, "modelsync_rollouts_total", outcome="Promoted", trigger="Alias") == 1
    assert value(metrics, "modelsync_rollout_duration_seconds_count", outcome="Promoted") == 1
    assert value(metrics, "modelsync_alias_served_seconds_sum", move="Rollback") == 10


def test_an_alias_move_is_counted_when_other_content_is_first_seen() -> None:
    metrics, to, _ = instrumentation()
    first = ModelDeploymentStatus(resolved=resolved(V2))
    second = ModelDeploymentStatus(resolved=resolved(V3, first_seen=NOW))
    for before, after in ((ModelDeploymentStatus(), first), (first, first), (first, second)):
        to.on_status_written(before, Plan(State()), after)
    assert value(metrics, "modelsync_alias_moves_total") == 1


# --- pulls ----------------------------------------------------------------------------------------------------------


def pulled(at: datetime, uid: str = "pod-1", **result: Any) -> dict[str, Any]:
    """Return a pod whose puller finished at `at` and reported `result`."""
    ended = {"exitCode": 0, "finishedAt": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "message": json.dumps(result)}
    status = {"initContainerStatuses": [{"name": "pull", "state": {"terminated": ended}}]}
    return {"kind": "Pod", "metadata": {"name": uid, "uid": uid}, "status": status}


def test_a_pull_is_counted_once_with_the_bytes_that_it_fetched() -> None:
    metrics, to, _ = instrumentation()
    pod = pulled(NOW, outcome="Pulled", bytes=1000, reused_bytes=900, seconds=2.5)
    for _ in range(3):
        decide(to, world(), pods=(pod,))
    assert value(metrics, "modelsync_pulls_total", outcome="Pulled") == 1
    assert value(metrics, "modelsync_pulled_bytes_total") == 100
    assert value(metrics, "modelsync_pull_duration_seconds_sum") == 2.5


def test_a_pull_from_before_this_term_of_leadership_is_not_counted_again() -> None:
    metrics, to, _ = instrumentation()
    decide(to, world(), pods=(pulled(LONG_AGO, outcome="Pulled", bytes=1, seconds=1),))
    assert value(metrics, "modelsync_pulls_total", outcome="Pulled") == 0


def test_a_pods_report_of_its_pull_cannot_create_series_with_any_text() -> None:
    metrics, to, _ = instrumentation()
    decide(to, world(), pods=(pulled(NOW, outcome="x" * 99, bytes="many", seconds=None), pulled(NOW, "pod-2")))
    assert value(metrics, "modelsync_pulls_total", outcome="Other") == 1
    assert value(metrics, "modelsync_pulls_total", outcome="Untold") == 1


# --- the end --------------------------------------------------------------------------------------------------------


def test_the_series_of_a_deleted_object_are_removed() -> None:
    metrics, to, _ = instrumentation()
    decide(to, world(views=(cold(V1), up(V2))), resolved(V2))
    assert value(metrics, "modelsync_condition", **LABELS, condition="Ready") == 1
    to.forget(KEY)
    assert not [name for name, labels in scraped(metrics) if ("namespace", "prod") in labels]


def test_a_hold_from_before_this_operator_is_measured_from_when_it_saw_the_exposure() -> None:
    metrics, to, _ = instrumentation()
    asked = read(V2, mark(V2), asked_at=LONG_AGO)
    held = world(holds={**reads(), asked.digest: asked}, views=(up(V1), up(V2)))
    old = replace(held, state=plan(held).state)
    decide(to, old)
    exposed = value(metrics, "modelsync_held_exposure_seconds", **LABELS)
    assert exposed is not None
    assert value(metrics, "modelsync_holds", **LABELS) == 1
