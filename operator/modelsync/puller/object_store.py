"""Reads from W&B's object store by signed URLs.

Each request is one attempt; failures are classified so that the caller knows whether to retry, and with the same URL or
a fresh one. Must never send a credential: the URL is the permission. Must never put a URL into a message.
"""

import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError, ReadTimeoutError

from modelsync.api.foreign_text import foreign_text

CHUNK_BYTES = 2**18
"""Written and hashed while still in a core's cache; larger and smaller chunks were slower."""
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
"""A connection without a byte for this long counts as dead."""

_EXPIRED = (400, 401, 403)
"""The statuses for an expired signature: S3 403 or 400 ExpiredToken, GCS 400, Azure 403."""
_GONE = (404, 410)
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_LENGTH = re.compile(r"[0-9]{1,18}")


class AttemptError(Exception):
    """One attempt failed; `str()` is the reason, without a URL."""


class TransientError(AttemptError):
    """The network or the store failed; the same request may succeed later."""

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        """`retry_after`: seconds that the store asks to wait."""
        super().__init__(message)
        self.retry_after = retry_after


class URLRefusedError(AttemptError):
    """The store rejects the URL; a fresh one may work."""


class ObjectMissingError(AttemptError):
    """The store has no object at the URL."""


class RangeIgnoredError(AttemptError):
    """The store ignored the requested range."""


class WrongLengthError(AttemptError):
    """The object does not have the size that the manifest contains."""


class Body:
    """The body of one response, read in order. Closing it before its end drops the connection."""

    def __init__(self, response: urllib3.BaseHTTPResponse, length: int) -> None:
        self._response = response
        self._left = length
        self._reusable = response.headers.get("Content-Length") == str(length)
        """The connection can be reused once the body is read."""

    def read(self, most: int) -> bytes:
        """Return the next bytes, at least one and at most `most`; empty at the end. Raises TransientError."""
        if self._left == 0:
            return b""
        with _attempt("reading"):
            data = self._response.read(min(most, self._left, CHUNK_BYTES))
        if not data:
            raise TransientError(f"the connection closed {self._left} bytes early")
        self._left -= len(data)
        return data

    def abort(self) -> None:
        """Unblock, from another thread, a thread that waits in `read`."""
        connection: Any = self._response.connection
        sock = getattr(connection, "sock", None)
        if isinstance(sock, socket.socket):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._left == 0 and self._reusable and kind is None:
            self._response.release_conn()
        else:
            self._response.close()


