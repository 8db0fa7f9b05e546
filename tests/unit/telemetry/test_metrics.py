"""The metrics registry contains exactly the metrics of the catalogue."""

from datetime import UTC, datetime, timedelta
from typing import Literal

import aiohttp
import pytest

from modelsync.api.conditions import Condition
from modelsync.api.status import ModelDeploymentStatus, TrafficStatus
from modelsync.controller.listen import listen
from modelsync.telemetry import catalogue, server
from modelsync.telemetry.catalogue import Kind, Metric
from modelsync.telemetry.fleet import snapshot_of
from modelsync.telemetry.metrics import Metrics
from modelsync.telemetry.queue import QueueMetrics
from unit.telemetry.scraping import scraped, series, value

BLOCKED = ModelDeploymentStatus(traffic=(TrafficStatus(revision="blocked", weight=1),))


def test_every_metric_of_the_catalogue_is_exported_with_its_name_and_type() -> None:
    metrics = Metrics()
    exported = {family.name: family.type for family in metrics.registry.collect()}
    for metric in catalogue.ALL:
        name = metric.name.removesuffix("_total") if metric.kind is Kind.COUNTER else metric.name
        assert exported[name] == metric.kind.value, metric.name
    ours = {name for name in exported if not name.startswith("process_")}
    assert len(ours) == len(catalogue.ALL)


@pytest.mark.parametrize("metric", catalogue.ALL, ids=lambda metric: metric.name)
def test_a_metrics_name_has_its_unit_and_its_help_is_a_sentence(metric: Metric) -> None:
    assert metric.help.endswith(".")
    if metric.kind is Kind.COUNTER:
        assert metric.name.endswith("_total")
    if metric.kind is Kind.HISTOGRAM:
        assert metric.name.endswith("_seconds")
        assert list(metric.buckets) == sorted(metric.buckets)


def test_the_metrics_of_two_processes_are_independent() -> None:
    one, other = Metrics(), Metrics()
    one.count(catalogue.ALIAS_MOVES)
    assert value(one, "modelsync_alias_moves_total") == 1
    assert value(other, "modelsync_alias_moves_total") == 0


def test_counters_that_alerts_use_with_increase_start_as_zero() -> None:
    metrics = Metrics()
    assert value(metrics, "modelsync_webhooks_total", result="Accepted") == 0
    assert value(metrics, "modelsync_rollouts_total", outcome="Failed", trigger="Pods") == 0
    assert value(metrics, "modelsync_hold_reaction_seconds_count", stage="RouteSafe") == 0


def test_the_series_of_an_object_end_when_it_is_deleted() -> None:
    metrics = Metrics()
    metrics.fleet.update(("prod", "chat"), snapshot_of(BLOCKED, alias="acme/m/chat:production"))
    labels = {"namespace": "prod", "name": "chat"}
    assert value(metrics, "modelsync_traffic_weight_ratio", **labels, revision="blocked", version="") == 1
    metrics.fleet.forget(("prod", "chat"))
    assert not [name for name, found in scraped(metrics) if ("name", "chat") in found]


def test_the_age_of_what_is_known_of_marks_is_exported_once_it_is_too_old() -> None:
    metrics = Metrics()
    at = datetime.now(UTC) - timedelta(minutes=7)

    def age(status: Literal["True", "False", "Unknown"]) -> float | None:
        known = Condition(type="HoldsKnown", status=status, reason="R", last_transition_time=at)
        found = ModelDeploymentStatus(holds_known_at=at, conditions=(known,))
        metrics.fleet.update(("prod", "chat"), snapshot_of(found, alias=""))
        return value(metrics, "modelsync_holds_stale_seconds", namespace="prod", name="chat")

    assert age("False") == pytest.approx(420, abs=30)
    assert age("Unknown") == 0, "an operator that has just started is not an outage"
    assert age("True") == 0


def test_the_series_of_an_object_are_replaced_together() -> None:
    metrics = Metrics()
    for weights in ((("v1-11111111", 95), ("v2-22222222", 5)), (("v2-22222222", 100),)):
        traffic = tuple(TrafficStatus(revision=each, version=each[:2], weight=weight) for each, weight in weights)
        metrics.fleet.update(("prod", "chat"), snapshot_of(ModelDeploymentStatus(traffic=traffic), alias=""))
    shares = {
        dict(labels)["revision"]: share
        for (name, labels), share in scraped(metrics).items()
        if name == "modelsync_traffic_weight_ratio"
    }
    assert shares == {"v2-22222222": 1.0}


def test_the_queue_metrics_match_those_of_client_go() -> None:
    clock = iter(range(0, 1000, 10)).__next__
    metrics = Metrics()
    queue: QueueMetrics[str] = QueueMetrics(metrics, clock=clock)
    queue.added("a")  # at 0
    queue.added("a")
    queue.added("b")  # at 10
    queue.taken("a")  # at 20
    name = {"name": "modeldeployment"}
    now = scraped(metrics)  # at 30
    values = {key: now[f"workqueue_{key}", frozenset(name.items())] for key in (
        "depth", "adds_total", "queue_duration_seconds_sum", "unfinished_work_seconds",
        "longest_running_processor_seconds",
    )}  # fmt: skip
    assert values == {
        "depth": 1,
        "adds_total": 2,
        "queue_duration_seconds_sum": 20,
        "unfinished_work_seconds": 10,
        "longest_running_processor_seconds": 10,
    }
    queue.done("a")  # at 40
    queue.retried("a")
    assert value(metrics, "workqueue_work_duration_seconds_sum", **name) == 20
    assert value(metrics, "workqueue_retries_total", **name) == 1
    assert value(metrics, "controller_runtime_active_workers", controller="modeldeployment") == 0


async def test_metrics_are_served_over_plain_http() -> None:
    metrics = Metrics()
    app = server.application(metrics)
    async with listen(app, host="127.0.0.1", port=0) as port, aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            text = await answer.text()
            assert answer.status == 200
            assert answer.content_type == "text/plain"
        async with session.get(f"http://127.0.0.1:{port}/") as answer:
            assert answer.status == 404
    (build,) = [labels for name, labels in series(text) if name == "modelsync_build_info"]
    assert {name for name, _ in build} == {"version", "python"}
