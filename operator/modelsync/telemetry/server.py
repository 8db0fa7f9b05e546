"""Answers Prometheus: `GET /metrics`, for a port of its own."""

import asyncio

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from modelsync.telemetry.metrics import Metrics

PATH = "/metrics"


def application(metrics: Metrics) -> web.Application:
    """Make what answers a scrape with `metrics` as they are then."""
    one_at_a_time = asyncio.Lock()

    async def scrape(_request: web.Request) -> web.Response:
        async with one_at_a_time:
            metrics.refresh()
            # Thousands of objects make megabytes of text: a hold must not wait for them.
            body = await asyncio.to_thread(metrics.render)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get(PATH, scrape)
    return app
