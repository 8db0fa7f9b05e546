"""ASGI middleware for a model's pod: it adds version headers to each response, reports readiness only after the model
has answered a request, and stops serving a held version at once (the fuse).

Loaded by `vllm serve --middleware modelsync_middleware.VersionHeader` in an image that we do not build: standard
library only, Python 3.9 or newer, this folder and nothing else. It reads MODELSYNC_VERSION (`collection:version`),
MODELSYNC_REVISION and MODELSYNC_DIGEST; further variables are documented in its modules. It must never buffer a body,
and never withhold a response of the model from its client.
"""

from __future__ import annotations

import asyncio
import os
from urllib.parse import quote

from .adapters import with_adapter_names
from .affinity_cookie import Session
from .asgi import App, Handler, Header, Message, Receive, Scope, Send, send_json
from .drain import DRAIN_PATH, Drain
from .exam import EXAM_PATH, Exam
from .fuse import FUSE_PATH, HELD_MESSAGE, LOOK_SECONDS, Fuse
from .outcomes import METRICS_PATH, Outcomes
from .readiness import READY_PATH, Readiness
from .shared_state import SharedState
from .shutdown import Shutdown

__all__ = ["VersionHeader"]

SHARE_SECONDS = 0.25  # how often counts are shared with the other processes
ALIVE_PATHS = ("/health", "/ping", "/metrics")  # not answered by the model; kubelet restarts a pod that fails these

_HEADERS = (
    (b"x-model-version", "MODELSYNC_VERSION"),
    (b"x-model-revision", "MODELSYNC_REVISION"),
    (b"x-model-digest", "MODELSYNC_DIGEST"),
)
_ASCII = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


class VersionHeader:
    """Adds version, revision and digest headers to every response, and serves the paths below `/modelsync/`.

    From the outside in: headers, counters, fuse, adapter names, then the server. `_own` are the paths served here.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._headers = _version_headers()
        self._names = {name for name, _ in self._headers}
        self._session = Session()
        self._shutdown = Shutdown()
        self._shared = SharedState()
        self._fuse = Fuse(self._shared)
        self._outcomes = Outcomes(self._shared, held=self._fuse.look)
        self._drain = Drain(self._shared)
        self._watch: asyncio.Task[None] | None = None
        exam = Exam(self._shared)
        self._server = with_adapter_names(app)
        self._own: dict[str, Handler] = {
            READY_PATH: Readiness(app, self._shared, unfit=self._unfit, checks=[exam.check]).answer,
            EXAM_PATH: exam.answer,
            FUSE_PATH: self._fuse.answer,
            DRAIN_PATH: self._drain.answer,
            METRICS_PATH: self._outcomes.answer,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._shutdown.watch()
        if self._watch is None or self._watch.done():
            self._watch = asyncio.ensure_future(self._refresh())
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        started = False
        head: Message | None = None
        may_refuse = "websocket.http.response" in (scope.get("extensions") or {})

        async def send_named(message: Message) -> None:
            """Add the version headers. The head is sent with the first byte of the body: Go's proxies (Traefik, and
            others on net/http) abort a response whose head arrives before they have read the whole request, and a
            request that fails before its first token can still be answered with an error."""
            nonlocal started, head
            if message["type"] == "websocket.close" and may_refuse and not started:
                await _refuse(send, self._headers)  # the server's own 403 would have no version headers
                return
            if message["type"] in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
                theirs = [header for header in message.get("headers") or () if header[0].lower() not in self._names]
                message = {**message, "headers": [*theirs, *self._headers]}
                if message["type"] == "http.response.start":
                    message["headers"] += self._session.headers(scope, message)
                    head = message
                    return
            if head is not None:
                if message["type"] == "http.response.body" and message.get("more_body") and not message.get("body"):
                    return
                started, first, head = True, head, None
                await send(first)
            started = True
            await send(message)

        if scope["type"] == "http" and scope["path"] in self._own:
            await self._own[scope["path"]](scope, receive, send_named)
            return
        try:
            if scope["path"] in ALIVE_PATHS:
                await self._app(scope, receive, send_named)
            else:
                await self._outcomes.run(self._guarded, scope, receive, send_named)
        except Exception:
            # Starlette would answer outside all middleware, so without our headers. It sees that a response has
            # started, and only logs the exception.
            if scope["type"] == "http" and not started:
                error = {"message": "Internal server error", "type": "InternalServerError", "param": None, "code": 500}
                await send_json(send_named, 500, {"error": error})
            raise

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._drain.open += 1
        try:
            await self._fuse.run(self._server, scope, receive, send)
        finally:
            self._drain.open -= 1

    async def _refresh(self) -> None:
        """Read the other processes' state even while no chunk is sent, and share this one's."""
        shared = 0.0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._fuse.look()
            shared += LOOK_SECONDS
            if shared >= SHARE_SECONDS:
                shared = 0.0
                self._outcomes.share()
                self._drain.share()

    def _unfit(self) -> str | None:
        if self._fuse.look():
            return HELD_MESSAGE
        if self._shutdown.started:
            return "shutting down: requests in flight are finished, new ones fail"
        return self._shared.usable()


async def _refuse(send: Send, headers: list[Header]) -> None:
    await send(
        {"type": "websocket.http.response.start", "status": 403, "headers": [(b"content-length", b"0"), *headers]}
    )
    await send({"type": "websocket.http.response.body", "body": b""})


def _version_headers() -> list[Header]:
    """The headers from the environment. A version may contain any character, a header only ASCII."""
    values = ((name, os.environ.get(variable, "")) for name, variable in _HEADERS)
    return [(name, quote(value, safe=_ASCII).encode("ascii")) for name, value in values if value]
