"""Answers Prometheus: `GET /metrics`, plain HTTP, on a port of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from modelsync.telemetry.metrics import Metrics

PATH = "/metrics"


@asynccontextmanager
async def serve(metrics: Metrics, *, host: str, port: int) -> AsyncIterator[int]:
    """Answer on `port` while the block runs; gives the port, which was free to choose if it was 0. Raises OSError."""
    one_at_a_time = asyncio.Lock()

    async def scrape(_request: web.Request) -> web.Response:
        async with one_at_a_time:
            metrics.refresh()
            # Thousands of objects make megabytes of text: a hold must not wait for them.
            body = await asyncio.to_thread(metrics.render)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get(PATH, scrape)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
