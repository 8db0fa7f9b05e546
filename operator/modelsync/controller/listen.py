"""Serves an HTTP application on a port of this process: probes, metrics or webhooks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from aiohttp import web

from modelsync.registry.certificate import Certificate

KEEPALIVE = timedelta(hours=1)
"""Longer than the intervals of the kubelet and Prometheus, so that the client closes the connection."""


@asynccontextmanager
async def listen(
    app: web.Application,
    *,
    host: str = "",
    port: int,
    keepalive: timedelta = KEEPALIVE,
    certificate: Certificate | None = None,
) -> AsyncIterator[int]:
    """Listen while the block runs, on all addresses unless `host` is set. Yields the port; `port` 0 picks a free one.

    A connection may be idle for `keepalive`. With a certificate it serves TLS, and uses a renewed certificate without a
    restart. Raises OSError.
    """
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=keepalive.total_seconds(), shutdown_timeout=1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        context = certificate.context if certificate is not None else None
        await web.TCPSite(runner, host, port, ssl_context=context).start()
        if certificate is not None:
            stack.callback(asyncio.create_task(certificate.follow(), name="certificate").cancel)
        yield runner.addresses[0][1]
