"""The HTTP server: W&B's endpoints, the faults and the request log.

It sends no requests except webhooks, and its memory must not grow with the size of files.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from wandb_standin.admin_api import AdminApi
from wandb_standin.endpoints import Endpoints
from wandb_standin.errors import RefusedError
from wandb_standin.request_log import ENTRY, Entry
from wandb_standin.state import ServerState, Settings

MAX_REQUEST_BYTES: Final = 64 << 20
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server(ServerState):
    """One W&B server. `start` returns once it listens; `port` is then the actual port."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.port = settings.port
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._admin_transports: set[asyncio.Transport | None] = set()

    @property
    def url(self) -> str:
        """Base URL of the address on which it listens."""
        return f"http://{self.settings.host}:{self.port}"

    async def start(self) -> None:
        """Start to listen.

        Raises:
            OSError: the address is in use or not local.
        """
        app = web.Application(client_max_size=MAX_REQUEST_BYTES, middlewares=[self._observe])
        app.add_routes(Endpoints(self).routes())
        app.add_routes(AdminApi(self, self.refuse_connections).routes())
        app.on_response_prepare.append(self._log_answer)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=False, shutdown_timeout=1.0)
        await self._runner.setup()
        await self._listen()

    async def stop(self) -> None:
        """Close all connections and stop the webhooks."""
        if self._reopening is not None:
            self._reopening.cancel()
        await self.automations.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def refuse_connections(self, seconds: float) -> None:
        """Close the port, so that connections are refused, and open it again after `seconds`.

        Open connections are reset, except the one of this request.
        """
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self._drop_connections()
        self._reopening = asyncio.create_task(self._reopen_after(seconds))

    async def _listen(self) -> None:
        if self._runner is None:
            raise RuntimeError("the server was not started")
        self._site = web.TCPSite(self._runner, self.settings.host, self.port, backlog=1024)
        await self._site.start()
        if self.port == 0:
            self.port = self._runner.addresses[0][1]

    async def _reopen_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._listen()

    def _drop_connections(self) -> None:
        server = self._runner.server if self._runner else None
        for connection in server.connections if isinstance(server, web.Server) else []:
            if connection.transport is not None and connection.transport not in self._admin_transports:
                connection.transport.abort()

    @web.middleware
    async def _observe(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/standin/"):
            return await self._serve_admin(request, handler)
        request[ENTRY] = Entry(request.method, request.path, request.remote or "")
        try:
            return await handler(request)
        except RefusedError as refusal:
            return web.json_response({"errors": [refusal.as_json()]}, status=refusal.status)
        finally:
            if request.transport is None or request.transport.is_closing():
                await self._log_answer(request, None)

    async def _log_answer(self, request: web.BaseRequest, response: web.StreamResponse | None) -> None:
        """Log the request before the first byte of its answer, so that a client with the answer finds it in the log."""
        entry = request.get(ENTRY)
        if entry is not None and not entry.seq:
            entry.status = response.status if response else None
            entry.seconds = time.time() - entry.at
            await self.log.add(entry)

    async def _serve_admin(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._admin_transports.add(request.transport)
        try:
            response = await handler(request)
            await response.prepare(request)
            await response.write_eof()
            return response
        finally:
            self._admin_transports.discard(request.transport)
