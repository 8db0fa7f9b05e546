"""What every part of the middleware speaks: ASGI's shapes, JSON answers, questions to the server in this process."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Optional

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
Ask = Callable[[str, str, Optional[dict[str, Any]], float], Awaitable[tuple[Optional[int], bytes]]]
"""`await ask(method, path, body, seconds)` → status (None: no answer in time) and body. See `asking`."""

MAX_BODY_BYTES = 1 << 20


async def send_json(send: Send, status: int, content: dict[str, Any]) -> None:
    """A whole JSON answer."""
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def asking(app: App, probe: Scope) -> Ask:
    """A way to ask `app`, the server without this middleware, as a client would; `probe` is any scope it has got.

    An application that raises has answered 500. Of a longer body the first MAX_BODY_BYTES come back.
    """

    async def ask(method: str, path: str, content: dict[str, Any] | None, seconds: float) -> tuple[int | None, bytes]:
        payload = b"" if content is None else json.dumps(content).encode()
        scope = {
            **probe,
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": _request_headers(payload),
            "state": dict(probe.get("state") or {}),
        }
        status: int | None = None
        chunks: list[bytes] = []
        received = False

        async def receive() -> Message:
            nonlocal received
            if received:
                await asyncio.Event().wait()  # the client stays; vLLM cancels a request whose client leaves
            received = True
            return {"type": "http.request", "body": payload, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body" and sum(map(len, chunks)) < MAX_BODY_BYTES:
                chunks.append(message.get("body", b""))

        request = asyncio.ensure_future(app(scope, receive, send))
        try:
            # Not wait_for: the application may raise a TimeoutError of its own.
            done, _ = await asyncio.wait([request], timeout=seconds)
        finally:
            request.cancel()
        if not done:
            return None, b""
        error = request.exception()
        if error is not None:  # outside of us it would become a 500
            return 500, f"{type(error).__name__}: {error}".encode()
        return status, b"".join(chunks)

    return ask


def _request_headers(payload: bytes) -> list[Header]:
    headers = [
        (b"host", b"localhost"),
        (b"user-agent", b"modelsync-readiness"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(payload)).encode()),
    ]
    if os.environ.get("VLLM_API_KEY"):
        headers.append((b"authorization", b"Bearer " + os.environ["VLLM_API_KEY"].encode()))
    return headers
