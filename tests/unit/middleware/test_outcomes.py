"""Each request to the model is counted once, by its outcome as seen by the client."""

import asyncio
import hashlib
from contextlib import suppress

import pytest

from modelsync.middleware.modelsync_middleware import VersionHeader
from unit.middleware.asgi import App, Message, Receive, Recorder, Send, http, receive, websocket

NO_ANSWER = {"type": "http.disconnect"}
CHUNK = b'data: {"id":"1","choices":[{"index":0,"text":"%b","finish_reason":%b}]}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSYNC_VERSION", 'chat "llm":v7')
    monkeypatch.setenv("MODELSYNC_REVISION", "v7-3fa9c1d2")
    monkeypatch.setenv("MODELSYNC_DIGEST", "0123")
    monkeypatch.setenv("MODELSYNC_SERVED_NAMES", "chat@v7-3fa9c1d2,chat")
    monkeypatch.delenv("MODELSYNC_STATE_DIR", raising=False)


def answering(status: int, *bodies: bytes, stream: bool = False) -> App:
    """An application that responds with these chunks."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        kind = b"text/event-stream; charset=utf-8" if stream else b"application/json"
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        for body in bodies:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


async def exposition(app: VersionHeader) -> list[str]:
    page = Recorder()
    await app(http("/modelsync/metrics", "GET"), receive, page.send)
    assert page.status == 200
    assert page.headers[b"content-type"].startswith(b"text/plain; version=0.0.4")
    return page.body.decode().splitlines()


async def counted(app: VersionHeader) -> dict[str, int]:
    """The counted outcomes."""
    found = {}
    for line in await exposition(app):
        if line.startswith("modelsync_requests_total{"):
            series, _, number = line.rpartition(" ")
            if int(number):
                found[series.partition('outcome="')[2].rstrip('"}')] = int(number)
    return found


async def outcome(inner: App, scope: Message | None = None, receive: Receive = receive) -> dict[str, int]:
    """The outcomes counted for one request."""
    app = VersionHeader(inner)
    with suppress(RuntimeError):
        await app(scope or http(), receive, Recorder().send)
    return await counted(app)


@pytest.mark.parametrize(("status", "named"), [(200, "2xx"), (307, "3xx"), (404, "4xx"), (422, "4xx"), (503, "5xx")])
async def test_an_answer_is_counted_by_its_status(status: int, named: str) -> None:
    assert await outcome(answering(status, b"{}")) == {named: 1}


async def test_a_stream_that_ends_well_is_counted_as_such() -> None:
    app = answering(200, CHUNK % (b"hi", b"null"), CHUNK % (b"", b'"stop"'), DONE, stream=True)

    assert await outcome(app) == {"2xx": 1}


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error": {"message": "boom", "type": "InternalServerError", "code": 500}}\n\n',
        b'data: {"error":{"message":"boom"}}\n\n',
        b'event: error\ndata: {"type":"error","error":{"message":"boom"}}\n\n',
        b'event: response.failed\ndata: {"type":"response.failed","response":{}}\n\n',
    ],
)
async def test_an_error_event_in_a_stream_that_began_well_is_an_error(event: bytes) -> None:
    assert await outcome(answering(200, CHUNK % (b"hi", b"null"), event, DONE, stream=True)) == {"stream_error": 1}


@pytest.mark.parametrize(
    "text",
    [
        b"error",
        rb"\"error\": {",
        rb"\n\ndata: {\"error\": {}}",
        rb"event: error\n",
        b"abort",
        rb"\"finish_reason\":\"abort\"",
    ],
)
async def test_words_of_the_model_are_not_taken_for_errors(text: bytes) -> None:
    assert await outcome(answering(200, CHUNK % (text, b'"stop"'), DONE, stream=True)) == {"2xx": 1}
    assert await outcome(answering(200, b'{"choices":[{"text":"%b","finish_reason":"stop"}]}' % text)) == {"2xx": 1}


async def test_an_answer_of_which_error_is_null_is_good() -> None:
    event = b'event: response.completed\ndata: {"type":"response.completed","response":{"error":null}}\n\n'

    assert await outcome(answering(200, event, stream=True), http("/v1/responses")) == {"2xx": 1}


async def test_finish_reason_abort_is_counted_in_streams_and_whole_answers() -> None:
    assert await outcome(answering(200, CHUNK % (b"", b'"abort"'), DONE, stream=True)) == {"abort": 1}
    assert await outcome(answering(200, b'{"choices": [{"finish_reason": "abort"}]}')) == {"abort": 1}


async def test_an_exception_is_a_500_and_in_mid_stream_a_stream_that_broke() -> None:
    async def fails(scope: Message, receive: Receive, send: Send) -> None:
        raise RuntimeError

    async def breaks(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise RuntimeError

    assert await outcome(fails) == {"5xx": 1}
    assert await outcome(breaks) == {"stream_error": 1}


@pytest.mark.parametrize(("pieces", "named"), [(0, "before"), (1, "after")])
async def test_a_client_that_leaves_is_counted_by_whether_it_had_a_byte(pieces: int, named: str) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(pieces):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        # As vLLM does: it keeps sending although the client has disconnected.
        await send({"type": "http.response.body", "body": b"null", "more_body": False})

    messages = iter([await receive(), NO_ANSWER])

    async def leaving() -> Message:
        return next(messages)

    assert await outcome(app, receive=leaving) == {f"disconnect_{named}_first_byte": 1}


async def test_who_hangs_up_after_the_last_byte_has_not_left() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await answering(200, b"{}")(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    async def gone() -> Message:
        return NO_ANSWER

    assert await outcome(app, receive=gone) == {"2xx": 1}


@pytest.mark.parametrize(
    "scope",
    [
        http("/health", "GET"),
        http("/v1/models", "GET"),
        http("/tokenize"),
        http("/v1/messages/count_tokens"),
        http("/modelsync/ready", "GET"),
        http("/modelsync/metrics", "GET"),
    ],
    ids=lambda scope: scope["path"],
)
async def test_what_does_not_ask_the_model_is_not_counted(scope: Message) -> None:
    assert await outcome(answering(200, b"{}"), scope) == {}


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/audio/transcriptions", "/v2/rerank", "/score", "/pooling"])
async def test_every_way_to_ask_the_model_is_counted(path: str) -> None:
    assert await outcome(answering(200, b"{}"), http(path)) == {"2xx": 1}


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        (["websocket.accept", "websocket.send", "websocket.close"], "2xx"),
        (["websocket.close"], "4xx"),
        (["websocket.accept"], "2xx"),
    ],
)
async def test_a_websocket_counts_as_one_request(messages: list[str], named: str) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        for kind in messages:
            await send({"type": kind})

    assert await outcome(app, websocket()) == {named: 1}


async def test_running_requests_are_reported_and_every_outcome_has_its_series_from_the_start() -> None:
    may_end = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await may_end.wait()
        await answering(200, b"{}")(scope, receive, send)

    server = VersionHeader(app)
    request = asyncio.ensure_future(server(http(), receive, Recorder().send))
    await asyncio.sleep(0)

    lines = await exposition(server)

    labels = r'model="chat",version="chat \"llm\":v7",digest="0123",revision="v7-3fa9c1d2"'
    assert f"modelsync_requests_running{{{labels}}} 1" in lines
    assert f'modelsync_requests_total{{{labels},outcome="5xx"}} 0' in lines
    assert f"modelsync_server_processes{{{labels}}} 1" in lines
    assert f"modelsync_fuse_blown{{{labels}}} 0" in lines
    may_end.set()
    await request
    assert f"modelsync_requests_running{{{labels}}} 0" in await exposition(server)


async def test_what_a_hold_ends_or_refuses_is_nobodys_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSYNC_FUSE_SHA256", hashlib.sha256(b"token").hexdigest())
    begun = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        begun.set()
        await asyncio.Event().wait()

    server = VersionHeader(app)
    stream = asyncio.ensure_future(server(http(), receive, Recorder().send))
    await begun.wait()

    acknowledged = Recorder()
    await server(http("/modelsync/fuse", authorization="Bearer token"), receive, acknowledged.send)
    assert acknowledged.status == 200
    await stream
    await server(http(), receive, Recorder().send)

    assert await counted(server) == {"held": 2}
