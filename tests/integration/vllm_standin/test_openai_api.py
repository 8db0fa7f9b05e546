"""The OpenAI API of the running stand-in, in the shapes of vLLM."""

import asyncio
import base64
import struct
from typing import Any

import pytest


async def test_a_completion_is_whole_and_names_the_first_served_model(served: Any) -> None:
    status, body = await served.complete(model="chat")

    assert status == 200
    assert body["object"] == "text_completion"
    assert body["id"].startswith("cmpl-")
    assert body["model"] == "chat@v7-3fa9c1d2"
    assert body["choices"] == [
        {
            "index": 0,
            "text": "one two three four",
            "finish_reason": "stop",
            **dict.fromkeys(("logprobs", "stop_reason", "token_ids", "routed_experts")),
            **dict.fromkeys(("prompt_logprobs", "prompt_token_ids")),
        }
    ]
    assert body["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": 4,
        "total_tokens": 5,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }
    assert body["system_fingerprint"].startswith("vllm-0.32.0-")


async def test_a_chat_answers_as_the_assistant(served: Any) -> None:
    messages = [{"role": "user", "content": "Hello there"}]
    status, body = await served.post("/v1/chat/completions", {"model": "chat", "messages": messages})

    assert status == 200
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["role"] == "assistant"
    assert body["choices"][0]["message"]["content"] == "one two three four"
    assert body["usage"]["prompt_tokens"] == 2


async def test_a_streamed_completion_comes_token_by_token_with_usage_and_done(served: Any) -> None:
    *chunks, usage, done = await served.stream(stream_options={"include_usage": True})

    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["one", " two", " three", " four"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert {chunk["model"] for chunk in chunks} == {"chat@v7-3fa9c1d2"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 4
    assert done == "[DONE]"


async def test_a_streamed_chat_begins_with_the_role(served: Any) -> None:
    role, *chunks, done = await served.stream("/v1/chat/completions")

    assert role["object"] == "chat.completion.chunk"
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "one two three four"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert done == "[DONE]"


async def test_several_choices_stream_side_by_side_and_each_ends(served: Any) -> None:
    *chunks, done = await served.stream(n=2, prompt=["a b", "c"])

    texts: dict[int, str] = {}
    for chunk in chunks:
        [choice] = chunk["choices"]
        texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    assert texts == dict.fromkeys(range(4), "one two three four")
    assert done == "[DONE]"


async def test_two_versions_answer_differently(serve: Any) -> None:
    one = await (await serve(says="I am v1")).listening()
    two = await (await serve(says="I am v2")).listening()

    (_, first), (_, second) = await one.complete(), await two.complete()

    assert (first["choices"][0]["text"], second["choices"][0]["text"]) == ("I am v1", "I am v2")
    assert first["system_fingerprint"] != second["system_fingerprint"]


async def test_the_models_list_all_served_names(served: Any) -> None:
    async with served.client.get(served.url + "/v1/models") as answer:
        body = await answer.json()

    assert [card["id"] for card in body["data"]] == ["chat@v7-3fa9c1d2", "chat"]
    assert body["data"][0]["max_model_len"] == 4096


async def test_a_completions_log_probabilities_have_vllms_shape(served: Any) -> None:
    _, body = await served.complete(logprobs=3)

    logprobs = body["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["one", " two", " three", " four"]
    assert logprobs["text_offset"] == [0, 3, 7, 13]
    assert [len(top) for top in logprobs["top_logprobs"]] == [3, 3, 3, 3]
    for token, logprob, top in zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
    ):
        assert logprob == top[token] == max(top.values()) < 0


async def test_a_chats_log_probabilities_have_vllms_shape(served: Any) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    ask = {"model": "chat", "messages": messages, "logprobs": True, "top_logprobs": 2}
    _, body = await served.post("/v1/chat/completions", ask)

    content = body["choices"][0]["logprobs"]["content"]
    assert [item["token"] for item in content] == ["one", " two", " three", " four"]
    assert content[1]["bytes"] == list(b" two")
    assert [len(item["top_logprobs"]) for item in content] == [2, 2, 2, 2]
    assert content[0]["top_logprobs"][0] == {key: content[0][key] for key in ("token", "logprob", "bytes")}


async def test_a_stream_has_the_same_log_probabilities_as_the_whole_answer(served: Any) -> None:
    _, whole = await served.complete(logprobs=2)
    *chunks, _ = await served.stream(logprobs=2)

    streamed = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    for key, values in whole["choices"][0]["logprobs"].items():
        assert [value for logprobs in streamed for value in logprobs[key]] == values


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "message"),
    [
        (
            "/v1/completions",
            {"model": "other", "prompt": "x"},
            404,
            "NotFoundError",
            "The model `other` does not exist. Valid aliases: chat@v7-3fa9c1d2, chat.",
        ),
        ("/v1/completions", {"model": "chat"}, 400, "BadRequestError", "Either prompt or prompt_embeds must be"),
        ("/v1/chat/completions", {"model": "chat"}, 400, "Bad Request", "'body.messages', 'msg': 'Field required'"),
        ("/v1/completions", {"prompt": "x", "max_tokens": 0}, 400, "BadRequestError", "max_tokens must be at least 1"),
        (
            "/v1/completions",
            {"prompt": "x", "max_tokens": 9999},
            400,
            "BadRequestError",
            "cannot be greater than max_mod",
        ),
        ("/v1/completions", {"prompt": "x", "max_tokens": 4096}, 400, "BadRequestError", "maximum context length is"),
        ("/v1/completions", {"prompt": [1] * 5000}, 400, "BadRequestError", "maximum context length is 4096"),
        ("/v1/completions", {"prompt": "x", "max_tokens": "many"}, 400, "Bad Request", "'body.max_tokens'"),
        ("/v1/completions", {"prompt": "x", "stream": 2}, 400, "Bad Request", "'body.stream'"),
        ("/v1/completions", {"prompt": {"a": 1}}, 400, "Bad Request", "'body.prompt'"),
        ("/v1/completions", {"prompt": "x", "stream_options": {}}, 400, "BadRequestError", "Stream options can only"),
        ("/v1/completions", {"prompt": "x", "logprobs": -1}, 400, "BadRequestError", "must be a positive value"),
        ("/v1/completions", {"prompt": "x", "logprobs": 21}, 400, "BadRequestError", "greater than max allowed: 20"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "x"}], "top_logprobs": 2},
            400,
            "BadRequestError",
            "when using `top_logprobs`, `logprobs` must be set to true",
        ),
        ("/v1/completions", [], 400, "Bad Request", "valid dictionary"),
    ],
)
async def test_an_error_has_vllms_shape(
    served: Any, path: str, body: Any, status: int, kind: str, message: str
) -> None:
    found, answer = await served.post(path, body)

    assert found == status
    assert answer["error"]["code"] == status
    assert answer["error"]["type"] == kind
    assert message in answer["error"]["message"]


