"""Shared by all parts of the middleware: ASGI types, JSON responses, and requests to the server in this process."""

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
    """Send a complete JSON response."""
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def asking(app: App, probe: Scope) -> Ask:
    """Return a function that sends requests to `app`, the server without this middleware.

    `probe` is the scope of any request, used as a template. An exception of the application counts as a 500. Longer
    bodies are cut off at about MAX_BODY_BYTES.
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
                await asyncio.Event().wait()  # never disconnect; vLLM cancels the request of a disconnected client
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
        if error is not None:  # outside the middleware it would become a 500
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
