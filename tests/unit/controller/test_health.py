"""The liveness probe: 200 while everything works, otherwise the failed checks."""

import aiohttp

from modelsync.controller import health
from modelsync.controller.listen import listen


async def test_it_is_healthy_until_a_check_fails() -> None:
    problem: str | None = None
    app = health.application({"workers": lambda: problem, "watches": lambda: None})
    async with (
        listen(app, host="127.0.0.1", port=0) as port,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "ok"})
        problem = "a pass has taken 300 s"
        async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert (answer.status, await answer.json()) == (503, {"workers": "a pass has taken 300 s"})
