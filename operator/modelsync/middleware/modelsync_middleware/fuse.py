"""The fuse: once blown, the pod sends no more bytes of the model, whichever server process has the request.

It must act without waiting for anything, and must persist: a restarted container stays silent.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import time
from typing import Any

from .asgi import App, Message, Receive, Scope, Send, send_json
from .shared_state import SharedState

FUSE_PATH = "/modelsync/fuse"
LOOK_SECONDS = 0.025  # how often a process checks whether another one has blown the fuse
CUT_SECONDS = 0.5  # for open responses to end, before a process acknowledges
ACKNOWLEDGE_SECONDS = 0.7  # for all processes to acknowledge, before the POST is answered
HELD_MESSAGE = "this version of the model is held and does not answer"
HELD = {"message": HELD_MESSAGE, "type": "RegulatoryHold", "param": None, "code": 451}

_BLOWN = "fuse-blown"


class Fuse:
    """Once blown, ends open responses and answers new requests with 451 (RFC 7725) until the pod is deleted.

    `POST /modelsync/fuse` with the revision's token blows it. The pod contains only the token's hash
    (MODELSYNC_FUSE_SHA256): reading the pod is not enough to silence it.
    """

    def __init__(self, shared: SharedState) -> None:
        self._shared = shared
        self._hash = os.environ.get("MODELSYNC_FUSE_SHA256", "")
        self._open: set[asyncio.Task[None]] = set()
        self._last_byte: float | None = None
        self._looked = 0.0
        self._silence: asyncio.Task[None] | None = None
        self.blown = shared.marked(_BLOWN)
        if self.blown:  # by an earlier container of this pod
            self._acknowledge(cut=0)

    def look(self) -> bool:
        """Whether the fuse is blown, by this process or another one. Cheap enough to call for every chunk."""
        if not self.blown:
            now = time.monotonic()
            if now - self._looked >= LOOK_SECONDS:
                self._looked = now
                if self._shared.marked(_BLOWN):
                    self._fall_silent()
        return self.blown

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Blow the fuse, and respond when every process of the pod has acknowledged: how many did, how many requests
        were cut, and the time of the model's last byte, as seconds since the epoch and as an age (clocks differ)."""
        if scope["method"] != "POST" or not self._hash:
            await send_json(send, 405 if self._hash else 404, {"blown": self.look(), "reason": "POST with the token"})
            return
        if not self._may(scope):
            reason = "the token is not that of this revision"
            await send_json(send, 403, {"blown": self.look(), "reason": reason})
            return
        until = time.monotonic() + ACKNOWLEDGE_SECONDS
        if not self.blown:
            self._shared.mark(_BLOWN)
            self._fall_silent()
        processes = self._shared.published()
        while time.monotonic() < until and not all("fuse" in process for process in processes):
            await asyncio.sleep(0.01)
            processes = self._shared.published()
        await send_json(send, 200, _sum([process.get("fuse") for process in processes]))

    async def run(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, and end it when the fuse blows: with an error event in a stream, with 451, or cut off."""
        started = streaming = ended = accepted = False

        async def watched(message: Message) -> None:
            nonlocal started, streaming, ended, accepted
            if self.look():  # the application may continue for a moment after it was cancelled
                return
            kind = message["type"]
            if kind == "http.response.body":
                started = started or bool(message.get("body"))
                ended = not message.get("more_body", False)
                self._last_byte = time.time()
            elif kind == "http.response.start":
                streaming = _is_event_stream(message)  # the head itself waits for the first byte, and may be replaced
            elif kind == "websocket.accept":
                accepted = True
            elif kind == "websocket.send":
                self._last_byte = time.time()
            await send(message)

        if not self.look():
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
            if request.done() and not request.cancelled():
                request.exception()  # retrieved so that asyncio does not log an application's error from the cut
        else:
            while scope["type"] == "http" and (await receive()).get("more_body", False):
                pass  # a proxy that is still sending the request would turn the response into a 502
        if scope["type"] == "websocket":
            await _refuse_websocket(scope, send, accepted=accepted)
        elif ended:
            return
        elif not started:
            await send_json(send, 451, {"error": HELD})
        elif streaming:
            await send({"type": "http.response.body", "body": _error_event(scope["path"]), "more_body": False})
        # A body with a Content-Length is left incomplete: the server closes the connection, and the client sees it.

    def _fall_silent(self) -> None:
        self.blown = True
        cut = set(self._open)
        for request in cut:
            request.cancel()
        self._silence = asyncio.ensure_future(self._cut(cut))

    async def _cut(self, cut: set[asyncio.Task[None]]) -> None:
        if cut:
            await asyncio.wait(cut, timeout=CUT_SECONDS)
        self._acknowledge(cut=len(cut), left=sum(not request.done() for request in cut))

    def _acknowledge(self, *, cut: int, left: int = 0) -> None:
        self._shared.publish(fuse={"cut": cut, "left": left, "lastByte": self._last_byte})

    def _may(self, scope: Scope) -> bool:
        headers = dict(scope["headers"])
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(hashlib.sha256(token).hexdigest(), self._hash)


def _sum(acknowledged: list[Any]) -> dict[str, Any]:
    """Combine the acknowledgements of all processes; None stands for a process without one."""
    found = [each for each in acknowledged if each]
    times = [each["lastByte"] for each in found if each.get("lastByte") is not None]
    last = max(times) if times else None
    return {
        "blown": True,
        "processes": len(acknowledged),
        "acknowledged": len(found),
        "cut": sum(each.get("cut", 0) for each in found),
        "left": sum(each.get("left", 0) for each in found),
        "lastByte": last,
        "lastByteAge": None if last is None else max(0.0, time.time() - last),
    }


async def _refuse_websocket(scope: Scope, send: Send, *, accepted: bool) -> None:
    if accepted or "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": "held"})
        return
    body = json.dumps({"error": HELD}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "websocket.http.response.start", "status": 451, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def _error_event(path: str) -> bytes:
    """The last event of a cut stream, in the error format of that API."""
    if path in ("/v1/messages", "/v1/responses"):  # their events have names
        return b"event: error\ndata: " + json.dumps({"type": "error", "error": HELD}).encode() + b"\n\n"
    return b"data: " + json.dumps({"error": HELD}).encode() + b"\n\n"


def _is_event_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message.get("headers") or ()
    )
