"""A hold takes effect at once: on the canary, on the stable, on every path; and what serves instead."""

import asyncio
import time

import aiohttp
import pytest

from e2e.conftest import MakeScene, Scene
from stage.stage import condition, stable_version, weight_of
from traffic import Answer, Outcome, Traffic

pytestmark = pytest.mark.asyncio(loop_scope="session")

LAST_BYTE_SECONDS = 1.0
GATEWAY_SECONDS = 3.0


def answers_of(traffic: Traffic, version: str, after: float) -> list[Answer]:
    """Requests sent after `after` that a version answered."""
    return [a for a in traffic.since(after) if a.outcome is Outcome.OK and (a.revision or "").startswith(f"{version}-")]


def last_byte_after(traffic: Traffic, version: str, moment: float) -> float:
    """Seconds from `moment` to the last byte of any answer by a version; negative or 0 if there is none after it."""
    theirs = [a for a in traffic.answers if a.status == 200 and (a.revision or "").startswith(f"{version}-")]
    return max((a.last_byte for a in theirs if a.last_byte), default=moment) - moment


def assert_served_after_first(traffic: Traffic, moment: float) -> None:
    """From the first answer after `moment` on, when the gateway has applied the route, every request is answered."""
    first = next(a for a in traffic.since(moment) if a.outcome is Outcome.OK)
    assert first.done is not None
    assert {a.outcome for a in traffic.since(first.done)} == {Outcome.OK}


def assert_nothing_lost_but_streams_of(traffic: Traffic, version: str, held_at: float) -> None:
    """Only requests that the held version was answering when the hold came may end early."""
    unexplained = [
        answer
        for answer in traffic.lost()
        if not ((answer.revision or "").startswith(f"{version}-") and answer.sent <= held_at + LAST_BYTE_SECONDS)
    ]
    assert unexplained == [], traffic.explain()


async def test_a_hold_on_the_canary_takes_it_away_under_every_action(scene: Scene) -> None:
    deployment = await scene.serving(hold_action="Block")
    scene.log("I am the second version")
    async with deployment.traffic() as traffic:
        scene.point("v1")
        await deployment.until_weight("v1", 20)
        await traffic.until(lambda t: any(r.startswith("v1-") for r in t.by_revision()))
        held_at = time.monotonic()
        scene.hold("v1")
        status = await deployment.until(
            "the canary is gone", lambda status: weight_of(status, "v1") == 0 and not status.get("canary")
        )
        await traffic.until(lambda t: len(t.since(held_at)) >= 100)
    assert stable_version(status) == "v0"
    assert last_byte_after(traffic, "v1", held_at) <= LAST_BYTE_SECONDS
    assert answers_of(traffic, "v1", held_at + LAST_BYTE_SECONDS) == []
    assert_nothing_lost_but_streams_of(traffic, "v1", held_at)


async def test_a_hold_on_the_stable_falls_back_to_the_warm_version_before(scene: Scene) -> None:
    deployment = await scene.serving()
    scene.log("I am the second version")
    scene.point("v1")
    await deployment.until_serving("v1")
    async with deployment.traffic() as traffic:
        await traffic.until(lambda t: len(t.answers) >= 60)
        held_at = time.monotonic()
        scene.hold("v1")
        status = await deployment.until("v0 has it all", lambda status: weight_of(status, "v0") == 100)
        await traffic.until(lambda t: len(t.since(held_at)) >= 200)
        status = await deployment.status()
    assert condition(status, "OnHold")["status"] == "True"
    assert condition(status, "Ready")["reason"] == "RegulatoryHold"
    assert condition(status, "Available")["status"] == "True"
    assert last_byte_after(traffic, "v1", held_at) <= LAST_BYTE_SECONDS
    assert_nothing_lost_but_streams_of(traffic, "v1", held_at)
    assert [a for a in traffic.since(held_at) if a.outcome is Outcome.BLOCKED] == []


async def test_a_hold_on_the_stable_blocks_until_a_cold_fallback_is_ready(scene: Scene) -> None:
    deployment = await scene.serving(keep_previous={"replicas": 0, "duration": "0s"})
    first = (await deployment.status())["promoted"][-1]
    scene.log("I am the second version")
    scene.point("v1")
    await deployment.until_serving("v1")
    async with deployment.traffic() as traffic:
        await deployment.until_gone(first)
        held_at = time.monotonic()
        scene.hold("v1")
        await deployment.until("v0 has it all", lambda status: weight_of(status, "v0") == 100)
        back_at = time.monotonic()
        await traffic.until(lambda t: t.by_revision(t.since(back_at)).total() >= 60)
    assert last_byte_after(traffic, "v1", held_at) <= LAST_BYTE_SECONDS
    assert_nothing_lost_but_streams_of(traffic, "v1", held_at)
    assert [a for a in traffic.since(held_at) if a.outcome is Outcome.BLOCKED], "clients are refused in between"
    assert_served_after_first(traffic, back_at)


