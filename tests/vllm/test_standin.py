"""Compares the stand-in with the vLLM that it imitates, answer by answer, for the same requests and signals.

All allowed differences are listed here; docs/design/vllm.md has the table for readers.
"""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from realvllm.model import make_adapter

FUSE_TOKEN = "the token of this revision"
CHAT = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
TEXT = {"model": "chat", "prompt": "Hello", "max_tokens": 3}

REQUESTS: dict[str, tuple[str, str, Any]] = {
    "a completion": ("POST", "/v1/completions", TEXT),
    "without a model": ("POST", "/v1/completions", {"prompt": "Hello", "max_tokens": 3}),
    "an empty model": ("POST", "/v1/completions", TEXT | {"model": ""}),
    "a model that is not there": ("POST", "/v1/completions", TEXT | {"model": "x"}),
    "a stream of a model that is not there": ("POST", "/v1/completions", TEXT | {"model": "x", "stream": True}),
    "a model that is a number": ("POST", "/v1/completions", TEXT | {"model": 7}),
    "two choices": ("POST", "/v1/completions", TEXT | {"n": 2}),
    "no choice": ("POST", "/v1/completions", TEXT | {"n": 0}),
    "two prompts": ("POST", "/v1/completions", TEXT | {"prompt": ["a", "b"]}),
    "tokens": ("POST", "/v1/completions", TEXT | {"prompt": [5, 6]}),
    "no prompt": ("POST", "/v1/completions", {"model": "chat"}),
    "no prompts": ("POST", "/v1/completions", {"model": "chat", "prompt": []}),
    "no tokens": ("POST", "/v1/completions", TEXT | {"max_tokens": 0}),
    "a number as text": ("POST", "/v1/completions", TEXT | {"max_tokens": "2"}),
    "no number": ("POST", "/v1/completions", TEXT | {"max_tokens": "x"}),
    "too many tokens": ("POST", "/v1/completions", TEXT | {"max_tokens": 100_000}),
    "a field that is not known": ("POST", "/v1/completions", TEXT | {"zzz": 1}),
    "a stream": ("POST", "/v1/completions", TEXT | {"stream": True}),
    "a stream with usage": (
        "POST", "/v1/completions", TEXT | {"stream": True, "stream_options": {"include_usage": True}},
    ),
    "stream options alone": ("POST", "/v1/completions", TEXT | {"stream_options": {"include_usage": True}}),
    "no truth": ("POST", "/v1/completions", TEXT | {"stream": "perhaps"}),
    "a chat": ("POST", "/v1/chat/completions", CHAT),
    "a chat without a model": ("POST", "/v1/chat/completions", {k: v for k, v in CHAT.items() if k != "model"}),
    "a streamed chat": ("POST", "/v1/chat/completions", CHAT | {"stream": True}),
    "a chat without messages": ("POST", "/v1/chat/completions", {"model": "chat"}),
    "an empty chat": ("POST", "/v1/chat/completions", CHAT | {"messages": []}),
    "a chat of text": ("POST", "/v1/chat/completions", CHAT | {"messages": "x"}),
    "no JSON": ("POST", "/v1/completions", b"{"),
    "a list": ("POST", "/v1/completions", b"[]"),
    "nothing": ("POST", "/v1/completions", b""),
    "what the model cannot do": ("POST", "/v1/embeddings", {"model": "chat", "input": "x"}),
    "the models": ("GET", "/v1/models", None),
    "health": ("GET", "/health", None),
    "HEAD of health": ("HEAD", "/health", None),
    "ping": ("GET", "/ping", None),
    "version": ("GET", "/version", None),
    "load": ("GET", "/load", None),
    "nowhere": ("GET", "/nowhere", None),
    "another method": ("GET", "/v1/completions", None),
    "readiness": ("GET", "/modelsync/ready", None),
}  # fmt: skip


