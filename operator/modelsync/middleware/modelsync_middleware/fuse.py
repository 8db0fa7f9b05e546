"""The fuse: once blown, no byte of the model leaves the pod. It must never need anything but this process to act."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import time

from .asgi import App, Message, Receive, Scope, Send, send_json

FUSE_PATH = "/modelsync/fuse"
CUT_SECONDS = 0.5  # for the answers that were under way to end, before the fuse acknowledges
HELD_MESSAGE = "this version of the model is held and does not answer"
HELD = {"message": HELD_MESSAGE, "type": "RegulatoryHold", "param": None, "code": 451}


class Fuse:
    """Once blown, no byte of the model leaves: open answers end, new requests get 451 (RFC 7725).

    `POST /modelsync/fuse` with the revision's token blows it, for as long as the process lives. Here is only the hash
    of the token: who can read the pod cannot silence it.
    """

    def __init__(self) -> None:
        self.blown = False
        self._hash = os.environ.get("MODELSYNC_FUSE_SHA256", "")
        self._open: set[asyncio.Task[None]] = set()
        self._last_byte: float | None = None

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Blow, and acknowledge when the answers that were under way have ended."""
        if scope["method"] != "POST" or not self._hash:
            await send_json(send, 405 if self._hash else 404, {"blown": self.blown, "reason": "POST with the token"})
            return
        if not self._may(scope):
            await send_json(send, 403, {"blown": self.blown, "reason": "the token is not that of this revision"})
            return
        self.blown = True
        cut = set(self._open)
        for request in cut:
            request.cancel()
        if cut:
            await asyncio.wait(cut, timeout=CUT_SECONDS)
        left = sum(not request.done() for request in cut)
        await send_json(send, 200, {"blown": True, "cut": len(cut), "left": left, "lastByte": self._last_byte})

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
            await send_json(send, 451, {"error": HELD})
        elif streaming and not ended:
            event = b"data: " + json.dumps({"error": HELD}).encode() + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": False})
        # A body of announced length is left unfinished: the server closes the connection, and the client sees the cut.

    def _may(self, scope: Scope) -> bool:
        headers = dict(scope["headers"])
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(hashlib.sha256(token).hexdigest(), self._hash)


def _is_event_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message.get("headers") or ()
    )
