"""A held version is silenced within a second, on every path and in every process; the status shows when."""

import json
import time
from collections.abc import Iterable
from datetime import datetime

import pytest

from e2e.conftest import Scene
from modelsync.api import duration
from traffic import Answer, Outcome, Traffic, Way

pytestmark = pytest.mark.asyncio(loop_scope="session")

SILENT_SECONDS = 1.0
STREAMS = 20


def open_streams(clients: Iterable[Traffic]) -> list[Answer]:
    return [a for client in clients for a in client.answers if a.stream and a.first_byte and not a.done]


async def test_every_path_to_a_held_version_is_silenced_within_a_second_and_the_status_shows_when(scene: Scene) -> None:
    serving = {"args": ["--api-server-count=2"]}
    deployment = await scene.serving(hold_action="Block", replicas=1, serving=serving, poll_interval="60s")
    [pod] = await deployment.pods()
    service = scene.stage.cluster.kubectl(
        "get", "service", "chat", "-n", scene.namespace, "-o", "jsonpath={.spec.clusterIP}"
    )
    around = [
        Traffic(url=f"http://{service}:8000/v1", host="chat", rate=15, stream_share=0.2, ways=[Way.KEPT]),
        Traffic(
            url=f"http://{pod['status']['podIP']}:8000/v1", host="chat", rate=15, stream_share=0.2, ways=[Way.KEPT]
        ),
    ]
    async with deployment.traffic(rate=70, stream_share=0.1) as through, around[0], around[1]:
        clients = [through, *around]
        for client in clients:
            await client.until(lambda t: len([a for a in t.answers if a.stream and a.first_byte]) >= 3)
        await through.until(lambda _: len(open_streams(clients)) >= STREAMS)
        held_at = time.monotonic()
        scene.hold("v0")
        status = await deployment.until("the fuse is reported", lambda status: status.get("silenced"))
        for client in clients:
            await client.until(lambda t: len(t.since(held_at + SILENT_SECONDS)) >= 20)
    for client in clients:
        theirs = [a.last_byte for a in client.answers if a.status == 200 and a.last_byte]
        assert max(theirs) - held_at <= SILENT_SECONDS, client.url
        late = {a.outcome for a in client.since(held_at + SILENT_SECONDS)}
        assert Outcome.OK not in late, client.url
    [silenced] = status["silenced"]
    assert silenced["revision"].startswith("v0-")
    assert (silenced["pods"], silenced["acknowledged"]) == (1, 1)
    assert duration.parse(silenced["within"]).total_seconds() <= SILENT_SECONDS
    within = datetime.fromisoformat(silenced["lastByte"]) - datetime.fromisoformat(silenced["heldSince"])
    assert 0 < within.total_seconds() <= SILENT_SECONDS

    events = json.loads(scene.stage.cluster.kubectl("get", "events", "-n", scene.namespace, "-o", "json"))["items"]
    [event] = [each for each in events if each["reason"] == "Silenced"]
    assert f"{silenced['within']} after the hold was detected; 1 of 1 pods acknowledged" in event["message"]

    scene.lift("v0")
    status = await deployment.until("it serves again", lambda status: not status.get("silenced"))
    assert status["traffic"][0]["revision"].startswith("v0-")
