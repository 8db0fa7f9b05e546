"""Uses kopf only for watches: it keeps them open and passes on their events. The only module that imports kopf.

There are only `on.event` handlers, which cannot fail and decide nothing; there must be no state in annotations, no
timers, daemons, finalizers or peering. kopf runs in a thread with its own event loop: in the main thread it would take
over the signals, and when it stops it cancels every task of its loop, which the operator's tasks must survive.
"""

import asyncio
import itertools
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import aiohttp
import kopf

from modelsync.api import names
from modelsync.api.kinds import HTTP_ROUTE, MODEL_DEPLOYMENT, Kind, Object
from modelsync.cluster import wire
from modelsync.cluster.cache import CHILD_KINDS
from modelsync.cluster.connection import Connection

Sink = Callable[[Kind, Object, bool], None]
"""Called with an object's kind, the object and whether it was deleted, in the event loop that started the shell."""

PAGE_SIZE = 500
STOP_WAIT_SECONDS = 2.0
SWITCH_SECONDS = 0.0005


class Shell:
    """Watches ModelDeployments, their children and all HTTPRoutes; empty `namespaces` means the whole cluster."""

    def __init__(self, connection: Connection, sink: Sink, *, namespaces: Sequence[str] = ()) -> None:
        self._connection = connection
        self._sink = sink
        self._namespaces = tuple(namespaces)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.ended: Future[None] = Future()
        """Done when the watches have ended; holds an exception unless `stop` ended them."""

    def start(self) -> None:
        """Open the watches; events are delivered to the running event loop."""
        # Otherwise each request of the main thread waits while kopf's thread holds the interpreter, 5 ms by default.
        sys.setswitchinterval(SWITCH_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="watches", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Close the watches; stop waiting after `STOP_WAIT_SECONDS`, since nothing depends on a clean end."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(
                ThreadPoolExecutor(1), self._thread.join, STOP_WAIT_SECONDS
            )

    def _run(self) -> None:
        try:
            asyncio.run(self._watch())
        except BaseException as error:
            self.ended.set_exception(error)
        else:
            if self._stop.is_set():
                self.ended.set_result(None)
            else:
                self.ended.set_exception(RuntimeError("the watches of the API server ended"))

    async def _watch(self) -> None:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for kind in (MODEL_DEPLOYMENT, HTTP_ROUTE, *CHILD_KINDS):
            self._register(registry, kind)
        await kopf.operator(
            registry=registry,
            settings=_settings(),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=self._stop,
        )

    def _register(self, registry: kopf.OperatorRegistry, kind: Kind) -> None:
        async def on_event(event: Any, **_: Any) -> None:
            self._deliver(kind, dict(event["object"]), event["type"] == "DELETED")

        kopf.on.event(kind.group, kind.version, kind.plural, id=f"watch-{kind.plural}", registry=registry)(on_event)

    def _deliver(self, kind: Kind, obj: Object, deleted: bool) -> None:
        assert self._loop is not None  # noqa: S101 - set before the thread starts
        try:
            self._loop.call_soon_threadsafe(self._sink, kind, obj, deleted)
        except RuntimeError:  # the main loop has ended
            self._stop.set()

    async def _login(self, **_kwargs: Any) -> kopf.AiohttpSession:
        found = await self._connection.credentials()
        info = kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            certificate_path=found.certificate_path,
            private_key_path=found.private_key_path,
            insecure=found.insecure,
        )
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
            headers={"Authorization": found.authorization} if found.authorization else None,
            proxy=found.proxy,
            response_class=_BoundedResponse,
        )
        return kopf.AiohttpSession(server=found.server, aiohttp_session=session)


class _BoundedResponse(aiohttp.ClientResponse):
    """An answer that Python can read, however deep the objects in it are nested (`cluster.wire`): kopf ends all watches
    when it can't read one object."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        await super().start(connection)
        if "watch" in self.url.query:
            self.content = cast(aiohttp.StreamReader, _BoundedLines(self.content))
        return self

    async def json(self, **_: Any) -> Any:
        """Read a whole answer."""
        return wire.parse(await self.read())


class _BoundedLines:
    """The lines of a watch, as kopf reads them: an object each."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Whole lines, as they come."""
        unfinished = bytearray()
        async for chunk in self._content.iter_chunked(size):
            whole, newline, rest = chunk.rpartition(b"\n")
            if not newline:
                unfinished += rest
                continue
            lines = (bytes(unfinished) + whole).split(b"\n")
            unfinished = bytearray(rest)
            yield b"".join(wire.bounded_line(line) + b"\n" for line in lines)


class _EndlessBackoffs:
    """Delays between endless retries: a long outage of the API server must not end the process.

    kopf iterates it again for each request (reference: kopf `settings.networking.error_backoffs`).
    """

    def __iter__(self) -> Iterator[float]:
        yield from (1, 1, 2, 3, 5, 8, 13, 21)
        yield from itertools.repeat(30)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.error_backoffs = _EndlessBackoffs()
    settings.networking.enforce_retry_after = True
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = PAGE_SIZE
    settings.watching.reconnect_backoff = 0.1
    for kind in CHILD_KINDS:
        # Filtered by the API server: only our own children are streamed.
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = names.NAME_LABEL
    return settings


def quiet_kopf() -> None:
    """Limit kopf's own log to what needs attention; otherwise it writes a line for each event."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    # It warns that it cannot handle signals; that is the purpose of the thread.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_not_a_retry)


def _is_not_a_retry(record: logging.LogRecord) -> bool:
    """Drop kopf's errors about retried requests: the code that needs the API server logs its outage."""
    return not (record.name.startswith("kopf") and record.getMessage().startswith("Request attempt"))
