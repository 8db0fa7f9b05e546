"""Counts how requests to the model end, as a client sees it: `GET /modelsync/metrics`.

vLLM's own counters cover neither an error inside a stream that started successfully, nor a client that disconnected.
Each request is counted once, when it has ended. It must never delay a chunk, nor do more than a text search on it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import Any

from .asgi import App, Message, Receive, Scope, Send
from .shared_state import SharedState

METRICS_PATH = "/modelsync/metrics"
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

ERROR_EVENT = "stream_error"
ABORTED = "abort"
LEFT_BEFORE = "disconnect_before_first_byte"
LEFT_AFTER = "disconnect_after_first_byte"
HELD = "held"
OUTCOMES = ("2xx", "3xx", "4xx", "5xx", ERROR_EVENT, ABORTED, LEFT_BEFORE, LEFT_AFTER, HELD)

_LABELS = (("version", "MODELSYNC_VERSION"), ("digest", "MODELSYNC_DIGEST"), ("revision", "MODELSYNC_REVISION"))
_BELOW = ("/v1/", "/v2/", "/inference/")
_PATHS = frozenset({"/classify", "/generate", "/generative_scoring", "/invocations", "/pooling", "/rerank", "/score"})
_NOT_BELOW = ("/cancel", "/count_tokens", "/load_lora_adapter", "/render", "/unload_lora_adapter")

# In JSON a quote inside a string is escaped, so the model's text cannot match these patterns. The search for the short
# word is about ten times faster than the pattern, and most chunks need nothing else.
_ABORT = re.compile(rb'"finish_reason"\s*:\s*"abort"')
_ERROR = re.compile(rb'(?:^|\n)(?:event: ?(?:error|response\.failed)\r?(?:\n|$)|data: ?\{\s*"error"\s*:\s*[{"])')


class Outcomes:
    """This process's counts, shared with the other processes so that each can report the sum.

    `held` returns whether the fuse is blown.
    """

    def __init__(self, shared: SharedState, *, held: Callable[[], bool]) -> None:
        self._shared = shared
        self._held = held
        self._counts = dict.fromkeys(OUTCOMES, 0)
        self._running = 0
        self._unshared = False
        names = os.environ.get("MODELSYNC_SERVED_NAMES", "").replace(",", " ").split()
        values = [
            ("model", names[-1] if names else ""),
            *((label, os.environ.get(name, "")) for label, name in _LABELS),
        ]
        self._labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in values)

    def share(self) -> None:
        """Share the counts with the other processes, if they have changed."""
        if self._unshared:
            self._unshared = not self._shared.publish(outcomes=dict(self._counts), running=self._running)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve `GET /modelsync/metrics` in Prometheus' text format, summed over the pod's server processes."""
        processes = self._shared.published()
        counts = [self._counts, *(process.get("outcomes") or {} for process in processes[1:])]
        running = self._running + sum(process.get("running") or 0 for process in processes[1:])
        body = "".join(f"{line}\n" for line in self._lines(counts, running)).encode()
        headers = [(b"content-type", CONTENT_TYPE), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def run(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, and count how it ended."""
        if not _asks_the_model(scope):
            await app(scope, receive, send)
            return
        status = 0
        streaming = started = ended = False
        found = left = ""

        async def watched_receive() -> Message:
            nonlocal left
            message = await receive()
            if not ended and _has_left(message):
                left = LEFT_AFTER if started else LEFT_BEFORE
            return message

        async def watched_send(message: Message) -> None:
            nonlocal status, streaming, started, ended, found
            kind = message["type"]
            if kind == "http.response.body":
                body = message.get("body", b"")
                started = started or bool(body)
                if b'"abort"' in body and _ABORT.search(body):
                    found = ABORTED
                elif streaming and (b"error" in body or b".failed" in body) and _ERROR.search(body):
                    found = ERROR_EVENT
                ended = not message.get("more_body", False)
            elif kind in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                streaming = any(value.startswith(b"text/event-stream") for _, value in message.get("headers") or ())
            elif kind == "websocket.accept":
                status, started = 200, True
            elif kind == "websocket.close":
                ended = True
                status = 403 if not status else 500 if message.get("code") == 1011 else status
            await send(message)

        failed = True
        self._running += 1
        self._unshared = True
        try:
            await app(scope, watched_receive, watched_send)
            failed = False
        finally:
            self._count(
                _outcome(
                    status,
                    found,
                    started=started,
                    ended=ended or scope["type"] == "websocket",
                    left=left,
                    failed=failed,
                    held=self._held(),
                )
            )

    def _count(self, outcome: str) -> None:
        self._running -= 1
        self._counts[outcome] += 1
        self._unshared = True

    def _lines(self, counts: list[dict[str, Any]], running: int) -> Iterable[str]:
        yield "# HELP modelsync_requests_total Requests to the model by how they ended, each counted once."
        yield "# TYPE modelsync_requests_total counter"
        for outcome in OUTCOMES:
            total = sum(each.get(outcome, 0) for each in counts)
            yield f'modelsync_requests_total{{{self._labels},outcome="{outcome}"}} {total}'
        yield "# HELP modelsync_requests_running Requests to the model that have not ended."
        yield "# TYPE modelsync_requests_running gauge"
        yield f"modelsync_requests_running{{{self._labels}}} {running}"
        yield "# HELP modelsync_server_processes Live server processes."
        yield "# TYPE modelsync_server_processes gauge"
        yield f"modelsync_server_processes{{{self._labels}}} {len(counts)}"
        yield "# HELP modelsync_fuse_blown Whether a hold has silenced the pod."
        yield "# TYPE modelsync_fuse_blown gauge"
        yield f"modelsync_fuse_blown{{{self._labels}}} {int(self._held())}"


def _asks_the_model(scope: Scope) -> bool:
    if scope["type"] == "websocket":
        return True
    path: str = scope["path"]
    asks = path.startswith(_BELOW) or path in _PATHS
    return asks and scope["method"] == "POST" and not path.endswith(_NOT_BELOW)


def _outcome(status: int, found: str, *, started: bool, ended: bool, left: str, failed: bool, held: bool) -> str:
    """The first outcome that matches; a client's disconnect and a hold do not count as errors."""
    if held and (status in (0, 451) or found == ERROR_EVENT or not ended):
        return HELD
    if left:
        return left
    if failed or not ended:
        return ERROR_EVENT if started else "5xx"
    return found or f"{status // 100}xx"


def _has_left(message: Message) -> bool:
    """Whether the client disconnected before the end; a websocket's closing handshake is a normal end."""
    kind = message["type"]
    return kind == "http.disconnect" or (kind == "websocket.disconnect" and message.get("code") == 1006)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
