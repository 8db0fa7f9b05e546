"""A minimal object store: files over HTTP with Range, and the failures of real stores."""

import asyncio
import hashlib
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from modelsync.puller.digests import Algorithm
from modelsync.puller.manifest import Entry


@dataclass
class FileStore:
    """Content by name, faults to inject, and the received requests."""

    content: dict[str, bytes] = field(default_factory=dict)
    serves_ranges: bool = True
    cut_after: list[int] = field(default_factory=list)
    """For each of the next responses: after how many bytes the connection is closed."""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Statuses and headers returned to the next requests instead of content."""
    expired: set[str] = field(default_factory=set)
    """URLs (path and query) that are rejected with 403."""
    content_type: str = "application/octet-stream"
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Path and Range header of each request."""
    headers: list[dict[str, str]] = field(default_factory=list)
    base: str = ""
    gate: threading.Event = field(default_factory=threading.Event)
    """While the store is `stalled`, responses stop in the middle of their body until it is set."""
    stalled: bool = False
    seconds_each_kilobyte: float = 0.0
    """How slow each connection is."""
    at_once: int = 0
    most_at_once: int = 0
    """Maximum number of concurrent responses."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    async def until_requested(self, times: int = 1) -> None:
        """Wait until the store has received as many requests. Raises TimeoutError."""
        async with asyncio.timeout(60):
            while len(self.requests) < times:  # noqa: ASYNC110 the requests come from threads
                await asyncio.sleep(0.01)

    def url(self, name: str, version: int = 0) -> str:
        """A signed URL of the file; different for each `version`."""
        return f"{self.base}/{name}?signature={version}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: FileStore

    def do_GET(self) -> None:
        store = self.store
        asked = self.headers.get("Range", "")
        store.requests.append((self.path, asked))
        store.headers.append(dict(self.headers))
        if store.answers:
            status, headers = store.answers.pop(0)
            return self._say(status, headers, b"")
        if self.path in store.expired:
            return self._say(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
        content = store.content.get(self.path.split("?")[0].lstrip("/"))
        if content is None:
            return self._say(404, {}, b"")
        headers = {"Content-Type": store.content_type}
        if not asked or not store.serves_ranges:
            return self._say(200, headers, content)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        if int(first) >= len(content):
            return self._say(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
        part = content[int(first) : int(last or len(content)) + 1]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        return self._say(206, headers, part)

    def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if status in (200, 206) and self.store.cut_after:
            self.wfile.write(body[: self.store.cut_after.pop(0)])
            self.close_connection = True
            return
        if self.store.stalled:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.store.gate.wait(30)
            self.close_connection = True
            return
        with self.store.lock:
            self.store.at_once += 1
            self.store.most_at_once = max(self.store.most_at_once, self.store.at_once)
        with suppress(OSError):  # clients disconnect when they have read enough
            if self.store.seconds_each_kilobyte:
                for start in range(0, len(body), 1000):
                    time.sleep(self.store.seconds_each_kilobyte)
                    self.wfile.write(body[start : start + 1000])
            else:
                self.wfile.write(body)
        with self.store.lock:
            self.store.at_once -= 1

    def log_message(self, format: str, *args: object) -> None:
        """Do not log: the tests use `requests`."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors: clients disconnect in these tests."""


CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""Certificate and key for 127.0.0.1; self-signed and valid for a hundred years."""


@contextmanager
def serving(*, encrypted: bool = False) -> Iterator[FileStore]:
    made = FileStore()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": made}))
    if encrypted:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    made.base = f"http{'s' if encrypted else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()


def entry_of(path: str, content: bytes) -> Entry:
    """The manifest entry of a file with this content."""
    return Entry(
        path, b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode(), Algorithm.MD5, len(content)
    )
