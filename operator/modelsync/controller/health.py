"""Serves the kubelet's liveness probe: 200 while everything works, otherwise 503 with the failed checks.

A running process alone proves nothing: a watch may have ended, or a worker may be stuck.
"""

from collections.abc import Callable, Mapping

from aiohttp import web

Check = Callable[[], str | None]
"""Returns the problem, or None. Must not block."""

PATH = "/healthz"


def application(checks: Mapping[str, Check]) -> web.Application:
    """Return the application that serves `GET /healthz`; it runs `checks` at each request."""

    async def health(_request: web.Request) -> web.Response:
        problems = {name: problem for name, check in checks.items() if (problem := check()) is not None}
        return web.json_response(problems or {"status": "ok"}, status=503 if problems else 200)

    app = web.Application()
    app.router.add_get(PATH, health)
    return app
