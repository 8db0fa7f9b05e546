"""The server in its own thread, for tests in the same process."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wandb_standin.admin import Admin
from wandb_standin.server import Server
from wandb_standin.state import Settings


class StandIn:
    """A running server: `with StandIn() as s` or `async with StandIn() as s`, then `s.url`, `s.api_key`, `s.admin`.

    It has its own event loop in its own thread, so that blocking clients (the wandb SDK, `Admin`) can call it from
    anywhere, even from an event loop.

    Args:
        settings: fields of `server.Settings`; `blobs` is a temporary folder if not given.
    """

    def __init__(self, **settings: Any) -> None:
        self._temporary = None if "blobs" in settings else tempfile.TemporaryDirectory(prefix="wandb-standin-")
        blobs = Path(self._temporary.name) if self._temporary else settings.pop("blobs")
        self.settings = Settings(blobs=Path(blobs), **settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wandb-standin", daemon=True)
        self.server: Server

    @property
    def url(self) -> str:
        """Base URL, for `WANDB_BASE_URL`."""
        return self.server.url

    @property
    def api_key(self) -> str:
        """Key of the first user."""
        return self.settings.api_key

    @property
    def admin(self) -> Admin:
        """Client of its admin API."""
        return Admin(self.url, self.settings.admin_key)

    def start(self) -> Self:
        """Start to listen.

        Raises:
            OSError: the address is in use or not local.
        """
        self._thread.start()
        try:
            self.server = asyncio.run_coroutine_threadsafe(_started(self.settings), self._loop).result()
        except BaseException:
            self._end()
            raise
        return self

    def stop(self) -> None:
        """Stop the server and discard its state."""
        asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result()
        self._end()

    def restart(self) -> None:
        """Start a new server on the same address; only the content of files survives."""
        port = self.server.port
        asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result()
        settings = replace(self.settings, port=port, automations=type(self.settings.automations)())
        self.server = asyncio.run_coroutine_threadsafe(_started(settings), self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)


async def _started(settings: Settings) -> Server:
    server = Server(settings)
    await server.start()
    return server
