"""A proxy of the API server that delays endpoint updates, to simulate a data plane that lags behind.

Everything passes at once, except the events of EndpointSlice watches, which arrive `delay` later, in order. It listens
on the loopback of the cluster's network; every client acts as the holder of the kubeconfig, since client-go sends no
token without TLS.
"""

import asyncio
import json
import ssl
import tempfile
import time
from base64 import b64decode
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

_HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "accept-encoding"}


class SlowApiServer:
    """`async with SlowApiServer(kubeconfig, delay) as slow:` serves during the block; clients use `slow.kubeconfig`."""

    def __init__(self, kubeconfig: Path, delay: timedelta) -> None:
        self._config: dict[str, Any] = json.loads(kubeconfig.read_text())
        self._delay = delay.total_seconds()
        self._stack = AsyncExitStack()
        cluster = self._config["clusters"][0]["cluster"]
        self._upstream = str(cluster["server"])
        self._trust = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
        self._token = str(self._config["users"][0]["user"]["token"])
        self.told_late = 0
        self.kubeconfig = Path()

    async def __aenter__(self) -> Self:
        """Start to serve."""
        connector = aiohttp.TCPConnector(ssl=self._trust, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        client = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        self._client = await self._stack.enter_async_context(client)
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self._config["clusters"][0]["cluster"] = {"server": f"http://{host}:{port}"}
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        self.kubeconfig = Path(folder) / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(self._config))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving; every watch ends."""
        await self._stack.aclose()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers["Authorization"] = f"Bearer {self._token}"
        body = await request.read()
        url = f"{self._upstream}{request.raw_path}"
        late = "/endpointslices" in request.path and "watch" in request.query
        async with self._client.request(request.method, url, headers=headers, data=body or None) as answer:
            theirs = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=theirs)
            await response.prepare(request)
            if late:
                await self._later(answer, response)
            else:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            await response.write_eof()
            return response

    async def _later(self, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        """Forward each chunk after the delay, while reading the next ones."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def read() -> None:
            async for chunk in answer.content.iter_any():
                chunks.put_nowait((time.monotonic() + self._delay, chunk))
            chunks.put_nowait((0.0, b""))

        reading = asyncio.create_task(read())
        try:
            while True:
                due, chunk = await chunks.get()
                if not chunk:
                    return
                await asyncio.sleep(due - time.monotonic())
                self.told_late += 1
                await response.write(chunk)
        finally:
            reading.cancel()
