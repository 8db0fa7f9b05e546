"""Listens for HTTP on a port of this process. What is answered there is an application's: probes, metrics, webhooks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from aiohttp import web

from modelsync.registry.certificate import Certificate

KEEPALIVE = timedelta(hours=1)
"""Those who ask again and again (the kubelet, Prometheus) are the first to hang up."""


@asynccontextmanager
async def listen(
    app: web.Application,
    *,
    host: str = "",
    port: int,
    keepalive: timedelta = KEEPALIVE,
    certificate: Certificate | None = None,
) -> AsyncIterator[int]:
    """Listen while the block runs, on all addresses unless `host` names one; gives the port, which was free to choose
    if `port` is 0.

    A connection may be idle for `keepalive`. With a certificate it speaks TLS, and shows a renewed one without a
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
