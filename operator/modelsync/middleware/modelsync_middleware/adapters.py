"""Maps the names of LoRA adapters: clients request `legal`, the server knows it as `legal@v7-3fa9c1d2` and returns that
name, and the base model can only be called if it is exposed.

It reads MODELSYNC_ADAPTER_NAMES and MODELSYNC_BASE_NAMES (names in the server, separated by commas),
MODELSYNC_EXPOSE_BASE (`true`) and MODELSYNC_DEFAULT_NAME (the model for a request that names none; otherwise the base,
if it is exposed). It buffers request bodies, as the server does too, and must never change a response except the list
of models. A request that it cannot parse is forwarded only if the base is exposed anyway.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from .asgi import App, Message, Receive, Scope, Send, send_json

MODELS_PATH = "/v1/models"
NO_MODEL_PATHS = ("/ping",)  # SageMaker's health check: may be a POST, but does not call a model

_SPACE = re.compile(r"[ \t\n\r]*")


def with_adapter_names(app: App) -> App:
    """Wrap `app` with AdapterNames if there are adapters; otherwise return it unchanged."""
    names = _names("MODELSYNC_ADAPTER_NAMES")
    return AdapterNames(app, names) if names else app


class AdapterNames:
    """ASGI middleware between the fuse and the server; see the module's docstring."""

    def __init__(self, app: App, names: list[str]) -> None:
        self._app = app
        self._names = {name.rpartition("@")[0]: name for name in names}
        self._base = _names("MODELSYNC_BASE_NAMES")
        self._exposed = os.environ.get("MODELSYNC_EXPOSE_BASE") == "true"
        self._default = os.environ.get("MODELSYNC_DEFAULT_NAME", "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not self._exposed:
            # The model is named in one of its messages, if at all; by default the server would use the base.
            await send({"type": "websocket.close", "code": 1008, "reason": "adapters are available over HTTP only"})
        elif scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == MODELS_PATH:
            await self._app(scope, receive, self._listing(send))
        elif scope["type"] == "http" and scope["method"] in ("POST", "PUT", "PATCH"):
            await self._rename_model(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _rename_model(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in NO_MODEL_PATHS:
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return  # the client has left
        named = _Named.read(body)
        if named is None or (named.model is not None and not isinstance(named.model, str)):
            if not self._exposed:
                await self._refuse(
                    send, 400, "BadRequestError", "the body must be a JSON object whose model is a string"
                )
                return
        elif not named.model:
            if self._default:
                body = named.naming(self._default)
            elif not self._exposed:
                await self._refuse(send, 400, "BadRequestError", "the request names no model")
                return
        elif named.model in self._names:
            body = named.naming(self._names[named.model])
        elif named.model in self._base and not self._exposed:
            await self._refuse(send, 404, "NotFoundError", f"The model `{named.model}` does not exist.")
            return
        headers = [header for header in scope["headers"] if header[0].lower() not in (b"content-length",)]
        headers.append((b"content-length", str(len(body)).encode()))
        await self._app({**scope, "headers": headers}, _given(body, receive), send)

    async def _refuse(self, send: Send, status: int, kind: str, why: str) -> None:
        """Send an error in vLLM's format, with the names that can be requested."""
        message = f"{why.rstrip('.')}; use one of: {', '.join(self._names)}"
        await send_json(send, status, {"error": {"message": message, "type": kind, "param": "model", "code": status}})

    def _listing(self, send: Send) -> Send:
        """Forward the list of models with the names for clients. Only this response is buffered."""
        head: Message | None = None
        chunks: list[bytes] = []

        async def whole(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                head = message
                return
            chunks.append(message.get("body", b""))
            if message.get("more_body") or head is None:
                return
            body = self._listed(b"".join(chunks)) if head["status"] == 200 else b"".join(chunks)
            kept = [header for header in head.get("headers") or () if header[0].lower() != b"content-length"]
            await send({**head, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
            await send({"type": "http.response.body", "body": body})

        return whole

    def _listed(self, body: bytes) -> bytes:
        try:
            listing = json.loads(body)
            cards = [card for card in listing["data"] if self._exposed or card["id"] not in self._base]
            short = {name: alias for alias, name in self._names.items()}
            listing["data"] = []
            for card in cards:
                if card["id"] in short:
                    parent = card.get("parent") if self._exposed else None
                    listing["data"] += [{**card, "parent": parent}, {**card, "id": short[card["id"]], "parent": parent}]
                else:
                    listing["data"].append(card)
            return json.dumps(listing).encode()
        except (ValueError, LookupError, TypeError):
            return body if self._exposed else b'{"object": "list", "data": []}'


class _Named:
    """A JSON object with the positions of its `model`, so that nothing else is changed: numbers stay as written."""

    def __init__(self, text: str, encoding: str, places: list[tuple[int, int]], model: Any, first: int, empty: bool):
        self._text = text
        self._encoding = encoding
        self._places = places
        self.model = model
        self._first = first
        self._empty = empty

    @classmethod
    def read(cls, body: bytes) -> _Named | None:
        """Parse a body; None for anything that the server's json.loads would not parse as an object."""
        try:
            encoding = json.detect_encoding(body)
            text = body.decode(encoding, "surrogatepass")
            # json.loads decides what is valid, as in the server; the walk below only finds positions in valid JSON.
            if not isinstance(json.loads(text), dict):
                return None
            return cls._walk(text, encoding)
        except (ValueError, RecursionError):
            return None

    @classmethod
    def _walk(cls, text: str, encoding: str) -> _Named:
        decode = json.JSONDecoder().raw_decode
        at = first = _after_space(text, 0) + 1
        at = _after_space(text, at)
        empty = text[at] == "}"
        places: list[tuple[int, int]] = []
        model: Any = None
        while not empty:
            key, at = decode(text, at)
            start = _after_space(text, _after_space(text, at) + 1)
            value, at = decode(text, start)
            if key == "model":  # with duplicates the last one counts, as in json.loads; all are replaced
                places.append((start, at))
                model = value
            at = _after_space(text, at)
            if text[at] == "}":
                break
            at = _after_space(text, at + 1)
        return cls(text, encoding, places, model, first, empty)

    def naming(self, name: str) -> bytes:
        """The body with `name` as its model."""
        text, new = self._text, json.dumps(name)
        if not self._places:
            rest = text[self._first :]
            return (f'{text[: self._first]}"model": {new}{"" if self._empty else ", "}{rest}').encode(
                self._encoding, "surrogatepass"
            )
        for start, end in reversed(self._places):
            text = text[:start] + new + text[end:]
        return text.encode(self._encoding, "surrogatepass")


def _names(variable: str) -> list[str]:
    return [name for name in os.environ.get(variable, "").split(",") if name]


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


async def _read(receive: Receive) -> bytes | None:
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def _given(body: bytes, receive: Receive) -> Receive:
    """Return a Receive that returns `body` first, then what `receive` returns (the client's disconnect)."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
