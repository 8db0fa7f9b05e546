"""preStop is answered when the pod has settled and none of its processes has a request in flight, or on timeout."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from modelsync.middleware.modelsync_middleware import VersionHeader, drain
from modelsync.middleware.modelsync_middleware.drain import DRAIN_PATH

Message = MutableMapping[str, Any]

ANOTHER = """
import sys
from modelsync.middleware.modelsync_middleware.shared_state import SharedState
shared = SharedState(sys.argv[1])
print("joined", flush=True)
for line in sys.stdin:
    shared.publish(open=int(line))
    print("shared", flush=True)
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODELSYNC_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("MODELSYNC_SETTLE_SECONDS", "0")
    monkeypatch.setenv("MODELSYNC_DRAIN_SECONDS", "20")
    monkeypatch.setattr(drain, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(drain, "LOOK_SECONDS", 0.01)


async def ask(app: VersionHeader, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Status and body of a response."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def slow(may_end: asyncio.Event) -> Callable[..., Awaitable[None]]:
    """A server whose responses end when the event is set."""

    async def app(scope: Message, receive: Any, send: Any) -> None:
        await may_end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    return app


async def test_it_waits_for_the_settle_and_then_for_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSYNC_SETTLE_SECONDS", "0.3")
    may_end = asyncio.Event()
    app = VersionHeader(slow(may_end))
    running = asyncio.ensure_future(ask(app, "/v1/completions"))
    started = time.monotonic()
    draining = asyncio.ensure_future(ask(app, DRAIN_PATH))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(draining), 0.8)
    late = asyncio.ensure_future(ask(app, "/v1/completions"))
    may_end.set()

    assert json.loads((await draining)[1]) == {"idle": True, "reason": ""}
    assert time.monotonic() - started >= 0.3
    assert [(await request)[1] for request in (running, late)] == [b"done", b"done"], "a drain refuses nobody"


async def test_it_waits_for_the_other_processes_of_the_pod(tmp_path: Path) -> None:
    other = subprocess.Popen(  # noqa: ASYNC220  # to be read and written line by line
        [sys.executable, "-c", ANOTHER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert other.stdin is not None
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "joined\n"
        draining = asyncio.ensure_future(ask(VersionHeader(slow(asyncio.Event())), DRAIN_PATH))
        for shared in (None, 1):
            if shared is not None:
                print(shared, file=other.stdin, flush=True)
                other.stdout.readline()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(draining), 0.4)
        print(0, file=other.stdin, flush=True)
        assert json.loads((await asyncio.wait_for(draining, 10))[1])["idle"] is True
    finally:
        other.kill()
        other.wait()


async def test_it_ends_with_its_time_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSYNC_DRAIN_SECONDS", "0.2")
    app = VersionHeader(slow(asyncio.Event()))
    running = asyncio.ensure_future(ask(app, "/v1/completions"))
    await asyncio.sleep(0)

    status, body = await asyncio.wait_for(ask(app, DRAIN_PATH), 10)

    assert (status, json.loads(body)) == (200, {"idle": False, "reason": "the drain timed out"})
    running.cancel()


async def test_it_takes_no_other_method() -> None:
    assert (await ask(VersionHeader(slow(asyncio.Event())), DRAIN_PATH, "POST"))[0] == 405
