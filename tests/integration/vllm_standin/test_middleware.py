"""The middleware inside a server that loads it as vLLM does: with `--middleware`, from a copied folder."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from vllm_standin.adapter import make_adapter

MIDDLEWARE = ("--middleware", "modelsync_middleware.VersionHeader")
NAMED = {"x-model-version": "chat llm:v7", "x-model-revision": "v7-3fa9c1d2", "x-model-digest": "0123abcd"}
COMPLETION = {"model": "chat", "prompt": "Hello"}


async def headers(served: Any, method: str, path: str, **request: Any) -> tuple[int, dict[str, str]]:
    async with served.client.request(method, served.url + path, **request) as answer:
        await answer.read()
        return answer.status, {name: answer.headers.get(name, "") for name in NAMED}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/completions", COMPLETION, 200),
        ("POST", "/v1/completions", {**COMPLETION, "stream": True}, 200),
        ("POST", "/v1/completions", {**COMPLETION, "model": "other"}, 404),
        ("POST", "/v1/completions", {"model": "chat"}, 400),
        ("GET", "/nowhere", None, 404),
        ("GET", "/v1/completions", None, 405),
        ("GET", "/health", None, 200),
        ("GET", "/modelsync/ready", None, 200),
    ],
)
async def test_every_answer_names_version_revision_and_digest(
    serve: Any, method: str, path: str, body: Any, status: int
) -> None:
    served = await (await serve(*MIDDLEWARE)).listening()

    assert await headers(served, method, path, json=body) == (status, NAMED)


async def test_an_answer_that_fails_names_its_version_too(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE, faults={"error_rate": 1})).listening()

    assert await headers(served, "POST", "/v1/completions", json=COMPLETION) == (500, NAMED)


async def test_chunks_of_a_stream_arrive_while_the_model_still_speaks(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE, faults={"token_seconds": 3600})).listening()
    stream = served.events()

    first = await asyncio.wait_for(anext(stream), 20)

    assert first["choices"][0]["text"] == "one"
    assert await served.running() == 1
    await stream.aclose()


async def test_readiness_costs_one_request_and_probes_are_not_counted(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE)).listening()

    answers = await asyncio.gather(*(headers(served, "GET", "/modelsync/ready") for _ in range(20)))

    assert {status for status, _ in answers} == {200}
    samples = await served.metrics()
    counted = {series: value for series, value in samples.items() if series.startswith("http_requests_total")}
    assert counted == {'http_requests_total{handler="/v1/completions",method="POST",status="2xx"}': 1}


async def test_an_embedding_model_becomes_ready_too(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE, task="embed")).listening()

    assert (await headers(served, "GET", "/modelsync/ready"))[0] == 200


async def test_a_model_whose_answers_fail_does_not_become_ready(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE, faults={"error_rate": 1})).listening()

    async with served.client.get(served.url + "/modelsync/ready") as answer:
        assert answer.status == 503
        assert "500" in (await answer.json())["reason"]


async def test_a_pod_that_drains_is_not_ready_while_it_goes_on_serving(serve: Any) -> None:
    args = (*MIDDLEWARE, "--shutdown-timeout", "30")
    served = await (await serve(*args, faults={"token_seconds": 0.05})).listening()
    assert (await headers(served, "GET", "/modelsync/ready"))[0] == 200
    running = asyncio.ensure_future(served.stream(max_tokens=20, ignore_eos=True))
    await served.until_running(1)

    served.terminate()
    await served.logged("mode=drain")

    assert await headers(served, "GET", "/modelsync/ready") == (503, NAMED)
    assert (await running)[-2]["choices"][0]["finish_reason"] == "length"
    assert await served.exit_code() == 0


async def test_a_coroutine_function_is_a_middleware_as_well(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "modelsync" / "mine.py").write_text(
        "async def mark(request, call_next):\n"
        "    answer = await call_next(request)\n"
        "    answer.headers['x-mine'] = request.url.path\n"
        "    return answer\n"
    )
    served = await (await serve(*MIDDLEWARE, "--middleware", "mine.mark")).listening()

    async with served.client.get(served.url + "/version") as answer:
        assert answer.headers["x-mine"] == "/version"
        assert answer.headers["x-model-revision"] == "v7-3fa9c1d2"


async def test_adapters_are_asked_for_by_their_plain_names_and_the_base_is_not(serve: Any, tmp_path: Path) -> None:
    folder = tmp_path / "legal"
    folder.mkdir()
    for name, content in make_adapter("I am a lawyer").items():
        (folder / name).write_bytes(content)
    legal = "legal@v7-3fa9c1d2"
    served = await serve(
        *MIDDLEWARE,
        "--enable-lora",
        "--lora-modules",
        json.dumps({"name": legal, "path": str(folder)}),
        variables={"MODELSYNC_ADAPTER_NAMES": legal, "MODELSYNC_BASE_NAMES": "chat@v7-3fa9c1d2,chat"},
    )
    await served.listening()
    status, answer = await served.complete(model="legal")
    assert (status, answer["model"], answer["choices"][0]["text"]) == (200, legal, "I am a lawyer")
    assert {event["model"] for event in await served.stream(model="legal") if event != "[DONE]"} == {legal}
    assert (await served.complete())[0] == 404
    assert (await served.complete(model=None))[0] == 400
    async with served.client.get(served.url + "/modelsync/ready") as ready:
        assert ready.status == 200, "the model and each adapter have answered, although clients may not use the base"
    async with served.client.get(served.url + "/v1/models") as listing:
        assert [card["id"] for card in (await listing.json())["data"]] == [legal, "legal"]
