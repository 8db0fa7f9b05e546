"""A scrape of the running operator contains everything that dashboards, alerts and the reference page use."""

import socket
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from chart.queries import asked, dashboard_queries
from integration.controller.conftest import World, until
from modelsync.api import kinds, names
from modelsync.cluster.client import Cluster
from modelsync.cluster.event_recorder import Recorder
from modelsync.rollout.model import Event
from modelsync.telemetry import catalogue
from modelsync.telemetry.catalogue import Kind

CHART = Path(__file__).resolve().parents[3] / "helm" / "modelsync"

Scrape = Mapping[str, list[dict[str, str]]]
"""The labels of every sample, by name."""


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


async def scraped(port: int) -> Scrape:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.status == 200
        text = await answer.text()
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append({**sample.labels, "=": str(sample.value)})
    return found


def value(scrape: Scrape, name: str, /, **labels: str) -> float | None:
    found = [each for each in scrape.get(name, ()) if labels.items() <= each.items()]
    return float(found[0]["="]) if found else None


def queries() -> list[str]:
    rules = yaml.safe_load((CHART / "rules" / "modelsync.yaml").read_text())
    found = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    for path in (CHART / "dashboards").glob("*.json"):
        found += [query for _, query in dashboard_queries(path.read_text())]
    return found


def sampled(metric: catalogue.Metric) -> str:
    return f"{metric.name}_bucket" if metric.kind is Kind.HISTOGRAM else metric.name


async def test_all_metrics_of_alerts_and_dashboards_are_exported_during_a_rollout_and_a_hold(world: World) -> None:
    port = free_port()
    chat = {"namespace": world.namespace, "name": "chat"}
    async with world.operator(metrics_port=port), world.kubelet():
        await world.give_credential()
        world.point(world.log())
        await world.deploy()
        await world.until_phase("Healthy")
        healthy = await scraped(port)
        assert value(healthy, "leader_election_master_status") == 1
        assert value(healthy, "modelsync_condition", **chat, condition="Ready") == 1
        assert value(healthy, "modelsync_traffic_weight_ratio", **chat, version="v0") == 1
        assert value(healthy, "modelsync_alias_drift_seconds", **chat) == 0
        assert value(healthy, "modelsync_rollouts_total", outcome="Promoted") is not None
        assert value(healthy, "modelsync_registry_requests_total", outcome="Answered", server=world.standin.url)

        world.admin.add_tag(f"{world.path}:v0", "regulatory-hold")
        await world.until_phase("Blocked")

        async def safe() -> Scrape | None:
            # The status is written before the route.
            now = await scraped(port)
            reacted = value(now, "modelsync_hold_reaction_seconds_count", stage="RouteSafe")
            return now if reacted and value(now, "modelsync_held_exposure_seconds", **chat) == 0 else None

        held: Scrape = await until("the held version gets no requests, and the metrics show it", safe)
        assert value(held, "modelsync_hold_reaction_seconds_count", stage="RouteSafe") == 1
        assert value(held, "modelsync_info", **chat, phase="Blocked") == 1
        assert value(held, "modelsync_waiting_seconds", **chat, reason="RegulatoryHold", who="person") is not None

        labels_of = {name: {key for labels in found for key in labels} - {"="} for name, found in [*healthy.items()]}
        for name, found in held.items():
            labels_of[name] = labels_of.get(name, set()) | {key for labels in found for key in labels} - {"="}
        for metric in catalogue.ALL:
            assert labels_of.get(sampled(metric), set()) - {"le"} == set(metric.labels), metric.name
        for query in queries():
            for each in asked(query):
                assert each.labels <= labels_of[each.metric], query

        await world.cluster.delete(kinds.MODEL_DEPLOYMENT, world.namespace, "chat")

        async def gone() -> bool:
            return not any(
                chat.items() <= labels.items() for found in (await scraped(port)).values() for labels in found
            )

        await until("its series end", gone)


async def test_a_waiting_replica_exports_that_it_waits_and_no_series_of_objects(world: World) -> None:
    port, other = free_port(), free_port()
    async with world.operator(metrics_port=port), world.kubelet():
        await world.give_credential()
        world.point(world.log())
        await world.deploy()
        await world.until_phase("Healthy")
        async with world.operator(metrics_port=other):

            async def listens() -> Scrape | None:
                try:
                    return await scraped(other)
                except aiohttp.ClientConnectionError:
                    return None

            waiting: Scrape = await until("the other listens", listens)
            assert value(waiting, "leader_election_master_status") == 0
            assert "modelsync_info" not in waiting
            assert value(await scraped(port), "leader_election_master_status") == 1


async def test_a_repetition_is_counted_in_the_series_of_its_event(cluster: Cluster, world: World) -> None:
    """With the real API server, which validates changes of an Event."""
    await world.deploy(suspend=True)
    owner = await world.read()
    clock = iter((0.0, 1000.0, 2000.0)).__next__
    recorder = Recorder(cluster, instance="test", clock=clock)
    for _ in range(3):
        await recorder.record(owner, Event("Warning", "Flapped", "Step", "it lost all its pods"))
    (event,) = await cluster.list_all(kinds.EVENT, world.namespace, labels=f"{names.NAME_LABEL}=chat")
    assert event["series"]["count"] == 3
    assert event["note"] == "it lost all its pods"
