"""The operator's fuse request to the pods of a held revision: its content, valid responses, and its timeout."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from modelsync.api import names
from modelsync.effects import fuse
from modelsync.effects.silences import Silences
from modelsync.observe.fuse import Acknowledgement, read_acknowledgement

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SILENT = {"blown": True, "processes": 2, "acknowledged": 2, "cut": 3, "left": 0, "lastByte": 1.0, "lastByteAge": 0.25}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def pod(name: str, address: str | None = "127.0.0.1") -> dict[str, Any]:
    status = {"podIP": address} if address else {}
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "status": status}


@asynccontextmanager
async def pods_that(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(names, "PORT", free.getsockname()[1])
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", names.PORT).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def blown(body: Any, monkeypatch: pytest.MonkeyPatch, status: int = 200) -> Acknowledgement | None:
    """Return the acknowledgement read from one pod's response."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(body, status=status)

    async with pods_that(answer, monkeypatch):
        return (await fuse.blow([pod("a")], "token", now=lambda: NOW))["uid-a"]


async def test_every_pod_with_an_address_gets_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[tuple[str, str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        requests.append((request.method, request.path, request.headers["authorization"]))
        return web.json_response(SILENT)

    async with pods_that(answer, monkeypatch):
        answers = await fuse.blow([pod("a"), pod("b"), pod("starting", None)], "token")

    assert requests == [("POST", "/modelsync/fuse", "Bearer token")] * 2
    assert answers.keys() == {"uid-a", "uid-b"}


async def test_the_age_of_the_last_byte_is_used_since_clocks_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await blown(SILENT, monkeypatch) == Acknowledgement(True, NOW - timedelta(seconds=0.25))
    assert await blown({**SILENT, "lastByteAge": None}, monkeypatch) == Acknowledgement(True, None)


async def test_a_pod_with_a_process_that_did_not_respond_has_not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await blown({**SILENT, "acknowledged": 1}, monkeypatch)

    assert answer is not None
    assert not answer.whole


async def test_the_response_of_an_earlier_middleware_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = {"blown": True, "cut": 0, "left": 0, "lastByte": 1.0}

    assert await blown(earlier, monkeypatch) == Acknowledgement(True, None)


@pytest.mark.parametrize("body", ["text", [], 1, None])
async def test_an_invalid_response_is_no_acknowledgement(body: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await blown(body, monkeypatch) == Acknowledgement(False, None)


@pytest.mark.parametrize("body", [b"[" * 4096, b'{"processes":1e999}', b'{"processes":1,"processes":1}', b"\xff", b""])
def test_a_hostile_response_is_no_acknowledgement(body: bytes) -> None:
    assert read_acknowledgement(body, datetime.now(UTC)) == Acknowledgement(False, None)


@pytest.mark.parametrize("age", ["1", -1, 1e300, {}])
async def test_an_impossible_time_is_ignored(age: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await blown({**SILENT, "lastByteAge": age}, monkeypatch) == Acknowledgement(True, None)


async def test_an_error_status_is_no_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await blown({}, monkeypatch, status=403) is None


async def test_the_request_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse, "TIMEOUT", timedelta(milliseconds=50))

    async def hang(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with pods_that(hang, monkeypatch):
        assert await fuse.blow([pod("a")], "token") == {"uid-a": None}


def test_acknowledged_pods_are_remembered_and_released_revisions_are_forgotten() -> None:
    silences = Silences()
    silences.record("uid", "v1-1", NOW, {"a": Acknowledgement(True, NOW), "b": None})

    assert silences.is_acknowledged("uid", "v1-1", "a")
    assert not silences.is_acknowledged("uid", "v1-1", "b")
    silences.record("uid", "v1-1", NOW + timedelta(seconds=1), {"b": Acknowledgement(True, None)})
    [silence] = silences.of("uid")
    assert (silence.at, silence.pods, silence.acknowledged, silence.last_byte) == (NOW, 2, 2, NOW)

    silences.keep_only("uid", frozenset({"v1-1"}))
    assert silences.of("uid")
    silences.keep_only("uid", frozenset())
    assert silences.of("uid") == ()
    assert not silences.is_acknowledged("uid", "v1-1", "a")
