"""Serves an HTTP application on a port of this process: probes, metrics or webhooks.

Any pod of the cluster can connect, so connections, headers, waiting bodies and idle time are bounded.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import cast

from aiohttp import web

from modelsync.controller.connections import MAX_CONNECTIONS, MAX_FROM_ONE_ADDRESS, Connections
from modelsync.registry.certificate import Certificate

KEEPALIVE = timedelta(seconds=75)
"""How long a connection may be idle, or take to send the head of a request. Longer than the intervals of the kubelet
and Prometheus, so that the client closes the connection."""
HANDSHAKE = timedelta(seconds=5)
LINGER = timedelta(seconds=2)
"""How long a body that nobody reads may take to end; after that the connection is closed."""
MAX_HEADERS = 64
MAX_LINE_BYTES = 4096
"""Of the request line and of a header."""


@asynccontextmanager
async def listen(
    app: web.Application,
    *,
    host: str = "",
    port: int,
    keepalive: timedelta = KEEPALIVE,
    certificate: Certificate | None = None,
    most: int = MAX_CONNECTIONS,
    most_of_one: int = MAX_FROM_ONE_ADDRESS,
) -> AsyncIterator[int]:
    """Listen while the block runs, on all addresses unless `host` is set. Yields the port; `port` 0 picks a free one.

    A connection may be idle for `keepalive`. Of more than `most` connections, or `most_of_one` from one address, one is
    closed. With a certificate it serves TLS, and uses a renewed certificate without a restart. Raises OSError.
    """
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=keepalive.total_seconds(),
            shutdown_timeout=1,
            lingering_time=LINGER.total_seconds(),
            max_headers=MAX_HEADERS,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            auto_decompress=False,  # W&B compresses nothing, and a few KiB could become many MiB
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        connections = Connections(
            # What serves is an asyncio.Protocol; aiohttp does not say so.
            cast(Callable[[], asyncio.Protocol], runner.server),
            most=most,
            most_of_one=most_of_one,
        )
        server = await asyncio.get_running_loop().create_server(
            connections.protocol,
            host or None,
            port,
            ssl=certificate.context if certificate is not None else None,
            ssl_handshake_timeout=HANDSHAKE.total_seconds() if certificate is not None else None,
        )
        stack.callback(server.close)
        if certificate is not None:
            stack.callback(asyncio.create_task(certificate.follow(), name="certificate").cancel)
        yield server.sockets[0].getsockname()[1]
