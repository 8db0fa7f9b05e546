"""HTTP/2 with prior knowledge (RFC 9113 §3.3) over a few shared connections, by the h2 library.

Not httpx: after a GOAWAY its HTTP/2 fails every request on the connection (httpcore, `_receive_stream_event`), even
those that the server will finish, so a gateway with a graceful shutdown would seem to lose them.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import H2Error, ProtocolError, TooManyStreamsError
from h2.settings import SettingCodes

from traffic.reading import Reading

CONNECT_SECONDS = 5.0
CONNECTIONS = 2
MOST_TRIES = 3
WINDOW_BYTES = 1 << 20
_ENDED = "the connection was closed"


class Http2:
    """Sends requests over HTTP/2, spread over `CONNECTIONS` connections, which are replaced when they end."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._connections: list[_Connection] = []
        self._turn = 0
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Do nothing: connections are opened by the first requests."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        for connection in self._connections:
            connection.close()

    async def ask(self, body: bytes, headers: Mapping[str, str], reading: Reading) -> int:
        """Send one request and read its answer; returns how often it was resent.

        It is resent only when the server reports that it did not start to process it: by a GOAWAY that does not cover
        it, or by REFUSED_STREAM. Every HTTP/2 client does so automatically (RFC 9113 §8.7), so that users lose nothing.
        """
        for retries in range(MOST_TRIES):
            try:
                connection = await self._connection()
            except (OSError, TimeoutError) as error:
                reading.broken(f"{type(error).__name__}: {error}")
                return retries
            try:
                if await connection.ask(self._head(headers), body, reading):
                    return retries
            except TooManyStreamsError:
                connection.retire()
        reading.broken(f"not processed by the server in {MOST_TRIES} tries")
        return MOST_TRIES - 1

    def _head(self, headers: Mapping[str, str]) -> list[tuple[str, str]]:
        rest = {name.lower(): value for name, value in headers.items()}
        authority = rest.pop("host", self._url.netloc)
        return [
            (":method", "POST"),
            (":scheme", self._url.scheme),
            (":authority", authority),
            (":path", self._url.path or "/"),
            *rest.items(),
        ]

    async def _connection(self) -> "_Connection":
        self._connections = [connection for connection in self._connections if not connection.over]
        async with self._opening:
            if len(usable := self._usable) < CONNECTIONS:
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(CONNECT_SECONDS):
                    _, opened = await loop.create_connection(
                        _Connection,
                        self._url.hostname or "",
                        self._url.port or (443 if self._url.scheme == "https" else 80),
                    )
                self._connections.append(opened)
                usable = self._usable or [opened]  # earlier ones may have ended meanwhile
        self._turn += 1
        return usable[self._turn % len(usable)]

    @property
    def _usable(self) -> list["_Connection"]:
        return [connection for connection in self._connections if connection.usable]


class _Graceful(H2Connection):
    """h2 treats a GOAWAY as the end of the connection, and the remaining answers as a protocol error. But it only ends
    new requests: those up to `last_stream_id` are still answered (RFC 9113 §6.8)."""

    def _receive_goaway_frame(self, frame: Any) -> tuple[list[Any], list[Event]]:
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        return [], [event]


class _Exchange:
    """One request on a connection. `processed` becomes False when the server reports that it will not process it."""

    def __init__(self, reading: Reading, processed: asyncio.Future[bool]) -> None:
        self.reading = reading
        self.processed = processed


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._h2 = _Graceful(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._exchanges: dict[int, _Exchange] = {}
        self._transport: asyncio.Transport | None = None
        self._retired = False
        self.over = False

    @property
    def usable(self) -> bool:
        return not self._retired and not self.over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):  # pragma: no cover - create_connection gives a stream
            raise TypeError(transport)
        self._transport = transport
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES, SettingCodes.ENABLE_PUSH: 0})
        self._h2.increment_flow_control_window(16 * WINDOW_BYTES)
        self._flush()

    def retire(self) -> None:
        """Accept no new requests, and close when the outstanding ones have ended."""
        self._retired = True
        if not self._exchanges:
            self.close()

    def close(self) -> None:
        self.over = True
        if self._transport is not None:
            self._transport.close()

    async def ask(self, head: list[tuple[str, str]], body: bytes, reading: Reading) -> bool:
        """Send a request and wait for its end; False if the server did not start to process it."""
        if self.over:
            return False  # its end would never be reported
        try:
            number = self._h2.get_next_available_stream_id()
            self._h2.send_headers(number, head)
            self._h2.send_data(number, body, end_stream=True)
        except TooManyStreamsError:
            raise
        except H2Error:  # the connection ended after it was chosen: nothing was sent
            self.retire()
            return False
        exchange = _Exchange(reading, asyncio.get_running_loop().create_future())
        self._exchanges[number] = exchange
        self._flush()
        try:
            return await exchange.processed
        finally:
            if self._exchanges.pop(number, None) is not None:  # cancelled by its caller
                with suppress(H2Error):
                    self._h2.reset_stream(number, ErrorCodes.CANCEL)
                    self._flush()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        try:
            events = self._h2.receive_data(data)
        except ProtocolError as error:
            self._fail(f"ProtocolError: {error}")
            self.close()
            return
        for event in events:
            self._event(event, now)
        self._flush()
        if self._retired and not self._exchanges:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self._fail(f"{type(exc).__name__}: {exc}" if exc else _ENDED)

    def _event(self, event: Event, now: float) -> None:
        if isinstance(event, ConnectionTerminated):
            self._retired = True
            for number in [number for number in self._exchanges if number > (event.last_stream_id or 0)]:
                self._end(number, processed=False)
        elif isinstance(event, ResponseReceived) and (exchange := self._of(event.stream_id)):
            headers = {str(name): str(value) for name, value in event.headers or ()}
            exchange.reading.head(int(headers.get(":status", 0)), headers)
        elif isinstance(event, DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
            if exchange := self._of(event.stream_id):
                exchange.reading.data(event.data or b"", now)
        elif isinstance(event, StreamEnded) and (exchange := self._of(event.stream_id)):
            exchange.reading.end(now)
            self._end(event.stream_id)
        elif isinstance(event, StreamReset) and (exchange := self._of(event.stream_id)):
            processed = exchange.reading.started or event.error_code != ErrorCodes.REFUSED_STREAM
            if processed:
                exchange.reading.broken(f"RST_STREAM {_code(event.error_code)}")
            self._end(event.stream_id, processed=processed)

    def _of(self, number: int | None) -> _Exchange | None:
        return self._exchanges.get(number or 0)

    def _end(self, number: int | None, *, processed: bool = True) -> None:
        exchange = self._exchanges.pop(number or 0, None)
        if exchange is not None and not exchange.processed.done():
            exchange.processed.set_result(processed)

    def _fail(self, why: str) -> None:
        for number, exchange in list(self._exchanges.items()):
            exchange.reading.broken(why)
            self._end(number)

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._h2.data_to_send())


def _code(code: Any) -> str:
    try:
        return ErrorCodes(code).name
    except ValueError:
        return str(code)
