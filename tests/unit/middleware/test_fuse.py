"""The fuse in one process: open requests end, new ones are refused, and finished ones are unaffected."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from modelsync.middleware.modelsync_middleware import VersionHeader, fuse
from modelsync.middleware.modelsync_middleware.shared_state import SharedState
from unit.middleware.asgi import App, Message, Receive, Recorder, Send, http, receive, websocket

DENIAL = "websocket.http.response"
BLOW = http("/modelsync/fuse", authorization="Bearer token")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODELSYNC_FUSE_SHA256", hashlib.sha256(b"token").hexdigest())
    monkeypatch.setenv("MODELSYNC_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("MODELSYNC_REVISION", "v7-3fa9c1d2")


class Model:
    """An application that sends the given messages, then waits forever unless it may end."""

    def __init__(self, *messages: Message, ends: bool = False) -> None:
        self.sent = asyncio.Event()
        self.cancelled = False
        self._messages = messages
        self._ends = ends

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        for message in self._messages:
            await send(message)
        self.sent.set()
        try:
            if not self._ends:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            await send({"type": "http.response.body", "body": b"one more word", "more_body": True})
            raise


def start(kind: bytes = b"text/event-stream", status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]}


def body(text: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": text, "more_body": more}


async def blow(app: App) -> dict[str, Any]:
    answer = Recorder()
    await app(BLOW, receive, answer.send)
    assert answer.status == 200
    document: dict[str, Any] = json.loads(answer.body)
    return document


async def cut(model: Model, scope: Message) -> Recorder:
    """The recorded messages of a request that was in flight when the fuse blew."""
    app, seen = VersionHeader(model), Recorder()
    request = asyncio.ensure_future(app(scope, receive, seen.send))
    await model.sent.wait()
    await blow(app)
    await request
    assert model.cancelled
    return seen


async def test_a_stream_ends_with_an_error_event_and_no_further_word_of_the_model() -> None:
    seen = await cut(Model(start(), body(b"data: 1\n\n")), http())

    first, last = seen.messages[1:]
    assert first["body"] == b"data: 1\n\n"
    assert json.loads(last["body"].removeprefix(b"data: "))["error"]["code"] == 451
    assert not last["more_body"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_a_stream_of_named_events_ends_with_a_named_one(path: str) -> None:
    seen = await cut(Model(start(), body(b"event: ping\ndata: {}\n\n")), http(path))

    named, data = seen.messages[-1]["body"].rstrip().split(b"\n")
    assert named == b"event: error"
    assert json.loads(data.removeprefix(b"data: "))["type"] == "error"


async def test_an_answer_that_has_not_begun_becomes_451_whatever_its_head_was() -> None:
    seen = await cut(Model(start(), body(b"")), http())

    assert seen.status == 451
    assert json.loads(seen.body)["error"]["type"] == "RegulatoryHold"
    assert seen.headers[b"x-model-revision"] == b"v7-3fa9c1d2"


async def test_a_whole_answer_that_was_begun_is_left_unfinished() -> None:
    """With a Content-Length, the server closes the connection, and the client sees that the body is incomplete."""
    seen = await cut(Model(start(b"application/json"), body(b'{"half":')), http())

    assert [message.get("body") for message in seen.messages[1:]] == [b'{"half":']


async def test_an_open_websocket_is_closed() -> None:
    seen = await cut(Model({"type": "websocket.accept"}), websocket(DENIAL))

    assert seen.messages[-1] == {"type": "websocket.close", "code": 1008, "reason": "held"}


async def test_a_websocket_that_waits_to_be_accepted_is_refused_by_name() -> None:
    seen = await cut(Model(), websocket(DENIAL))

    assert seen.status == 451
    assert seen.headers[b"x-model-revision"] == b"v7-3fa9c1d2"


async def test_a_websocket_of_a_server_that_cannot_refuse_by_name_is_closed() -> None:
    seen = await cut(Model(), websocket())

    assert [message["type"] for message in seen.messages] == ["websocket.close"]


async def test_an_answer_that_has_ended_without_a_body_gets_no_second_one() -> None:
    model = Model(start(status=204), body(b"", more=False))
    app, seen = VersionHeader(model), Recorder()
    request = asyncio.ensure_future(app(http(), receive, seen.send))
    await model.sent.wait()

    await blow(app)
    await request

    assert [message["type"] for message in seen.messages] == ["http.response.start", "http.response.body"]
    assert seen.status == 204


async def test_a_request_that_does_not_end_when_it_is_cut_is_reported_and_sends_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fuse, "CUT_SECONDS", 0.02)
    begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def deaf(scope: Message, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"data: 1\n\n"))
        begun.set()
        while not may_go_on.is_set():
            try:
                await may_go_on.wait()
            except asyncio.CancelledError:
                continue
        await send(body(b"data: 2\n\n"))

    app, seen = VersionHeader(deaf), Recorder()
    request = asyncio.ensure_future(app(http(), receive, seen.send))
    await begun.wait()

    document = await blow(app)

    assert (document["cut"], document["left"], document["acknowledged"]) == (1, 1, 1)
    may_go_on.set()
    await request
    assert b"data: 2" not in seen.body


async def test_a_process_that_does_not_acknowledge_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fuse, "ACKNOWLEDGE_SECONDS", 0.02)
    app = VersionHeader(Model(ends=True))
    (tmp_path / "7-another.alive").touch()
    monkeypatch.setattr(SharedState, "_lives", lambda *_: True)

    document = await blow(app)

    assert (document["processes"], document["acknowledged"]) == (2, 1)


async def test_one_that_another_process_has_blown_cuts_streams_in_which_nothing_moves(tmp_path: Path) -> None:
    model, seen = Model(start(), body(b"data: 1\n\n")), Recorder()
    app = VersionHeader(model)
    request = asyncio.ensure_future(app(http(), receive, seen.send))
    await model.sent.wait()

    (tmp_path / "fuse-blown").touch()

    await asyncio.wait_for(request, 5)
    assert b'"code": 451' in seen.messages[-1]["body"]


async def test_a_chunk_that_comes_before_the_next_look_round_does_not_pass(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The event loop may have been busy for a long time when the model's next token is ready."""
    monkeypatch.setattr(fuse, "LOOK_SECONDS", 0.0)
    seen = Recorder()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"data: 1\n\n"))
        (tmp_path / "fuse-blown").touch()
        await send(body(b"data: 2\n\n"))

    await VersionHeader(app)(http(), receive, seen.send)

    assert b"data: 2" not in seen.body
    assert b'"code": 451' in seen.messages[-1]["body"]


async def test_a_folder_that_cannot_be_written_does_not_keep_the_fuse_from_blowing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = VersionHeader(Model(ends=True))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    for function in ("open", "replace"):
        monkeypatch.setattr(f"os.{function}", refuse)

    assert (await blow(app))["blown"]
    seen = Recorder()
    await app(http(), receive, seen.send)
    assert seen.status == 451


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        (http("/modelsync/fuse", "GET", authorization="Bearer token"), 405),
        (http("/modelsync/fuse", authorization="Bearer other"), 403),
        (http("/modelsync/fuse", authorization="Basic token"), 403),
        (http("/modelsync/fuse"), 403),
    ],
)
async def test_only_a_post_with_the_token_blows_it(scope: Message, status: int) -> None:
    app, answer = VersionHeader(Model(start(), body(b"x", more=False), ends=True)), Recorder()

    await app(scope, receive, answer.send)

    assert answer.status == status
    seen = Recorder()
    await app(http(), receive, seen.send)
    assert seen.status == 200


async def test_without_a_token_there_is_no_fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELSYNC_FUSE_SHA256")
    answer = Recorder()

    await VersionHeader(Model())(BLOW, receive, answer.send)

    assert answer.status == 404
