"""The HTTP server: W&B's endpoints, the faults and the request log.

It sends no requests except webhooks, and its memory must not grow with the size of files.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web

from wandb_standin.admin import DEFAULT_ADMIN_KEY
from wandb_standin.admin_api import AdminApi
from wandb_standin.automations import Automations
from wandb_standin.blobs import Blobs
from wandb_standin.endpoints import Endpoints
from wandb_standin.errors import RefusedError
from wandb_standin.faults import Faults
from wandb_standin.features import DEFAULT_FEATURES
from wandb_standin.model import Role
from wandb_standin.presign import DEFAULT_EXPIRY_SECONDS, Signer
from wandb_standin.rate_limit import RateLimiter
from wandb_standin.request_log import ENTRY, Entry, RequestLog
from wandb_standin.store import Store

MAX_REQUEST_BYTES: Final = 64 << 20
DEFAULT_API_KEY: Final = "5eed0000000000000000000000000000000000a1"
DEFAULT_USER: Final = "alice"
DEFAULT_ORGANIZATION: Final = ("Acme", "acme")
DEFAULT_TEAM: Final = "acme-ml"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Settings:
    """The settings of a server.

    Attributes:
        blobs: folder for the content of files.
        host: address to listen on.
        port: 0 takes a free one.
        api_key: the key of the first user, who may do everything in every project (a role of MEMBER).
        admin_key: bearer token of the admin API.
        url_expiry_seconds: lifetime of presigned URLs.
        features: server features that differ from the default (all that the SDK 0.31 queries are on).
        automations: webhooks and their signatures.
    """

    blobs: Path
    host: str = "127.0.0.1"
    port: int = 0
    api_key: str = DEFAULT_API_KEY
    admin_key: str = DEFAULT_ADMIN_KEY
    url_expiry_seconds: float = DEFAULT_EXPIRY_SECONDS
    features: dict[str, bool] = field(default_factory=dict)
    automations: Automations = field(default_factory=Automations)


class Server:
    """One W&B server. `start` returns once it listens; `port` is then the actual port."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.port = settings.port
        self.automations = settings.automations
        self.store = Store(Blobs(settings.blobs), self.automations.on_event)
        self.faults = Faults()
        self.log = RequestLog()
        self.rate_limiter = RateLimiter()
        self.signer = Signer(settings.url_expiry_seconds)
        self.features = dict.fromkeys(DEFAULT_FEATURES, True) | settings.features
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._admin_transports: set[asyncio.Transport | None] = set()
        self._seed()

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
        app.add_routes(AdminApi(self).routes())
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

    def _seed(self) -> None:
        organization = self.store.add_organization(*DEFAULT_ORGANIZATION)
        self.store.add_team(DEFAULT_TEAM, organization)
        self.store.add_user(DEFAULT_USER, self.settings.api_key, entity=DEFAULT_TEAM, roles={"*": Role.MEMBER})

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
