"""Answers the kubelet's liveness probe: 200 while everything moves, 503 with what does not.

A process that is only alive proves nothing: a watch may be dead, or a worker stuck.
"""

from collections.abc import Callable, Mapping

from aiohttp import web

Check = Callable[[], str | None]
"""What is wrong, or None. Must not block."""

PATH = "/healthz"


def application(checks: Mapping[str, Check]) -> web.Application:
    """Make what answers `GET /healthz` with what `checks` say then."""

    async def health(_request: web.Request) -> web.Response:
        wrong = {name: problem for name, check in checks.items() if (problem := check()) is not None}
        return web.json_response(wrong or {"status": "ok"}, status=503 if wrong else 200)

    app = web.Application()
    app.router.add_get(PATH, health)
    return app
