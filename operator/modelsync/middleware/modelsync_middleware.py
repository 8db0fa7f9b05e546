"""ASGI middleware for a model's pod: each answer names its version, "ready" means that the model has answered, and a
held version falls silent at once (the fuse).

Loaded by `vllm serve --middleware modelsync_middleware.VersionHeader` in an image that we do not build: standard
library only, Python 3.9 or newer, one file. It reads MODELSYNC_VERSION (`collection:version`), MODELSYNC_REVISION,
MODELSYNC_DIGEST and MODELSYNC_SERVED_NAMES (separated by commas; the first is asked for an answer). It must never
buffer a body, and never keep an answer of the model from its client.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

READY_PATH = "/modelsync/ready"
FUSE_PATH = "/modelsync/fuse"
ALIVE_PATHS = ("/health", "/ping", "/metrics")  # not answers of the model; kubelet restarts a pod that is silent here
ANSWER_SECONDS = 120.0  # for the first answer: vLLM may still compile and capture graphs
PROBE_SECONDS = 0.5  # a probe is answered within this time; kubelet gives up after one second
RETRY_SECONDS = 1.0  # between two tries, however many probes ask
HEALTH_SECONDS = 0.5
MAX_BODY_BYTES = 1 << 20
CUT_SECONDS = 0.5  # for the answers that were under way to end, before the fuse acknowledges

_HEADERS = (
    (b"x-model-version", "MODELSYNC_VERSION"),
    (b"x-model-revision", "MODELSYNC_REVISION"),
    (b"x-model-digest", "MODELSYNC_DIGEST"),
)
_ASCII = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


class VersionHeader:
    """Names version, revision and digest in every HTTP answer, and answers `GET /modelsync/ready`."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._headers = _version_headers()
        self._names = {name for name, _ in self._headers}
        self._readiness = _Readiness(app)
        self._fuse = _Fuse()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._readiness.watch_for_shutdown()
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        started = False
        head: Message | None = None

        async def send_named(message: Message) -> None:
            """Name the version. The head of an answer leaves with its first byte: Go's proxies (Traefik, and others on
            net/http) abort an answer whose head arrives before they have seen the end of the request, and what fails
            before its first token can still become an error."""
            nonlocal started, head
            if message["type"] in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
                theirs = [header for header in message.get("headers") or () if header[0].lower() not in self._names]
                message = {**message, "headers": [*theirs, *self._headers]}
                if message["type"] == "http.response.start":
                    head = message
                    return
            if head is not None:
                if message["type"] == "http.response.body" and message.get("more_body") and not message.get("body"):
                    return
                started, first, head = True, head, None
                await send(first)
            started = True
            await send(message)

        if scope["type"] == "http" and scope["path"] == READY_PATH:
            await self._readiness.answer(scope, send_named, silenced=self._fuse.blown)
            return
        if scope["type"] == "http" and scope["path"] == FUSE_PATH:
            await self._fuse.answer(scope, send_named)
            return
        try:
            if scope["path"] in ALIVE_PATHS:
                await self._app(scope, receive, send_named)
            else:
                await self._fuse.run(self._app, scope, receive, send_named)
        except Exception:
            # Starlette would answer outside of all middleware, so without our headers. It sees that an answer has
            # begun, and goes on to log the exception.
            if scope["type"] == "http" and not started:
                error = {"message": "Internal server error", "type": "InternalServerError", "param": None, "code": 500}
                await _send_json(send_named, 500, {"error": error})
            raise


