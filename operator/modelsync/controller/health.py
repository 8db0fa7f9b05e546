"""Answers the kubelet's liveness probe: 200 while everything moves, 503 with what does not.

A process that is only alive proves nothing: a watch may be dead, or a worker stuck.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

Check = Callable[[], str | None]
"""What is wrong, or None. Must not block."""

PATH = "/healthz"


@asynccontextmanager
async def serve(checks: Mapping[str, Check], *, host: str, port: int) -> AsyncIterator[int]:
    """Answer on `port` while the block runs; gives the port, which was free to choose if it was 0. Raises OSError."""

    async def health(_request: web.Request) -> web.Response:
        wrong = {name: problem for name, check in checks.items() if (problem := check()) is not None}
        return web.json_response(wrong or {"status": "ok"}, status=503 if wrong else 200)

    app = web.Application()
    app.router.add_get(PATH, health)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