async def test_what_no_route_answers_has_fastapis_shape(served: Any) -> None:
    assert await served.post("/v1/embeddings", {"input": "x"}) == (404, {"detail": "Not Found"})
    assert await served.post("/v1/models", {}) == (405, {"detail": "Method Not Allowed"})
    async with served.client.head(served.url + "/health") as answer:
        assert answer.status == 405


async def test_a_body_that_is_no_json_is_a_bad_request(served: Any) -> None:
    for body, content_type in ((b"{", "application/json"), (b"{}", "text/plain")):
        headers = {"content-type": content_type}
        async with served.client.post(served.url + "/v1/completions", data=body, headers=headers) as answer:
            assert answer.status == 400


async def test_an_embedding_model_answers_embeddings_and_nothing_else(serve: Any) -> None:
    served = await (await serve(task="embed")).listening()

    status, body = await served.post("/v1/embeddings", {"model": "chat", "input": ["a b", "c"]})
    _, packed = await served.post("/v1/embeddings", {"model": "chat", "input": "a b", "encoding_format": "base64"})

    assert status == 200
    assert [item["index"] for item in body["data"]] == [0, 1]
    vector = body["data"][0]["embedding"]
    assert struct.unpack("<8f", base64.b64decode(packed["data"][0]["embedding"])) == tuple(vector)
    assert (await served.complete())[0] == 404


async def test_the_metrics_count_what_happened_under_vllms_names(served: Any) -> None:
    await served.complete()
    await served.stream()
    await served.complete(model="other")

    samples = await served.metrics()

    mine = 'engine="0",model_name="chat@v7-3fa9c1d2"'
    assert samples[f"vllm:prompt_tokens_total{{{mine}}}"] == 2
    assert samples[f"vllm:generation_tokens_total{{{mine}}}"] == 8
    finished = 'engine="0",finished_reason="stop",model_name="chat@v7-3fa9c1d2"'
    assert samples[f"vllm:request_success_total{{{finished}}}"] == 2
    assert samples[f"vllm:time_to_first_token_seconds_count{{{mine}}}"] == 2
    assert samples['http_requests_total{handler="/v1/completions",method="POST",status="2xx"}'] == 2
    assert samples['http_requests_total{handler="/v1/completions",method="POST",status="4xx"}'] == 1
    assert not [series for series in samples if "/health" in series or "/metrics" in series]


async def test_a_client_that_leaves_frees_the_engine(serve: Any) -> None:
    served = await (await serve(faults={"token_seconds": 3600})).listening()
    stream = served.events()
    await anext(stream)
    waiting = asyncio.ensure_future(served.complete())
    await served.until_running(2)

    await stream.aclose()
    waiting.cancel()

    await served.until_running(0)


async def test_the_version_and_the_ping_are_vllms(served: Any) -> None:
    async with served.client.get(served.url + "/version") as answer:
        assert await answer.json() == {"version": "0.32.0"}
    async with served.client.get(served.url + "/ping") as answer:
        assert answer.status == 200