class _Fuse:
    """Once blown, no byte of the model leaves: open answers end, new requests get 451 (RFC 7725).

    `POST /modelsync/fuse` with the revision's token blows it, for as long as the process lives. Here is only the hash
    of the token: who can read the pod cannot silence it.
    """

    def __init__(self) -> None:
        self.blown = False
        self._hash = os.environ.get("MODELSYNC_FUSE_SHA256", "")
        self._open: set[asyncio.Task[None]] = set()
        self._last_byte: float | None = None

    async def answer(self, scope: Scope, send: Send) -> None:
        """Blow, and acknowledge when the answers that were under way have ended."""
        if scope["method"] != "POST" or not self._hash:
            await _send_json(send, 405 if self._hash else 404, {"blown": self.blown, "reason": "POST with the token"})
            return
        if not self._may(scope):
            await _send_json(send, 403, {"blown": self.blown, "reason": "the token is not that of this revision"})
            return
        self.blown = True
        cut = set(self._open)
        for request in cut:
            request.cancel()
        if cut:
            await asyncio.wait(cut, timeout=CUT_SECONDS)
        left = sum(not request.done() for request in cut)
        await _send_json(send, 200, {"blown": True, "cut": len(cut), "left": left, "lastByte": self._last_byte})

    async def run(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and end it when the fuse blows: a stream with an error event, else with 451 or cut off."""
        started = streaming = ended = False

        async def watched(message: Message) -> None:
            nonlocal started, streaming, ended
            if self.blown:  # the application may go on for a moment after it was cancelled
                return
            if message["type"] == "http.response.start":
                streaming = _is_event_stream(message)  # the head itself waits for the first byte, and may be replaced
            elif message["type"] == "http.response.body":
                started = started or bool(message.get("body"))
                self._last_byte = time.time()
                ended = not message.get("more_body", False)
            await send(message)

        if not self.blown:
            request = asyncio.ensure_future(app(scope, receive, watched))
            self._open.add(request)
            try:
                await asyncio.wait([request])
            finally:
                self._open.discard(request)
                request.cancel()  # where this task itself was cancelled
            if not self.blown:
                request.result()
                return
        else:
            while scope["type"] == "http" and (await receive()).get("more_body", False):
                pass  # a proxy that is still sending would make a 502 of the answer
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "held"})
        elif not started:
            await _send_json(send, 451, {"error": HELD})
        elif streaming and not ended:
            event = b"data: " + json.dumps({"error": HELD}).encode() + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": False})
        # A body of announced length is left unfinished: the server closes the connection, and the client sees the cut.

    def _may(self, scope: Scope) -> bool:
        headers = dict(scope["headers"])
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(hashlib.sha256(token).hexdigest(), self._hash)


HELD_MESSAGE = "this version of the model is held and does not answer"
HELD = {"message": HELD_MESSAGE, "type": "RegulatoryHold", "param": None, "code": 451}


class _Readiness:
    """Whether the model answers: proved by one real answer, then watched through vLLM's own /health."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._names = [name for name in re.split(r"[,\s]+", os.environ.get("MODELSYNC_SERVED_NAMES", "")) if name]
        self._attempt: asyncio.Task[str | None] | None = None
        self._started = -math.inf
        self._answered = False
        self._reason = "the model has not answered yet"
        self._watching = False
        self._shutting_down = False

    def watch_for_shutdown(self) -> None:
        """From the first call on, notice SIGTERM, and hand it on to whoever was there before.

        vLLM goes on to listen while it drains and ends new requests with finish_reason `abort`, so a pod that still
        called itself ready would be given requests to lose. Called with the first event, when vLLM's own handlers are
        in place: asyncio and uvloop are woken by the signal itself and not by the handler that stands here.
        """
        if self._watching:
            return
        self._watching = True
        try:
            previous = signal.getsignal(signal.SIGTERM)

            def handle(number: int, frame: Any) -> None:
                self._shutting_down = True
                if callable(previous):
                    previous(number, frame)

            if callable(previous):
                signal.signal(signal.SIGTERM, handle)
        except ValueError:
            pass  # not the main thread: signals belong to someone else

    async def answer(self, scope: Scope, send: Send, *, silenced: bool) -> None:
        """Answer a probe: 200, or 503 with the reason."""
        if scope["method"] not in ("GET", "HEAD"):
            await _send_json(send, 405, {"ready": False, "reason": "only GET is answered here"})
            return
        reason = HELD_MESSAGE if silenced else await self._why_not(scope)
        await _send_json(send, 200 if reason is None else 503, {"ready": reason is None, "reason": reason or ""})

    async def _why_not(self, scope: Scope) -> str | None:
        if self._shutting_down:
            return "shutting down: requests in flight end, new ones are aborted"
        if not self._answered:
            return await self._first_answer(scope)
        status, _ = await self._request(scope, "GET", "/health", None, HEALTH_SECONDS)
        return None if status == 200 else f"/health answers {status or 'nothing in time'}"

    async def _first_answer(self, scope: Scope) -> str | None:
        """Join the try that is under way, or begin one; wait for it no longer than a probe waits."""
        if self._attempt is None and time.monotonic() - self._started >= RETRY_SECONDS:
            self._started = time.monotonic()
            self._attempt = asyncio.ensure_future(self._ask_model(dict(scope)))
            self._attempt.add_done_callback(self._conclude)
        attempt = self._attempt
        if attempt is not None:
            await asyncio.wait([attempt], timeout=PROBE_SECONDS)
            if not attempt.done():
                return f"waiting for the model's first answer for {time.monotonic() - self._started:.0f} s"
            await asyncio.sleep(0)  # lets _conclude run
        return None if self._answered else self._reason

    def _conclude(self, attempt: asyncio.Task[str | None]) -> None:
        self._attempt = None
        if attempt.cancelled():
            self._reason = "the model's first answer was cancelled"
            return
        reason = attempt.result()
        self._answered = reason is None
        self._reason = reason or ""

    async def _ask_model(self, scope: Scope) -> str | None:
        """One short answer of the model under its first served name; None, or why it is not one."""
        if not self._names:
            return "MODELSYNC_SERVED_NAMES is empty: it must name the model to ask"
        ask: dict[str, Any] = {"model": self._names[0], "prompt": "Hello", "max_tokens": 1, "temperature": 0}
        status, body = await self._request(scope, "POST", "/v1/completions", ask, ANSWER_SECONDS)
        if _not_offered(status, body):
            ask = {"model": self._names[0], "input": "Hello"}
            status, body = await self._request(scope, "POST", "/v1/embeddings", ask, ANSWER_SECONDS)
            if _not_offered(status, body):
                return "neither /v1/completions nor /v1/embeddings is offered by this model"
        if status is None:
            return f"the model gave no answer within {ANSWER_SECONDS:.0f} s"
        if status != 200:
            return f"the model's first answer is an error: {status} {body[:200].decode(errors='replace')}"
        return _judge(body)

    async def _request(
        self, probe: Scope, method: str, path: str, ask: dict[str, Any] | None, seconds: float
    ) -> tuple[int | None, bytes]:
        """A request to the wrapped application in this process: its status (None: none in time) and body."""
        payload = b"" if ask is None else json.dumps(ask).encode()
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

        request = asyncio.ensure_future(self._app(scope, receive, send))
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


def _version_headers() -> list[Header]:
    """The headers that the environment gives; a name may hold any character, a header only ASCII."""
    values = ((name, os.environ.get(variable, "")) for name, variable in _HEADERS)
    return [(name, quote(value, safe=_ASCII).encode("ascii")) for name, value in values if value]


def _is_event_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message.get("headers") or ()
    )


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


def _not_offered(status: int | None, body: bytes) -> bool:
    """Whether the server has no such API: vLLM registers only the routes of what the model can do.

    An unknown model is a 404 too, of type NotFoundError where a route that is not there is `Not Found`.
    """
    return status in (405, 501) or (status == 404 and b"NotFoundError" not in body)


def _judge(body: bytes) -> str | None:
    """None if `body` is an answer that a model finished, else why not."""
    try:
        answer = json.loads(body)
        if "choices" in answer:
            reason = answer["choices"][0]["finish_reason"]
            return None if reason in ("stop", "length") else f"the model's first answer ended with {reason!r}"
        return None if answer["data"][0]["embedding"] else "the model's first embedding is empty"
    except (ValueError, LookupError, TypeError):
        return f"the model's first answer is not one: {body[:200].decode(errors='replace')}"


async def _send_json(send: Send, status: int, content: dict[str, Any]) -> None:
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