async def test_a_hold_without_fallback_blocks_and_lifting_it_serves_again(scene: Scene) -> None:
    deployment = await scene.serving()
    async with deployment.traffic() as traffic:
        await traffic.until(lambda t: len(t.answers) >= 40)
        held_at = time.monotonic()
        scene.hold("v0")
        status = await deployment.until("blocked", lambda status: status.get("phase") == "Blocked")
        await traffic.until(lambda t: len(t.since(held_at)) >= 100)
        status = await deployment.status()
        assert condition(status, "Available")["status"] == "False"
        assert answers_of(traffic, "v0", held_at + LAST_BYTE_SECONDS) == []
        refused = {a.outcome for a in traffic.since(held_at + GATEWAY_SECONDS) if a.outcome}
        assert refused == {Outcome.BLOCKED}
        scene.lift("v0")
        status = await deployment.until_serving("v0")
        back_at = time.monotonic()
        await traffic.until(lambda t: t.by_revision(t.since(back_at)).total() >= 40)
    assert condition(status, "OnHold") == {}
    assert last_byte_after_block(traffic, held_at, back_at) <= LAST_BYTE_SECONDS
    assert_served_after_first(traffic, back_at)
    assert_nothing_lost_but_streams_of(traffic, "v0", held_at)


def last_byte_after_block(traffic: Traffic, held_at: float, back_at: float) -> float:
    """Like `last_byte_after`, for a version that serves again later."""
    times = [
        a.last_byte for a in traffic.answers if a.status == 200 and a.sent < held_at + LAST_BYTE_SECONDS and a.last_byte
    ]
    return max(times) - held_at


async def test_block_refuses_all_until_the_alias_names_another_version(scene: Scene) -> None:
    deployment = await scene.serving(hold_action="Block")
    scene.log("I am the second version")
    async with deployment.traffic() as traffic:
        held_at = time.monotonic()
        scene.hold("v0")
        await deployment.until("blocked", lambda status: status.get("phase") == "Blocked")
        scene.point("v1")
        await deployment.until_serving("v1")
    assert last_byte_after(traffic, "v0", held_at) <= LAST_BYTE_SECONDS
    assert_nothing_lost_but_streams_of(traffic, "v0", held_at)


async def test_a_hold_on_the_stable_is_seen_after_the_alias_has_moved_on(scene: Scene) -> None:
    deployment = await scene.serving(steps=[{"setWeight": 20}, {"pause": {}}])
    scene.log("I am the second version")
    scene.point("v1")
    await deployment.until_weight("v1", 20)
    async with deployment.traffic() as traffic:
        await traffic.until(lambda t: len(t.answers) >= 40)
        held_at = time.monotonic()
        scene.hold("v0")
        await deployment.until_serving("v1")
    assert last_byte_after(traffic, "v0", held_at) <= LAST_BYTE_SECONDS
    assert_nothing_lost_but_streams_of(traffic, "v0", held_at)


async def test_no_path_leads_to_a_held_version(scene: Scene) -> None:
    """Checks open streams, kept-alive connections, the plain Service and the pod's address."""
    deployment = await scene.serving()
    pods = [pod["status"]["podIP"] for pod in await deployment.pods()]
    service = scene.stage.cluster.kubectl(
        "get", "service", "chat", "-n", scene.namespace, "-o", "jsonpath={.spec.clusterIP}"
    )
    ways = [f"http://{service}:8000/v1", *(f"http://{address}:8000/v1" for address in pods)]
    clients = [Traffic(url=url, host="chat", rate=10, stream_share=0.5) for url in ways]
    async with deployment.traffic() as traffic, clients[0], clients[1], clients[2]:
        for client in (traffic, *clients):
            await client.until(lambda t: sum(t.by_revision().values()) >= 20)
        held_at = time.monotonic()
        scene.hold("v0")
        await deployment.until("blocked", lambda status: status.get("phase") == "Blocked")
        for client in (traffic, *clients):
            await client.until(lambda t: len(t.since(held_at + LAST_BYTE_SECONDS)) >= 20)
    for client in (traffic, *clients):
        assert last_byte_after(client, "v0", held_at) <= LAST_BYTE_SECONDS, client.url
        assert answers_of(client, "v0", held_at + LAST_BYTE_SECONDS) == [], client.url


async def test_a_poll_detects_the_hold_without_a_webhook(make_scene: MakeScene) -> None:
    scene = await make_scene()
    deployment = await scene.serving(poll_interval="2s")
    async with deployment.traffic() as traffic:
        await traffic.until(lambda t: len(t.answers) >= 40)
        held_at = time.monotonic()
        scene.hold("v0")
        await deployment.until("blocked", lambda status: status.get("phase") == "Blocked")
        await traffic.until(lambda t: len(t.since(held_at + 5)) >= 20)
    assert last_byte_after(traffic, "v0", held_at) <= 2.0 + 1.0 + LAST_BYTE_SECONDS, "the interval, and its jitter"


async def test_while_blocked_every_request_is_answered_503_at_once(scene: Scene) -> None:
    deployment = await scene.serving()
    scene.hold("v0")
    await deployment.until("blocked", lambda status: status.get("phase") == "Blocked")
    statuses: list[int] = []
    async with aiohttp.ClientSession(headers={"host": deployment.host}) as session, asyncio.timeout(GATEWAY_SECONDS):
        while statuses[-20:] != [503] * 20:  # the gateway's data plane may lag for a moment, but never reverts
            async with session.get(f"{scene.stage.cluster.gateway_url}/v1/models") as answer:
                statuses.append(answer.status)
    assert set(statuses[statuses.index(503) :]) == {503}, "once the gateway refuses, it keeps refusing"