def shape(value: Any) -> Any:
    """The part of an answer that must be the same: names and types in results, the full text of errors."""
    if isinstance(value, dict) and ("error" in value or "detail" in value):
        return value
    if isinstance(value, dict):
        return {key: shape(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


def read(status: int, headers: dict[str, str], text: str) -> dict[str, Any]:
    named = {name: value for name, value in headers.items() if name.startswith("x-model-")}
    content: Any = text
    if headers.get("content-type", "").startswith("text/event-stream"):
        events = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
        content = [event if event == "[DONE]" else shape(json.loads(event)) for event in events]
    elif text.startswith("{"):
        content = shape(json.loads(text))
    return {"status": status, "content-type": headers.get("content-type"), **named, "content": content}


async def test_every_request_gets_the_same_answer_from_both(serve: Any) -> None:
    real, standin = [await (await serve(kind)).listening() for kind in ("real", "stand-in")]
    for server in (real, standin):
        async with asyncio.timeout(60):
            while (await server.ask("GET", "/modelsync/ready"))[0] != 200:  # noqa: ASYNC110  # there is no other signal
                await asyncio.sleep(0.2)

    differences = {}
    for name, (method, path, body) in REQUESTS.items():
        theirs, ours = read(*await real.ask(method, path, body)), read(*await standin.ask(method, path, body))
        if theirs != ours:
            differences[name] = (theirs, ours)
    assert differences == {}

    assert await series(standin) - await series(real) == set(), "the stand-in has no metric that vLLM lacks"
    missing = {name for name in await series(real) - await series(standin) if name in USED}
    assert missing == set()


USED = {
    "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "vllm:request_success",
    "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds", "vllm:e2e_request_latency_seconds",
    "vllm:prompt_tokens", "vllm:generation_tokens", "http_requests",
}  # fmt: skip
"""The families that modelsync, its docs or its examples read."""


async def series(server: Any) -> set[str]:
    """The name of each family, and its name with label names and buckets as one text."""
    _, _, text = await server.ask("GET", "/metrics")
    found = set()
    for family in text_string_to_metric_families(text):
        if family.name.endswith("_created") or not family.name.startswith(("vllm:", "http_requests")):
            continue
        labels = {
            ",".join(sorted(set(sample.labels) - {"le"})) for sample in family.samples if "_created" not in sample.name
        }
        bounds = sorted({sample.labels["le"] for sample in family.samples if "le" in sample.labels}, key=float)
        found |= {family.name, f"{family.name} {sorted(labels)} {bounds}"}
    return found


@pytest.mark.parametrize("kind", ["real", "stand-in"])
async def test_a_drain_finishes_running_requests_and_fails_new_ones(serve: Any, kind: str) -> None:
    server = await (await serve(kind, shutdown_timeout="60s")).listening()
    begun = asyncio.Event()
    running = asyncio.ensure_future(server.stream(4000, begun=begun))
    await begun.wait()

    server.terminate()
    late = 200
    async with asyncio.timeout(20):
        while late == 200:  # the signal is on its way
            late, headers, text = await server.ask("POST", "/v1/completions", TEXT)

    assert (late, json.loads(text)["error"]["type"]) == (500, "InternalServerError")
    assert headers["x-model-revision"], "failed requests contain their version, too"
    status, _, reason = await server.ask("GET", "/modelsync/ready")
    assert (status, "shutting down" in reason) == (503, True)
    assert (await server.ask("GET", "/health"))[0] == 200
    *_, last, done = await running
    assert (json.loads(last)["choices"][0]["finish_reason"], done) == ("length" if kind == "real" else "stop", "[DONE]")
    assert await server.ended() == 0


@pytest.mark.parametrize("kind", ["real", "stand-in"])
async def test_the_fuse_cuts_an_open_stream_and_keeps_the_server_silent(serve: Any, kind: str) -> None:
    server = await (await serve(kind)).listening()
    begun = asyncio.Event()
    running = asyncio.ensure_future(server.stream(8000, begun=begun))
    await begun.wait()

    refused, _, _ = await server.ask("POST", "/modelsync/fuse", b"", authorization="Bearer wrong")
    status, _, text = await server.ask("POST", "/modelsync/fuse", b"", authorization=f"Bearer {FUSE_TOKEN}")

    assert (refused, status) == (403, 200)
    assert json.loads(text)["blown"] is True
    assert json.loads((await running)[-1])["error"]["code"] == 451
    assert (await server.ask("POST", "/v1/completions", TEXT))[0] == 451
    assert (await server.ask("GET", "/modelsync/ready"))[0] == 503
    assert (await server.ask("GET", "/health"))[0] == 200


@pytest.mark.parametrize("kind", ["real", "stand-in"])
async def test_a_flag_that_is_not_known_ends_the_server_with_its_name(serve: Any, kind: str) -> None:
    server = await serve(kind, "--max-modle-len=8")

    assert await server.ended(120) == 2
    assert re.search(r"unrecognized arguments: --max-modle-len", server.log.read_text())


async def test_an_adapter_answers_under_its_name_beside_its_base(serve: Any, tmp_path: Path) -> None:
    """The base answers with its word, and the adapter with its sign."""
    make_adapter(tmp_path / "legal", "~")
    modules = json.dumps({"name": "legal", "path": str(tmp_path / "legal")})
    flags = ("--enable-lora", "--max-lora-rank=8", f"--lora-modules={modules}")
    server = await (await serve("real", *flags)).listening()

    answers = {}
    for name in ("chat", "legal"):
        _, _, text = await server.ask(
            "POST", "/v1/completions", TEXT | {"model": name, "prompt": "?", "max_tokens": 12}
        )
        body = json.loads(text)
        answers[body["model"].partition("@")[0]] = body["choices"][0]["text"]

    assert answers == {"chat": " version1 ve", "legal": "~" * 12}


async def test_several_server_processes_lose_running_requests_at_a_graceful_end(serve: Any) -> None:
    """With --api-server-count, vLLM drains nothing, so a pod's preStop must wait until vLLM is idle before SIGTERM."""
    server = await (await serve("real", "--api-server-count=2", shutdown_timeout="5s")).listening()
    begun = asyncio.Event()
    running = asyncio.ensure_future(server.stream(8000, begun=begun))
    await begun.wait()

    server.terminate()

    with pytest.raises(aiohttp.ClientPayloadError):
        await running
    await server.ended()
