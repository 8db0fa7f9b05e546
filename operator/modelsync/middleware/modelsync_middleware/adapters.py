"""The names of LoRA adapters: clients ask for `legal`, the server knows `legal@v7-3fa9c1d2` and puts that into its
answers, and the model below the adapters is answered for by nobody unless it is exposed.

It reads MODELSYNC_ADAPTER_NAMES and MODELSYNC_BASE_NAMES (names in the server, separated by commas),
MODELSYNC_EXPOSE_BASE (`true`) and MODELSYNC_DEFAULT_NAME (who answers a request that names no model; else the base, if
it is exposed). It reads requests whole, as the server does after it, and must never touch an answer but the list of
models. What it cannot read goes on only where the base may be called anyway.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from .asgi import App, Message, Receive, Scope, Send, send_json

MODELS_PATH = "/v1/models"
NO_MODEL_PATHS = ("/ping",)  # POST too, and no answer of a model (SageMaker's health check)

_SPACE = re.compile(r"[ \t\n\r]*")


def with_adapter_names(app: App) -> App:
    """`app` with the names of its adapters; `app` itself where there are none."""
    names = _names("MODELSYNC_ADAPTER_NAMES")
    return AdapterNames(app, names) if names else app


class AdapterNames:
    """ASGI middleware between the fuse and the server; see the module."""

    def __init__(self, app: App, names: list[str]) -> None:
        self._app = app
        self._names = {name.rpartition("@")[0]: name for name in names}
        self._base = _names("MODELSYNC_BASE_NAMES")
        self._exposed = os.environ.get("MODELSYNC_EXPOSE_BASE") == "true"
        self._default = os.environ.get("MODELSYNC_DEFAULT_NAME", "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not self._exposed:
            # Which model it is for comes in one of its messages, if at all; the server would take the base.
            await send({"type": "websocket.close", "code": 1008, "reason": "adapters are asked for by HTTP"})
        elif scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == MODELS_PATH:
            await self._app(scope, receive, self._listing(send))
        elif scope["type"] == "http" and scope["method"] in ("POST", "PUT", "PATCH"):
            await self._asked(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _asked(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in NO_MODEL_PATHS:
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return  # the client has left
        named = _Named.read(body)
        if named is None or (named.model is not None and not isinstance(named.model, str)):
            if not self._exposed:
                await self._refuse(send, 400, "BadRequestError", "the body must be a JSON object whose model is a name")
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
        """In vLLM's own shape, with what can be asked for."""
        message = f"{why.rstrip('.')}; ask for one of: {', '.join(self._names)}"
        await send_json(send, status, {"error": {"message": message, "type": kind, "param": "model", "code": status}})

    def _listing(self, send: Send) -> Send:
        """Send on the list of models as clients may use it. Only this answer is held back until it is whole."""
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
    """A JSON object with the places of its `model`, so that nothing else of it is touched: numbers stay as written."""

    def __init__(self, text: str, encoding: str, places: list[tuple[int, int]], model: Any, first: int, empty: bool):
        self._text = text
        self._encoding = encoding
        self._places = places
        self.model = model
        self._first = first
        self._empty = empty

    @classmethod
    def read(cls, body: bytes) -> _Named | None:
        """None for what the server's own json.loads would not take for an object."""
        try:
            encoding = json.detect_encoding(body)
            text = body.decode(encoding, "surrogatepass")
            # The server's reader decides what is JSON at all; the walk below only finds places in what it has taken.
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
            if key == "model":  # of several the last one counts, as in json.loads; all are replaced
                places.append((start, at))
                model = value
            at = _after_space(text, at)
            if text[at] == "}":
                break
            at = _after_space(text, at + 1)
        return cls(text, encoding, places, model, first, empty)

    def naming(self, name: str) -> bytes:
        """The body with `name` for its model."""
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
    """`body` first, then what comes (the client's leaving)."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
