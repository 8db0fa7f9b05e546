"""The fuse in a server that loads the middleware as vLLM does: a held version stops at once, on every API."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

MIDDLEWARE = ("--middleware", "modelsync_middleware.VersionHeader")
TOKEN = {"authorization": "Bearer the token of this revision"}
TWO = (*MIDDLEWARE, "--api-server-count", "2")
COMPLETION = {"model": "chat", "prompt": "Hello"}


async def blow(served: Any, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    async with served.client.post(
        served.url + "/modelsync/fuse", headers=TOKEN if headers is None else headers
    ) as answer:
        return answer.status, await answer.json()


def published(served: Any) -> list[dict[str, Any]]:
    """The values published by each live server process."""
    return [json.loads(path.read_text()) for path in served.state.glob("*.json")]


async def streams_of_both(served: Any) -> list[Any]:
    """Open streams to both processes: the kernel chooses which one gets a connection."""
    streams: list[Any] = []

    async def begun() -> Any:
        stream = served.events()
        await asyncio.wait_for(anext(stream), 20)
        return stream

    async with asyncio.timeout(60):
        while True:
            streams += await asyncio.gather(*(begun() for _ in range(4)))
            while sum(process.get("running", 0) for process in published(served)) < len(streams):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            if sum(process.get("running", 0) > 0 for process in published(served)) == 2:
                return streams


async def test_open_streams_end_with_an_error_event_and_are_acknowledged(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE, faults={"token_seconds": 3600})).listening()
    streams = [served.events() for _ in range(3)]
    for stream in streams:
        await asyncio.wait_for(anext(stream), 20)

    status, acknowledged = await blow(served)

    assert (status, acknowledged["cut"], acknowledged["left"]) == (200, 3, 0)
    assert isinstance(acknowledged["lastByte"], float)
    for stream in streams:
        rest = [event async for event in stream]
        assert [event["error"]["code"] for event in rest] == [451]


async def test_requests_that_wait_for_their_answer_get_451_and_so_does_every_later_one(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE, faults={"ttft_seconds": 3600})).listening()
    waiting = asyncio.ensure_future(served.complete())
    await served.until_running(1)

    await blow(served)

    assert (await waiting)[0] == 451
    assert (await served.complete())[0] == 451
    assert (await served.post("/v1/embeddings", COMPLETION))[0] == 451
    async with served.client.get(served.url + "/v1/models") as answer:
        assert answer.status == 451
        assert answer.headers["x-model-revision"] == "v7-3fa9c1d2"


async def test_a_silenced_pod_is_alive_but_not_ready(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE)).listening()
    async with served.client.get(served.url + "/modelsync/ready") as answer:
        assert answer.status == 200

    await blow(served)

    async with served.client.get(served.url + "/modelsync/ready") as answer:
        assert answer.status == 503
        assert "held" in (await answer.json())["reason"]
    async with served.client.get(served.url + "/health") as answer:
        assert answer.status == 200


async def test_only_the_revisions_token_blows_it(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE)).listening()

    for headers in ({}, {"authorization": "Bearer another"}, {"authorization": "Basic the token of this revision"}):
        assert (await blow(served, headers))[0] == 403
    assert (await served.complete())[0] == 200


async def test_every_server_process_falls_silent_and_one_answers_for_all(serve: Any) -> None:
    served = await (await serve(*TWO, faults={"token_seconds": 3600})).listening()
    streams = await streams_of_both(served)

    status, acknowledged = await blow(served)

    assert status == 200
    assert (acknowledged["processes"], acknowledged["acknowledged"]) == (2, 2)
    assert (acknowledged["cut"], acknowledged["left"]) == (len(streams), 0)
    assert all(process["fuse"]["cut"] for process in published(served)), "each process had streams to cut"
    assert acknowledged["lastByteAge"] < 20
    for stream in streams:
        assert [event["error"]["code"] async for event in stream] == [451]
    answers = await asyncio.gather(*(served.complete() for _ in range(30)))
    assert {status for status, _ in answers} == {451}


async def test_a_second_call_returns_the_same_last_byte(serve: Any) -> None:
    served = await (await serve(*TWO)).listening()
    assert (await served.complete())[0] == 200

    first, second = (await blow(served))[1], (await blow(served))[1]

    assert first["lastByte"] == second["lastByte"] <= time.time()
    assert first["lastByteAge"] <= second["lastByteAge"]


@pytest.mark.parametrize("args", [MIDDLEWARE, TWO], ids=["one process", "two processes"])
async def test_a_container_that_is_restarted_stays_silent_from_its_first_request_on(
    serve: Any, args: tuple[str, ...]
) -> None:
    served = await (await serve(*args)).listening()
    await blow(served)
    served.process.kill()
    await served.process.wait()

    again = await (await serve(*args, state=served.state)).listening()

    assert (await again.complete())[0] == 451
    async with again.client.get(again.url + "/modelsync/ready") as answer:
        assert answer.status == 503
    async with again.client.get(again.url + "/health") as answer:
        assert answer.status == 200
    acknowledged = (await blow(again))[1]
    assert acknowledged["processes"] == acknowledged["acknowledged"]
    assert acknowledged["lastByte"] is None


async def test_a_process_that_died_is_not_waited_for(serve: Any) -> None:
    """The files of a dead process are ignored."""
    served = await (await serve(*MIDDLEWARE)).listening()
    assert (await served.complete())[0] == 200
    (served.state / "1-dead.alive").touch()
    (served.state / "1-dead.json").write_text("half a")

    acknowledged = (await blow(served))[1]

    assert (acknowledged["processes"], acknowledged["acknowledged"]) == (1, 1)


async def test_without_its_folder_a_pod_does_not_become_ready_and_one_that_loses_it_goes_on_serving(
    serve: Any, tmp_path: Path
) -> None:
    served = await (await serve(*MIDDLEWARE, state=tmp_path / "late")).listening()
    async with served.client.get(served.url + "/modelsync/ready") as answer:
        assert answer.status == 503
        assert "state folder" in (await answer.json())["reason"]
    assert (await served.complete())[0] == 200

    (tmp_path / "late").mkdir()
    async with served.client.get(served.url + "/modelsync/ready") as answer:
        assert answer.status == 200
    (tmp_path / "late").rename(tmp_path / "lost")

    assert (await served.complete())[0] == 200
    assert (await blow(served))[0] == 200
    assert (await served.complete())[0] == 451


async def test_one_of_several_processes_proves_for_all_that_the_model_answers(serve: Any) -> None:
    served = await (await serve(*TWO)).listening()

    for _ in range(30):
        async with served.client.get(served.url + "/modelsync/ready", headers={"connection": "close"}) as answer:
            assert answer.status in (200, 503)
            if answer.status == 503:
                assert "another process" in (await answer.json())["reason"]

    samples = await served.metrics()
    [asked] = [value for series, value in samples.items() if series.startswith("http_requests_total")]
    assert asked == 1
    assert answer.status == 200
