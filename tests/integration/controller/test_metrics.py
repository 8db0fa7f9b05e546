"""The running operator is scraped, and its Events are counted by a real API server."""

import socket
from collections.abc import Mapping

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from integration.controller.conftest import World, until
from modelsync.api import names
from modelsync.cluster import kinds
from modelsync.cluster.client import Cluster
from modelsync.cluster.events import Recorder
from modelsync.rollout.model import Event

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


async def test_a_replica_that_waits_tells_that_it_waits_and_nothing_of_objects(world: World) -> None:
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


async def test_what_comes_again_is_counted_in_the_series_of_its_event(cluster: Cluster, world: World) -> None:
    """By the real API server, which judges what of an Event may change."""
    await world.deploy(suspend=True)
    owner = await world.read()
    clock = iter((0.0, 1000.0, 2000.0)).__next__
    recorder = Recorder(cluster, instance="test", clock=clock)
    for _ in range(3):
        await recorder.record(owner, Event("Warning", "Flapped", "Step", "it lost all its pods"))
    (event,) = await cluster.list_all(kinds.EVENT, world.namespace, labels=f"{names.NAME_LABEL}=chat")
    assert event["series"]["count"] == 3
    assert event["note"] == "it lost all its pods"
