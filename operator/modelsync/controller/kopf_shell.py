"""kopf as a shell: it keeps the watches open and hands over what they say. The only module that imports kopf.

Only `on.event` handlers, which cannot fail and decide nothing; no state in annotations, no timers, no daemons, no
finalizers, no peering. kopf runs in a thread with a loop of its own: it takes over signals of the main thread and
cancels every task of its loop when it stops, and ours must outlive it.
"""

import asyncio
import itertools
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import kopf

from modelsync.api import names
from modelsync.api.kinds import HTTP_ROUTE, MODEL_DEPLOYMENT, Kind, Object
from modelsync.cluster.cache import CHILD_KINDS
from modelsync.cluster.connection import Connection

Sink = Callable[[Kind, Object, bool], None]
"""Takes an object and whether it was deleted; called in the loop that started the shell."""

PAGE_SIZE = 500
STOP_WAIT_SECONDS = 2.0
SWITCH_SECONDS = 0.0005


class Shell:
    """Watches ModelDeployments, their children and all HTTPRoutes; `namespaces` empty means the whole cluster."""

    def __init__(self, connection: Connection, sink: Sink, *, namespaces: Sequence[str] = ()) -> None:
        self._connection = connection
        self._sink = sink
        self._namespaces = tuple(namespaces)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.ended: Future[None] = Future()
        """Done when the watches have ended; with an exception unless `stop` ended them."""

    def start(self) -> None:
        """Open the watches; events come to the running loop from now on."""
        # Each request of the main thread would wait for kopf's turn of the interpreter otherwise, 5 ms by default.
        sys.setswitchinterval(SWITCH_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="watches", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Close the watches; give up on them after a short while, since nothing depends on how they end."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, STOP_WAIT_SECONDS)

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
        async def seen(event: Any, **_: Any) -> None:
            self._hand_over(kind, dict(event["object"]), event["type"] == "DELETED")

        kopf.on.event(kind.group, kind.version, kind.plural, id=f"watch-{kind.plural}", registry=registry)(seen)

    def _hand_over(self, kind: Kind, obj: Object, deleted: bool) -> None:
        assert self._loop is not None  # noqa: S101 - set before the thread starts
        try:
            self._loop.call_soon_threadsafe(self._sink, kind, obj, deleted)
        except RuntimeError:  # the main loop has ended; nobody listens any more
            self._stop.set()

    async def _login(self, **_kwargs: Any) -> kopf.ConnectionInfo:
        found = await self._connection.credentials()
        scheme, _, token = (found.authorization or "").partition(" ")
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            certificate_path=found.certificate_path,
            private_key_path=found.private_key_path,
            insecure=found.insecure,
            proxy_url=found.proxy,
            scheme=scheme or None,
            token=token or None,
        )


class _Forever:
    """Waits between attempts that never end: an API server that is away for long must not end the process.

    kopf iterates it anew for each request (reference: kopf `settings.networking.error_backoffs`).
    """

    def __iter__(self) -> Iterator[float]:
        yield from (1, 1, 2, 3, 5, 8, 13, 21)
        yield from itertools.repeat(30)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.error_backoffs = _Forever()
    settings.networking.enforce_retry_after = True
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = PAGE_SIZE
    settings.watching.reconnect_backoff = 0.1
    for kind in CHILD_KINDS:
        # Filtered by the server: only our own children are streamed.
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = names.NAME_LABEL
    return settings


def quiet_kopf() -> None:
    """Keep kopf's own log to what needs a person: it writes a line for each event otherwise."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    # That it takes no signals is what the thread is for.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_no_retry)


def _is_no_retry(record: logging.LogRecord) -> bool:
    """kopf calls each retry of a request an error. That the API server is away is told by whoever needed it."""
    return not (record.name.startswith("kopf") and record.getMessage().startswith("Request attempt"))
