"""HTTP/1.1 by aiohttp, on kept-alive connections or a new one for each request."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import aiohttp

from traffic.reading import Reading

CONNECT_SECONDS = 5.0


class Http1:
    """Sends requests over HTTP/1.1. `keep_alive=False` opens and closes a connection for each request.

    A request that fails on a connection that the server was just closing counts as broken: it is a POST, so aiohttp
    does not resend it (RFC 9110 §9.2.2), since a client cannot know whether it was processed.
    """

    def __init__(self, url: str, *, keep_alive: bool) -> None:
        self._url = url
        self._keep_alive = keep_alive

    async def __aenter__(self) -> Self:
        """Open the pool of connections."""
        kept = 60.0 if self._keep_alive else None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=kept, force_close=not self._keep_alive),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self._session.close()

    async def ask(self, body: bytes, headers: Mapping[str, str], reading: Reading) -> int:
        """Send one request and read its answer; returns 0, the number of retries."""
        try:
            async with self._session.post(self._url, data=body, headers=headers) as response:
                reading.head(response.status, response.headers)
                async for part in response.content.iter_any():
                    reading.data(part, time.monotonic())
                reading.end(time.monotonic())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            reading.broken(f"{type(error).__name__}: {error}")
        return 0
