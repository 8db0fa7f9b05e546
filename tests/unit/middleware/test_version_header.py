"""Every response of a model's pod has version headers, whatever its kind."""

import pytest

from modelsync.middleware.modelsync_middleware import VersionHeader
from unit.middleware.asgi import Message, Recorder, Send, http, receive, websocket

NAMED = {
    b"x-model-version": b"chat llm:v7",
    b"x-model-revision": b"v7-3fa9c1d2",
    b"x-model-digest": b"md5:abc",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSYNC_VERSION", "chat llm:v7")
    monkeypatch.setenv("MODELSYNC_REVISION", "v7-3fa9c1d2")
    monkeypatch.setenv("MODELSYNC_DIGEST", "md5:abc")


@pytest.mark.parametrize("status", [200, 404, 503])
async def test_an_answer_of_any_status_carries_the_three_headers(status: int) -> None:
    async def app(scope: Message, receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"x"})

    server = Recorder()
    await VersionHeader(app)(http(), receive, server.send)

    assert server.headers == {b"content-type": b"text/plain", **NAMED}
    assert server.messages[0]["status"] == status


async def test_chunks_of_a_stream_pass_one_by_one_and_unchanged() -> None:
    server = Recorder()
    seen_after_each_chunk = []

    async def app(scope: Message, receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        for chunk in (b"data: 1\n\n", b"data: 2\n\n"):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            seen_after_each_chunk.append(len(server.messages))
        await send({"type": "http.response.body", "body": b""})

    await VersionHeader(app)(http(), receive, server.send)

    assert server.headers == NAMED
    assert seen_after_each_chunk == [2, 3]
    assert [m["body"] for m in server.messages[1:]] == [b"data: 1\n\n", b"data: 2\n\n", b""]


async def test_an_unhandled_exception_becomes_a_named_500_and_still_reaches_the_servers_log() -> None:
    async def app(scope: Message, receive: object, send: Send) -> None:
        raise RuntimeError("secret detail")

    server = Recorder()
    with pytest.raises(RuntimeError):
        await VersionHeader(app)(http(), receive, server.send)

    assert server.messages[0]["status"] == 500
    assert NAMED.items() <= server.headers.items()
    assert b"secret" not in server.messages[1]["body"]


async def test_an_exception_after_the_answer_began_sends_nothing_more() -> None:
    async def app(scope: Message, receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise RuntimeError("cut")

    server = Recorder()
    with pytest.raises(RuntimeError):
        await VersionHeader(app)(http(), receive, server.send)

    assert [message["type"] for message in server.messages] == ["http.response.start", "http.response.body"]


async def test_what_the_application_claims_about_its_version_is_replaced() -> None:
    async def app(scope: Message, receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Model-Version", b"forged")]})
        await send({"type": "http.response.body", "body": b"x"})

    server = Recorder()
    await VersionHeader(app)(http(), receive, server.send)

    assert [value for name, value in server.messages[0]["headers"] if name.lower() == b"x-model-version"] == [
        b"chat llm:v7"
    ]


async def test_a_websocket_is_named_on_accept() -> None:
    async def app(scope: Message, receive: object, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hi"})

    server = Recorder()
    await VersionHeader(app)({"type": "websocket", "path": "/v1/realtime"}, receive, server.send)

    assert server.headers == NAMED
    assert server.messages[1] == {"type": "websocket.send", "text": "hi"}


async def test_a_websocket_that_is_refused_is_named_too_where_the_server_can() -> None:
    async def app(scope: Message, receive: object, send: Send) -> None:
        await send({"type": "websocket.close", "code": 1000})

    named, plain = Recorder(), Recorder()
    await VersionHeader(app)(websocket("websocket.http.response"), receive, named.send)
    await VersionHeader(app)(websocket(), receive, plain.send)

    assert named.status == 403
    assert NAMED.items() <= named.headers.items()
    assert plain.messages == [{"type": "websocket.close", "code": 1000}]


async def test_lifespan_events_pass_untouched() -> None:
    seen: list[object] = []

    async def app(scope: Message, receive: object, send: object) -> None:
        seen.extend((scope["type"], receive, send))

    server = Recorder()
    send = server.send
    await VersionHeader(app)({"type": "lifespan"}, receive, send)

    assert seen == ["lifespan", receive, send]


async def test_a_name_outside_ascii_is_percent_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSYNC_VERSION", "modèle\n:v1")

    async def app(scope: Message, receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x"})

    server = Recorder()
    await VersionHeader(app)(http(), receive, server.send)

    assert server.headers[b"x-model-version"] == b"mod%C3%A8le%0A:v1"


async def test_without_an_environment_there_are_no_empty_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODELSYNC_VERSION", "MODELSYNC_REVISION", "MODELSYNC_DIGEST"):
        monkeypatch.delenv(name)

    async def app(scope: Message, receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x"})

    server = Recorder()
    await VersionHeader(app)(http(), receive, server.send)

    assert server.headers == {}


async def test_the_head_waits_for_the_first_byte_so_that_no_proxy_sees_an_answer_before_its_request_has_ended() -> None:
    seen: list[int] = []

    async def app(scope: Message, receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        seen.append(len(server.messages))
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        seen.append(len(server.messages))

    server = Recorder()
    await VersionHeader(app)(http(), receive, server.send)

    assert seen == [0, 2]
    assert [message["type"] for message in server.messages] == ["http.response.start", "http.response.body"]


async def test_what_fails_before_its_first_byte_is_an_error_and_not_a_cut_answer() -> None:
    async def app(scope: Message, receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        raise RuntimeError("no token came")

    server = Recorder()
    with pytest.raises(RuntimeError):
        await VersionHeader(app)(http(), receive, server.send)

    assert server.messages[0]["status"] == 500
