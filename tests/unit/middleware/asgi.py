"""A minimal ASGI server: calls the middleware and records the messages of its response."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Recorder:
    """The recorded messages of an application's response."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def http(path: str = "/v1/completions", method: str = "POST", **headers: str) -> Message:
    named = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "headers": named}


def websocket(*extensions: str) -> Message:
    return {"type": "websocket", "path": "/v1/realtime", "headers": [], "extensions": {name: {} for name in extensions}}
