"""Bounds how many connections a port keeps open, in all and from one address.

Any pod of the cluster can connect to the operator's ports. One connection more than allowed is not refused, or whoever
opens many would keep the kubelet's probe out and have the operator restarted: the one that has been silent for longest
is closed instead, of the address that has the most.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import cast

MAX_CONNECTIONS = 128
"""Of a port. Each may hold the 256 KiB that aiohttp reads ahead."""
MAX_FROM_ONE_ADDRESS = 32
"""A proxy in front of the webhook receiver keeps some open; the kubelet and Prometheus use one or two."""


class Connections:
    """The open connections of a port. `protocol()` is what `loop.create_server` calls for each."""

    def __init__(
        self,
        serve: Callable[[], asyncio.Protocol],
        *,
        most: int = MAX_CONNECTIONS,
        most_of_one: int = MAX_FROM_ONE_ADDRESS,
    ) -> None:
        self._serve = serve
        self._most = most
        self._most_of_one = most_of_one
        self._open: dict[_Connection, None] = {}
        """Ordered: the one that has been silent for longest is first."""
        self._of: Counter[str] = Counter()

    def protocol(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return _Connection(self, self._serve())

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, connection: "_Connection") -> None:
        """Count `connection`, and close another one if there are too many."""
        source = connection.source
        if self._of[source] >= self._most_of_one:
            self._close_one_of(source)
        elif len(self._open) >= self._most:
            self._close_one_of(max(self._of, key=self._of.__getitem__))
        self._open[connection] = None
        self._of[source] += 1

    def heard(self, connection: "_Connection") -> None:
        """Note that `connection` was not silent."""
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def closed(self, connection: "_Connection") -> None:
        """Forget `connection`."""
        if connection in self._open:
            del self._open[connection]
            self._of -= Counter({connection.source: 1})

    def _close_one_of(self, source: str) -> None:
        silent = next(each for each in self._open if each.source == source)
        self.closed(silent)
        silent.abort()


class _Connection(asyncio.Protocol):
    """Passes everything on to the protocol that serves, and has `Connections` record what happens."""

    def __init__(self, connections: Connections, serving: asyncio.Protocol) -> None:
        self._connections = connections
        self._serving = serving
        self._transport: asyncio.Transport | None = None
        self.source = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.source = str((transport.get_extra_info("peername") or ("",))[0])
        self._connections.opened(self)
        self._serving.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.closed(self)
        self._serving.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._connections.heard(self)
        self._serving.data_received(data)

    def eof_received(self) -> bool | None:
        return self._serving.eof_received()

    def pause_writing(self) -> None:
        self._serving.pause_writing()

    def resume_writing(self) -> None:
        self._serving.resume_writing()

    def abort(self) -> None:
        """Close the connection without waiting for the client."""
        if self._transport is not None:
            self._transport.abort()
