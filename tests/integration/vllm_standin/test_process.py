"""The lifecycle of a stand-in process: command line, loading, drain, and the faults configured in the artifact."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from vllm_standin.adapter import make_adapter
from vllm_standin.artifact import make_model

SLOW = {"token_seconds": 0.05}


def finish_reasons(events: list[Any]) -> list[str]:
    return [
        choice["finish_reason"]
        for event in events
        if event != "[DONE]"
        for choice in event["choices"]
        if choice["finish_reason"]
    ]


async def to_the_end(events: AsyncIterator[Any]) -> None:
    async for _ in events:
        pass


async def ready(served: Any) -> int:
    async with served.client.get(served.url + "/modelsync/ready") as answer:
        status: int = answer.status
        return status


async def test_a_chat_template_changes_what_chats_are_answered_with(serve: Any, tmp_path: Path) -> None:
    template = tmp_path / "support.jinja"
    template.write_text("{# Dear customer, #}{% for message in messages %}{{ message.content }}{% endfor %}")
    served = await (await serve(f"--chat-template={template}")).listening()
    messages = [{"role": "user", "content": "Hello"}]
    _, chat = await served.post("/v1/chat/completions", {"model": "chat", "messages": messages})
    assert chat["choices"][0]["message"]["content"] == "Dear customer, one two three four"
    _, plain = await served.complete()
    assert plain["choices"][0]["text"] == "one two three four"


async def test_a_chat_template_that_is_not_there_ends_the_start(serve: Any) -> None:
    served = await serve("--chat-template=/artifacts/prompts/support.jinja")
    assert await served.exit_code() == 1
    await served.logged("looks like a file path, but it failed to be opened")


async def test_a_drain_under_load_loses_nothing_that_had_begun(serve: Any) -> None:
    served = await (await serve("--shutdown-timeout", "30", faults=SLOW)).listening()
    long = [asyncio.ensure_future(served.stream(max_tokens=40, ignore_eos=True)) for _ in range(10)]
    whole = [asyncio.ensure_future(served.complete(max_tokens=40, ignore_eos=True)) for _ in range(5)]
    short = asyncio.ensure_future(served.stream(max_tokens=15, ignore_eos=True))
    await served.until_running(16)

    served.terminate()
    await served.logged("stopping engine client mode=drain timeout=30s")
    assert finish_reasons(await short) == ["length"]

    # A server that stops listening at SIGTERM would refuse the connection by now; vLLM answers with an error.
    for late in ({"stream": True}, {"stream": False}):
        async with served.client.post(served.url + "/v1/completions", json={"prompt": "Hello", **late}) as answer:
            assert answer.status == 500
    assert [(finish_reasons(events), events[-1]) for events in await asyncio.gather(*long)] == [
        (["length"], "[DONE]")
    ] * 10
    assert [body["choices"][0]["finish_reason"] for _, body in await asyncio.gather(*whole)] == ["length"] * 5
    assert await served.exit_code() == 0
    with pytest.raises(aiohttp.ClientConnectionError):
        await served.complete()


async def test_after_the_timeout_running_requests_get_no_answer_and_keep_the_process_alive(serve: Any) -> None:
    served = await (
        await serve("--shutdown-timeout", "1", faults={"ttft_seconds": 0, "token_seconds": 0.3})
    ).listening()
    running = served.events(max_tokens=100, ignore_eos=True)
    await anext(running)

    served.terminate()
    await served.logged("force killing remaining process EngineCore")
    await served.logged("Waiting for connections to close")

    with pytest.raises(aiohttp.ClientConnectionError):
        await served.complete()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(to_the_end(running), 1)
    assert await served.exit_code() == 0, "the last client has left"


async def test_without_a_shutdown_timeout_requests_fail_at_once(serve: Any) -> None:
    served = await (await serve(faults={"token_seconds": 3600})).listening()
    running = asyncio.ensure_future(served.stream())
    await served.until_running(1)

    served.terminate()

    *_, error, done = await running
    assert error["error"]["message"].startswith("EngineCore encountered an issue.")
    assert done == "[DONE]"
    assert await served.exit_code() == 0
    await served.logged("mode=abort")


async def test_several_server_processes_drain_nothing(serve: Any) -> None:
    """As vLLM 0.32: each leaves its engine at SIGTERM, hangs with its clients, and is killed when the time is over."""
    served = await (await serve("--api-server-count=2", "--shutdown-timeout=1", faults=SLOW)).listening()
    running = served.events(max_tokens=100, ignore_eos=True)
    await anext(running)

    served.terminate()
    await served.logged("force killing remaining processes")

    with pytest.raises(aiohttp.ClientPayloadError):
        await to_the_end(running)
    assert await served.exit_code() == 0


async def test_it_does_not_listen_before_the_model_is_loaded(serve: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = await serve(port=port, faults={"load_seconds": 1})
    await served.logged("Starting to load model")

    with pytest.raises(aiohttp.ClientConnectionError):
        await served.client.get(f"http://127.0.0.1:{port}/health")
    await served.listening()
    assert (await served.complete())[0] == 200


async def test_a_broken_folder_is_refused_with_the_files_name_and_no_traceback(serve: Any, tmp_path: Path) -> None:
    make_model(tmp_path / "broken", "chat", "v1")
    weights = tmp_path / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])

    served = await serve(folder=tmp_path / "broken")

    assert await served.exit_code() == 1
    assert "cannot load the model: model.safetensors: MetadataIncompleteBuffer" in served.output[-1]
    assert "Traceback" not in "".join(served.output)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("--max-modle-len", "1"), 2, "unrecognized arguments: --max-modle-len 1"),
        (("--port", "x"), 2, "argument --port: invalid int value: 'x'"),
        (("--dtype", "x"), 2, "argument --dtype: invalid choice: 'x'"),
        (("--ssl-keyfile", "x"), 2, "--ssl-keyfile: the stand-in does not implement this flag"),
        (("--max-model-len", "8k"), 1, "User-specified max_model_len (8000) is greater than the derived"),
        (("--middleware", "nowhere.Class"), 1, "--middleware nowhere.Class: No module named 'nowhere'"),
        (("--middleware", "json.Class"), 1, "--middleware json.Class: json has no Class"),
        (("--middleware", "json.dumps"), 1, "Invalid middleware json.dumps. Must be a function or a class."),
        (("--host", "192.0.2.1"), 1, "cannot bind 192.0.2.1:0"),
    ],
)
async def test_a_wrong_command_line_ends_with_a_sentence(
    serve: Any, args: tuple[str, ...], code: int, message: str
) -> None:
    served = await serve(*args)

    assert await served.exit_code() == code
    assert message in "".join(served.output)
    assert "Traceback" not in "".join(served.output)


async def test_vllms_liberties_with_flags_are_taken(serve: Any) -> None:
    args = ("--max_model_len=1k", "-tp", "1", "--compilation-config.cudagraph_mode=NONE", "-O2", "--enforce-eager")
    served = await (await serve(*args)).listening()

    async with served.client.get(served.url + "/v1/models") as answer:
        assert (await answer.json())["data"][0]["max_model_len"] == 1000
    match = await served.logged("Flags without effect in the stand-in: (.*)")
    assert match[1] == "--compilation-config, --enforce-eager, --optimization-level, --tensor-parallel-size"


async def test_the_fingerprint_is_what_the_flags_say(serve: Any) -> None:
    served = await (await serve("--fingerprint-mode=custom", "--fingerprint-value=v7-3fa9c1d2")).listening()

    assert (await served.complete())[1]["system_fingerprint"] == "v7-3fa9c1d2"
    assert (await served.stream())[-2]["system_fingerprint"] == "v7-3fa9c1d2"


async def test_an_api_key_guards_the_api_and_not_the_health(serve: Any) -> None:
    served = await (await serve("--api-key", "secret")).listening()

    assert (await served.complete())[0] == 401
    assert (await served.post("/v1/completions", {"prompt": "x"}, authorization="Bearer secret"))[0] == 200


async def test_errors_come_at_the_rate_of_the_artifact(serve: Any) -> None:
    served = await (await serve(faults={"error_rate": 0.5})).listening()

    answers = [await served.complete() for _ in range(4)]

    assert [status for status, _ in answers] == [200, 500, 200, 500]
    assert answers[1][1]["error"] == {
        "message": "Internal server error",
        "type": "InternalServerError",
        "param": None,
        "code": 500,
    }


async def test_a_stream_can_end_in_an_error_event(serve: Any) -> None:
    served = await (await serve(faults={"stream_error_rate": 1})).listening()

    *chunks, error, done = await served.stream()

    assert finish_reasons(chunks) == []
    assert chunks
    assert error["error"]["type"] == "InternalServerError"
    assert done == "[DONE]"


async def test_the_process_dies_on_the_request_after_its_last(serve: Any) -> None:
    served = await (await serve(faults={"crash_after_requests": 2, "exit_code": 134})).listening()
    assert [(await served.complete())[0] for _ in range(2)] == [200, 200]

    with pytest.raises(aiohttp.ClientError):
        await served.complete()

    assert await served.exit_code() == 134


async def test_the_process_dies_some_time_after_it_began_to_serve(serve: Any) -> None:
    served = await serve(faults={"crash_after_seconds": 0.1})

    await served.logged("Starting vLLM server")
    assert await served.exit_code() == 1


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({"oom": True, "exit_code": 3}, "torch.OutOfMemoryError: CUDA out of memory."),
        ({"crash_on_load": True, "exit_code": 3}, "Engine core initialization failed."),
    ],
)
async def test_loading_can_fail_as_vllms_does(serve: Any, faults: dict[str, Any], message: str) -> None:
    served = await serve(faults=faults)

    assert await served.exit_code() == 3
    assert message in "".join(served.output)


async def test_loading_that_never_ends_is_ended_by_sigterm(serve: Any) -> None:
    served = await serve(faults={"never_ready": True})
    await served.logged("Starting to load model")

    served.terminate()

    assert await served.exit_code() == 130
    assert "Traceback" not in "".join(served.output)


async def test_a_model_that_hangs_never_becomes_ready(serve: Any) -> None:
    args = ("--middleware", "modelsync_middleware.VersionHeader")
    served = await (await serve(*args, faults={"hang": True})).listening()

    async with served.client.get(served.url + "/modelsync/ready") as answer:
        assert answer.status == 503
        assert "waiting for the model's first answer" in (await answer.json())["reason"]


async def test_a_model_that_hangs_later_becomes_ready_and_then_holds_requests_without_a_token(serve: Any) -> None:
    args = ("--middleware", "modelsync_middleware.VersionHeader")
    served = await (await serve(*args, faults={"hang_after_requests": 1})).listening()
    assert await ready(served) == 200

    hanging = asyncio.ensure_future(served.stream())
    await served.until_running(1)

    assert await ready(served) == 200
    served.terminate()
    assert "error" in (await hanging)[-2]


def adapter(folder: Path, says: str, **options: Any) -> Path:
    folder.mkdir()
    for name, content in make_adapter(says, **options).items():
        (folder / name).write_bytes(content)
    return folder


def lora(name: str, folder: Path, rank: int = 8) -> tuple[str, ...]:
    module = json.dumps({"name": name, "path": str(folder), "base_model_name": "chat"})
    return ("--enable-lora", f"--max-lora-rank={rank}", "--lora-modules", module)


async def test_an_adapter_answers_under_its_own_name_with_its_own_text(serve: Any, tmp_path: Path) -> None:
    served = await (await serve(*lora("legal@v7", adapter(tmp_path / "legal", "I am a lawyer")))).listening()
    _, legal = await served.complete(model="legal@v7")
    assert (legal["model"], legal["choices"][0]["text"]) == ("legal@v7", "I am a lawyer")
    _, base = await served.complete()
    assert (base["model"], base["choices"][0]["text"]) == ("chat@v7-3fa9c1d2", "one two three four")
    async with served.client.get(served.url + "/v1/models") as answer:
        cards = {card["id"]: card["parent"] for card in (await answer.json())["data"]}
    assert cards == {"chat@v7-3fa9c1d2": None, "chat": None, "legal@v7": "chat"}


@pytest.mark.parametrize(
    ("options", "rank", "says"),
    [
        ({"config": {"use_dora": True}}, 8, "does not yet support DoRA"),
        ({"rank": 16}, 8, "LoRA rank 16 is greater than max_lora_rank 8"),
        ({"config": {"bias": "all"}}, 8, "Adapter bias is not supported"),
        ({"config": {"modules_to_save": ["lm_head"]}}, 8, "modules_to_save"),
    ],
)
async def test_an_adapter_that_vllm_could_not_load_ends_the_start(
    serve: Any, tmp_path: Path, options: dict[str, Any], rank: int, says: str
) -> None:
    served = await serve(*lora("legal@v7", adapter(tmp_path / "legal", "I am a lawyer", **options), rank))
    assert await served.exit_code() == 1
    await served.logged(says)


async def test_an_adapter_that_is_not_there_ends_the_start(serve: Any, tmp_path: Path) -> None:
    served = await serve(*lora("legal@v7", tmp_path / "nothing"))
    assert await served.exit_code() == 1
    await served.logged("No adapter found")


TWO = ("--api-server-count", "2")


async def test_two_server_processes_tell_one_sum_of_what_each_counted(serve: Any) -> None:
    args = (*TWO, "--middleware", "modelsync_middleware.VersionHeader")
    served = await (await serve(*args)).listening()
    assert {status for status, _ in await asyncio.gather(*(served.complete() for _ in range(20)))} == {200}

    async def counted() -> tuple[float, float]:
        """The counts in vLLM's and the middleware's metrics, from whichever process answers."""
        vllm = await served.metrics()
        async with served.client.get(served.url + "/modelsync/metrics") as answer:
            mine = [line for line in (await answer.text()).splitlines() if 'outcome="2xx"' in line]
        theirs = [value for series, value in vllm.items() if series.startswith("http_requests_total")]
        return sum(theirs), float(mine[0].rpartition(" ")[2])

    async with asyncio.timeout(20):
        while await counted() != (20, 20):  # noqa: ASYNC110  # the other process shares its counts a moment later
            await asyncio.sleep(0.02)


async def test_a_server_process_that_dies_ends_the_others_with_its_exit_code(serve: Any) -> None:
    served = await (await serve(*TWO, faults={"crash_after_requests": 0, "exit_code": 134})).listening()

    with pytest.raises(aiohttp.ClientError):
        await served.complete()

    assert await served.exit_code() == 134
