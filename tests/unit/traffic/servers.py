"""Servers with scripted misbehaviour, over HTTP/1.1 or HTTP/2."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived, StreamEnded
from h2.exceptions import H2Error

REVISION = "v7-3fa9c1d2"
MODEL = f"chat@{REVISION}"


def chunk(text: str = "hello", finish: str | None = None, model: str = MODEL) -> bytes:
    """One event of a stream."""
    payload = {"model": model, "choices": [{"delta": {"content": text}, "finish_reason": finish}]}
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def whole(finish: str | None = "stop", model: str = MODEL) -> bytes:
    """A complete answer."""
    return json.dumps(
        {"model": model, "choices": [{"message": {"content": "hello"}, "finish_reason": finish}]}
    ).encode()


def event(payload: object) -> bytes:
    """An event with any payload."""
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
GOOD_STREAM = chunk() + chunk() + chunk("", "stop") + DONE


def head(status: int = 200, length: int | None = None, revision: str | None = REVISION) -> bytes:
    """The head of an HTTP/1.1 answer; chunked if it has no length."""
    lines = [f"HTTP/1.1 {status} X", "content-type: text/event-stream"]
    lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
    if revision:
        lines.append(f"x-model-revision: {revision}")
    return "\r\n".join([*lines, "", ""]).encode()


def chunked(body: bytes, *, ended: bool = True) -> bytes:
    """A body in HTTP/1.1's chunked coding."""
    return f"{len(body):x}\r\n".encode() + body + b"\r\n" + (b"0\r\n\r\n" if ended else b"")


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def http1(answer: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that reads a request and lets `answer` write anything; yields its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in request.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                await reader.readexactly(length)
                await answer(writer)
                if writer.is_closing():
                    break
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


class Http2Server:
    """The actions of an HTTP/2 server's script on one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        """The number of this connection on the server, from 1."""
        self.h2 = H2Connection(H2Configuration(client_side=False))
        self.requests: list[int] = []
        """The streams whose request is complete, in order."""

    async def answer(
        self,
        stream: int,
        body: bytes = GOOD_STREAM,
        *,
        status: int = 200,
        revision: str | None = REVISION,
        ended: bool = True,
    ) -> None:
        """Send an answer, or the given part of it."""
        headers = [(":status", str(status)), *([("x-model-revision", revision)] if revision else [])]
        self.h2.send_headers(stream, headers)
        self.h2.send_data(stream, body, end_stream=ended)
        await self.flush()

    async def more(self, stream: int, body: bytes, *, ended: bool = True) -> None:
        """Send the rest of an answer."""
        self.h2.send_data(stream, body, end_stream=ended)
        await self.flush()

    async def listen(self) -> None:
        """Process what the client sends meanwhile, above all its window updates."""
        self.h2.receive_data(await self.reader.read(65536))
        await self.flush()

    async def reset(self, stream: int, code: ErrorCodes = ErrorCodes.INTERNAL_ERROR) -> None:
        """RST_STREAM."""
        self.h2.reset_stream(stream, code)
        await self.flush()

    async def goaway(self, last_stream: int) -> None:
        """A GOAWAY for a graceful shutdown, which still answers the streams up to `last_stream`.

        Sent as raw bytes, since h2 allows nothing to be sent after it.
        """
        await self.flush()
        self.writer.write(struct.pack(">I", 8)[1:] + b"\x07\x00" + struct.pack(">III", 0, last_stream, 0))
        await self.writer.drain()

    async def flush(self) -> None:
        """Send pending data."""
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()


@asynccontextmanager
async def http2(script: Callable[[Http2Server], Awaitable[None]]) -> AsyncIterator[str]:
    """An HTTP/2 server that calls `script` after each complete request; yields its URL."""
    numbers = iter(range(1, 1000))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Http2Server(reader, writer, next(numbers))
        peer.h2.initiate_connection()
        await peer.flush()
        with suppress(OSError, H2Error):
            while data := await reader.read(65536):
                for happened in peer.h2.receive_data(data):
                    if isinstance(happened, RequestReceived):
                        continue
                    if isinstance(happened, StreamEnded):
                        peer.requests.append(happened.stream_id)
                        await script(peer)
                await peer.flush()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
