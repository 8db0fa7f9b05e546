"""Serves `GET /metrics` for Prometheus, on its own port."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from modelsync.telemetry.metrics import Metrics

PATH = "/metrics"


def application(metrics: Metrics) -> web.Application:
    """Return the application that serves the current `metrics`."""
    one_at_a_time = asyncio.Lock()
    thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")

    async def scrape(_request: web.Request) -> web.Response:
        async with one_at_a_time:
            metrics.refresh()
            # Thousands of objects make megabytes of text; rendering them must not delay a hold.
            body = await asyncio.get_running_loop().run_in_executor(thread, metrics.render)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get(PATH, scrape)
    return app
