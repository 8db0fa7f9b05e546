"""The fuse in a server that loads the middleware as vLLM does: a held version falls silent at once, on every way in."""

import asyncio
from typing import Any

MIDDLEWARE = ("--middleware", "modelsync_middleware.VersionHeader")
TOKEN = {"authorization": "Bearer the token of this revision"}
COMPLETION = {"model": "chat", "prompt": "Hello"}


async def blow(served: Any, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    async with served.client.post(
        served.url + "/modelsync/fuse", headers=TOKEN if headers is None else headers
    ) as answer:
        return answer.status, await answer.json()


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