class ObjectStore:
    """Pooled connections to object stores. Thread-safe. Proxies come from the environment, as for W&B itself."""

    def __init__(self, *, ssl_context: ssl.SSLContext | None, connections: int, user_agent: str) -> None:
        self._options: dict[str, Any] = {
            "maxsize": connections,
            "num_pools": 16,
            "ssl_context": ssl_context,
            "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            # One attempt per call, but redirects are followed: no credential could be sent along.
            "retries": urllib3.Retry(
                total=None, connect=0, read=0, status=0, other=0, redirect=5, raise_on_status=False
            ),
            "headers": {"User-Agent": user_agent, "Accept-Encoding": "identity"},
        }
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._proxies: dict[tuple[str, str], str] = {}
        """By scheme and host: reading the environment costs as much time as a small file."""
        self._lock = threading.Lock()

    def read_all(self, url: str, *, most: int) -> bytes:
        """Fetch a whole small object. Raises AttemptError; WrongLengthError when it is larger than `most` bytes."""
        response = self._get(url, {})
        try:
            if response.status != 200:
                raise _refused(response)
            with _attempt("reading"):
                content = response.read(most + 1)
                while len(content) <= most and (more := response.read(most + 1 - len(content))):
                    content += more
        finally:
            response.close()
        if len(content) > most:
            raise WrongLengthError(f"it is larger than {most // 2**20} MiB")
        promised = response.headers.get("Content-Length", "")
        if _LENGTH.fullmatch(promised) and int(promised) != len(content):
            raise TransientError(f"the connection closed {int(promised) - len(content)} bytes early")
        return content

    def size(self, url: str) -> int:
        """Return the object's size in bytes. Raises AttemptError."""
        response = self._get(url, {"Range": "bytes=0-0"})
        try:
            found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if response.status == 206 and found and found[3] != "*":
                return int(found[3])
            length = response.headers.get("Content-Length", "")
            if response.status == 200 and _LENGTH.fullmatch(length):
                return int(length)
            if response.status == 416:
                return 0
            if response.status in (200, 206):
                raise WrongLengthError("the store does not return its size")
            raise _refused(response)
        finally:
            response.close()

    def open(self, url: str, *, start: int, end: int, size: int) -> Body:
        """Request bytes `start` to `end` of an object that must have `size` bytes. Raises AttemptError."""
        whole = start == 0 and end == size
        response = self._get(url, {} if whole else {"Range": f"bytes={start}-{end - 1}"})
        try:
            if response.status == 416:
                raise WrongLengthError(f"it has fewer than {start + 1} bytes, expected {size}")
            if response.status not in (200, 206):
                raise _refused(response)
            length = response.headers.get("Content-Length", "")
            if response.status == 200:
                if _LENGTH.fullmatch(length) and int(length) != size:
                    if response.headers.get("Content-Type", "").startswith("text/html"):
                        raise TransientError("the response is an HTML page, perhaps a proxy's login page")
                    raise WrongLengthError(f"it has {length} bytes, expected {size}")
                if not whole:
                    raise RangeIgnoredError("the store does not support range requests")
            else:
                found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
                if not found or int(found[1]) != start:
                    raise RangeIgnoredError("the store returned a different range than requested")
                if found[3] not in ("*", str(size)):
                    raise WrongLengthError(f"it has {found[3]} bytes, expected {size}")
                if int(found[2]) + 1 < end:
                    end = int(found[2]) + 1
        except BaseException:
            response.close()
            raise
        return Body(response, end - start)

    def close(self) -> None:
        """Close every idle connection."""
        for pool in self._pools.values():
            pool.clear()

    def _get(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        scheme, host = _place(url)
        if scheme not in ("http", "https") or not host:
            raise ObjectMissingError("the registry returned no http(s) URL for it")
        with _attempt(f"request to {foreign_text(host)}"):
            return self._pool(scheme, host).request(
                "GET",
                url,
                headers={**self._options["headers"], **headers},
                preload_content=False,
                decode_content=False,
            )

    def _pool(self, scheme: str, host: str) -> urllib3.PoolManager:
        with self._lock:
            if (proxy := self._proxies.get((scheme, host))) is None:
                proxy = "" if proxy_bypass(host) else getproxies().get(scheme, "")
                self._proxies[scheme, host] = proxy
            if proxy not in self._pools:
                self._pools[proxy] = (
                    urllib3.ProxyManager(proxy, **self._options) if proxy else urllib3.PoolManager(**self._options)
                )
            return self._pools[proxy]


def _place(url: str) -> tuple[str, str]:
    """The scheme and host of a URL; empty if it has none."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or ""
    except ValueError:
        return "", ""


@contextmanager
def _attempt(doing: str) -> Iterator[None]:
    """Turn errors of urllib3 and the socket into TransientError; their own messages contain URLs."""
    try:
        yield
    except (HTTPError, OSError, http.client.HTTPException, ValueError) as error:
        reason = _reason(error)
    else:
        return
    raise TransientError(f"{doing}: {reason}")


def _reason(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({getattr(cause, 'verify_message', '') or cause.reason or 'handshake'})"
        if isinstance(cause, NameResolutionError):
            return "the host name cannot be resolved"
        # NewConnectionError, raised for any failure to connect, is a subclass of ConnectTimeoutError.
        timed_out = isinstance(cause, (ConnectTimeoutError, ReadTimeoutError, TimeoutError))
        if timed_out and not isinstance(cause, NewConnectionError):
            return "no answer in time"
        if isinstance(cause, OSError) and not isinstance(cause, HTTPError) and cause.strerror:
            return cause.strerror
    return "the connection failed" if isinstance(error, NewConnectionError) else "the connection broke off"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return
        yield seen
        reason = getattr(seen, "reason", None)
        inner = reason if isinstance(reason, BaseException) else seen.__cause__ or seen.__context__
        if inner is None and seen.args and isinstance(seen.args[-1], BaseException):
            inner = seen.args[-1]
        seen = inner


def _refused(response: urllib3.BaseHTTPResponse) -> AttemptError:
    status = response.status
    if status in _EXPIRED:
        return URLRefusedError(f"the object store answered {status}")
    if status in _GONE:
        return ObjectMissingError(f"the object store answered {status}")
    return TransientError(f"the object store answered {status}", retry_after=_retry_after(response.headers))


def _retry_after(headers: Mapping[str, str]) -> float:
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,6}", text):
        return float(text)
    try:
        date = parsedate_to_datetime(text) if text else None
        if date is None:
            return 0.0
        return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return 0.0
