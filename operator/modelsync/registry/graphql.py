"""The transport to a W&B server's GraphQL endpoint.

It sends one POST per call and classifies why an answer is missing. It must never retry (its callers have deadlines and
back-offs of their own), never follow a redirect (the key would be sent along), and never put the key into an error.

The protocol as measured with wandb's client 0.31: `POST {base}/graphql` with Basic `api:<key>`; a body with `data` and
`errors` may come with HTTP 403 and 404 too, and its data is then still valid.
"""

import asyncio
import os
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from modelsync import __version__
from modelsync.api.foreign_json import ForeignJSONError, read_object
from modelsync.api.foreign_text import foreign_text
from modelsync.registry.credential import Credential
from modelsync.registry.errors import (
    DeniedError,
    GraphQLError,
    NotFoundError,
    NotGraphQLError,
    RefusedError,
    RegistryError,
    ThrottledError,
    UnreachableError,
    in_short,
)

TIMEOUT = timedelta(seconds=30)
CONNECT_TIMEOUT = timedelta(seconds=10)
MAX_ANSWER_BYTES = 32 * 2**20
"""A response is held in memory; 20 references with large metadata stay far below this."""
MAX_ERRORS = 100
"""Of a response. A batch has some twenty parts."""
MAX_ANSWER_DEPTH = 64
"""Nesting of a response; those to our queries are about 15 deep."""

DEFAULT_WAIT = timedelta(seconds=30)
"""How long to wait after a 429 that gives no time."""
MAX_WAIT = timedelta(hours=1)
"""Longer waits requested by a server or proxy are capped."""
MAX_SILENCE = timedelta(seconds=60)
"""The longest wait between two reads of holds, whatever a server or proxy asks for: nothing is seen in between, so a
single Retry-After of an hour would stop every hold for an hour. W&B counts requests per second in a fixed window and
sends its end in seconds (RateLimit-Reset), so a request a minute is within what it allows."""


@dataclass(frozen=True, slots=True)
class Response:
    """The server's response: at least some data, and the errors that came with it."""

    data: Mapping[str, Any]
    errors: tuple[GraphQLError, ...]
    status: int
    asked_at: datetime
    """When the request was sent: the response does not cover later changes."""
    answered_at: datetime
    asked: float = 0.0
    """`asked_at` in seconds of `clock`."""


class InvalidBaseURLError(ValueError):
    """The base URL cannot be used; the message says what is allowed."""


def parse_base_url(text: str, *, source: str = "the W&B base URL") -> str:
    """Return `text` as `scheme://host[:port][/prefix]` without a trailing slash. Raises InvalidBaseURLError."""
    allowed = "allowed is https://host[:port][/prefix], such as https://api.wandb.ai or https://wandb.example.com"
    url = text.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidBaseURLError(f"{source} is not a URL; {allowed}") from None
    if parts.username is not None or parts.password is not None:
        raise InvalidBaseURLError(
            f"{source} must not contain a user or password; {allowed}; pass the key in WANDB_API_KEY or the Secret"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise InvalidBaseURLError(f"{source} is {url!r}; {allowed}")
    if parts.query or parts.fragment or re.search(r"\s", url):
        raise InvalidBaseURLError(f"{source} is {url!r}; it must not have a query, fragment or space; {allowed}")
    return url.removesuffix("/graphql")


class InvalidCABundleError(ValueError):
    """The CA bundle cannot be read or contains no certificate."""


def tls(*, ca_file: Path | None = None, ca_pem: str | None = None, source: str = "the CA bundle") -> ssl.SSLContext:
    """Create a context that trusts the system's CAs and those given. Raises InvalidCABundleError."""
    context = ssl.create_default_context()
    problem = ""
    try:
        if ca_file is not None:
            context.load_verify_locations(cafile=str(ca_file))
        if ca_pem is not None:
            context.load_verify_locations(cadata=ca_pem)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        problem = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
    if problem:
        where = f"{source} ({ca_file})" if ca_file is not None else source
        raise InvalidCABundleError(f"{where} cannot be used: {problem}; it must contain one or more PEM certificates")
    return context


def new_session() -> aiohttp.ClientSession:
    """Create a session that several clients may share.

    It keeps no cookies: a cookie set for one credential must not be sent with another. `trust_env` is off, since
    aiohttp would then read ~/.netrc and reject our Authorization header for users who have one.
    """
    return aiohttp.ClientSession(
        # Callers limit the requests to each server; a common limit would let a dead server block the others. Servers
        # close idle connections after 5 s at the earliest: reusing one while it is being closed looks like an outage.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4),
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT.total_seconds(), connect=CONNECT_TIMEOUT.total_seconds()),
        headers={"User-Agent": user_agent()},
    )


def user_agent() -> str:
    """Our User-Agent header."""
    return f"modelsync/{__version__}"


def now_utc() -> datetime:
    """The current time, in UTC, for people."""
    return datetime.now(UTC)


def clock() -> float:
    """The event loop's clock, in seconds: monotonic, and comparable only within this process. Whatever is ordered or
    waited for is measured by it, because the wall clock can be set back."""
    return asyncio.get_running_loop().time()


Watch = Callable[[str, str, float], None]
"""Called after each request with the server's base URL, the outcome and the duration in seconds. Must not block."""

ANSWERED = "Answered"


class GraphQL:
    """A client for one W&B server with one credential.

    With `session` it uses that session and leaves it open; without, it opens its own, so use it as
    `async with GraphQL(...) as api:`. `ssl_context` comes from `tls()`; without it the system's CAs are trusted.
    """

    def __init__(
        self,
        base_url: str,
        credential: Credential,
        *,
        ssl_context: ssl.SSLContext | None = None,
        session: aiohttp.ClientSession | None = None,
        timeout: timedelta = TIMEOUT,
        watch: Watch | None = None,
    ) -> None:
        """Raises InvalidBaseURLError."""
        self._watch = watch
        self.base_url = parse_base_url(base_url)
        self._credential = credential
        self._ssl = ssl_context
        self._session = session
        self._owns_session = session is None
        self._proxy = _proxy_for(self.base_url)
        self._timeout = timeout

    async def execute(
        self, query: str, variables: Mapping[str, Any] | None = None, *, operation: str | None = None
    ) -> Response:
        """Send one query and return the response, including the errors of single fields.

        Data is returned whatever the HTTP status. Without data it raises DeniedError, NotFoundError, ThrottledError,
        UnreachableError, RefusedError or NotGraphQLError.
        """
        started_at, outcome = time.monotonic(), ANSWERED
        try:
            return await self._execute(query, variables, operation)
        except RegistryError as error:
            outcome = type(error).__name__.removesuffix("Error")
            raise
        except BaseException:
            outcome = ""  # cancelled, or a bug in modelsync: not an outcome of the server
            raise
        finally:
            if self._watch is not None and outcome:
                self._watch(self.base_url, outcome, time.monotonic() - started_at)

    async def _execute(self, query: str, variables: Mapping[str, Any] | None, operation: str | None) -> Response:
        body: dict[str, Any] = {"query": query, "variables": dict(variables or {})}
        if operation:
            body["operationName"] = operation
        asked_at, asked = now_utc(), clock()
        status, headers, content = await self._post(body)
        answered_at = now_utc()
        if error := self._failure_of_status(status, headers, answered_at):
            raise error
        answer = _json_object(content)
        if answer is None or not ("data" in answer or "errors" in answer):
            raise self._failure_without_graphql(status, headers)
        errors = self._errors(answer.get("errors"))
        data = answer.get("data")
        if isinstance(data, Mapping) and (status < 400 or any(value is not None for value in data.values())):
            return Response(data, errors, status, asked_at, answered_at, asked)
        raise self._failure_without_data(status, errors)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the session if this client opened it."""
        if self._owns_session and self._session is not None:
            await self._session.close()
            self._session = None

    def __repr__(self) -> str:
        return f"GraphQL({self.base_url!r})"

    async def _post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """POST `body`. Raises UnreachableError, outside the except block: aiohttp's errors contain the headers."""
        if self._session is None:
            self._session = new_session()
        problem, too_large = "", False
        try:
            async with self._session.post(
                f"{self.base_url}/graphql",
                json=body,
                headers={
                    "Accept": "application/json",
                    "Authorization": aiohttp.encode_basic_auth("api", self._credential.key),
                    "User-Agent": user_agent(),
                },
                proxy=self._proxy,
                allow_redirects=False,
                ssl=self._ssl if self._ssl is not None else True,
                timeout=aiohttp.ClientTimeout(
                    total=self._timeout.total_seconds(),
                    connect=min(self._timeout, CONNECT_TIMEOUT).total_seconds(),
                ),
            ) as response:
                content = bytearray()
                async for chunk in response.content.iter_chunked(2**16):
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        problem, too_large = f"the response is larger than {MAX_ANSWER_BYTES // 2**20} MiB", True
                        response.close()
                        break
                else:
                    return response.status, dict(_lower(response.headers)), bytes(content)
        except TimeoutError:
            problem = f"no answer within {self._timeout.total_seconds():g} s"
        except aiohttp.ClientConnectorDNSError:
            problem = "its host name cannot be resolved; check the base URL and the DNS"
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            problem = f"TLS failed ({_tls_reason(error)}); a private CA must be passed as a CA bundle"
        except aiohttp.ClientProxyConnectionError:
            problem = "the proxy of HTTPS_PROXY or HTTP_PROXY does not answer"
        except aiohttp.ClientHttpProxyError as error:
            problem = f"the proxy of HTTPS_PROXY or HTTP_PROXY answered {error.status}"
        except (aiohttp.ClientConnectorError, aiohttp.ClientOSError) as error:
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            problem = os.strerror(cause.errno).lower() if cause.errno else "the connection failed"
        except ValueError:  # aiohttp.InvalidURL is one; the base URL has been checked before
            problem = "the proxy of HTTPS_PROXY or HTTP_PROXY cannot be used; it must be http://host:port"
        except aiohttp.ClientError as error:
            problem = f"the connection broke off ({type(error).__name__})"
        except OSError as error:
            problem = error.strerror or type(error).__name__
        raise UnreachableError(f"{self.base_url} cannot be reached: {self._clean(problem)}", too_large=too_large)

    def _failure_of_status(self, status: int, headers: Mapping[str, str], at: datetime) -> RegistryError | None:
        """The error that the status alone implies, whatever the body contains; None if there is none."""
        if status == 429 or (status == 503 and "retry-after" in headers):
            wait = _wait_of(headers, at)
            return ThrottledError(
                f"{self.base_url} answered {status} and asks to wait until {at + wait:%H:%M:%S} UTC",
                until=at + wait,
                resume=clock() + min(wait, MAX_SILENCE).total_seconds(),
            )
        if status == 401:
            return DeniedError(
                f"{self.base_url} answered 401: it does not accept this API key; check the key, and that it belongs to "
                "this server",
                status=status,
            )
        if 300 <= status < 400:
            target = _redirect_target(headers.get("location", ""))
            where = f" to {target}" if target else ""
            return NotGraphQLError(
                self._clean(
                    f"{self.base_url} answered {status} and redirects{where}; redirects are not followed, since the "
                    "key would be sent along; set the base URL to the W&B server itself"
                )
            )
        return None

    def _failure_without_data(self, status: int, errors: Sequence[GraphQLError]) -> RegistryError:
        listed = in_short(errors)
        details = f": {listed}" if listed else ""
        if status == 403:
            message = f"{self.base_url} answered 403{details}; check what the API key's user has access to"
            return DeniedError(message, status=status, errors=tuple(errors))
        if status == 404:
            return NotFoundError(f"{self.base_url} answered 404{details}", errors=tuple(errors))
        if status >= 500:
            return UnreachableError(f"{self.base_url} answered {status}{details}", status=status)
        # An error of validation names no path; one that does may quote what somebody else has named.
        messages = tuple(error.message for error in errors if not error.path)
        return RefusedError(f"{self.base_url} refused the query ({status}){details}", status=status, messages=messages)

    def _failure_without_graphql(self, status: int, headers: Mapping[str, str]) -> RegistryError:
        kind = self._clean(headers.get("content-type", "no content type").split(";")[0])
        if status == 403:
            message = f"{self.base_url} answered 403 with {kind}; check the API key, and any proxy before the server"
            return DeniedError(message, status=status)
        if status >= 500:
            return UnreachableError(f"{self.base_url} answered {status} with {kind}", status=status)
        return NotGraphQLError(
            f"{self.base_url} answered {status} with {kind}, which is not a GraphQL response; check that the base URL "
            "is a W&B server, without a login page or proxy in front of it"
        )

    def _errors(self, listed: Any) -> tuple[GraphQLError, ...]:
        """What is no list of objects is an error too: the server has left something out."""
        entries = listed if isinstance(listed, list) else [listed] if listed else []
        errors = tuple(self._error(each if isinstance(each, Mapping) else {}) for each in entries[:MAX_ERRORS])
        more = len(entries) - len(errors)
        return (*errors, GraphQLError(f"{more} more errors")) if more else errors

    def _error(self, entry: Mapping[str, Any]) -> GraphQLError:
        message, path = entry.get("message"), entry.get("path")
        extensions = entry.get("extensions")
        code = extensions.get("code") if isinstance(extensions, Mapping) else None
        return GraphQLError(
            message=self._clean(message if isinstance(message, str) and message else "error without a message"),
            path=tuple(step for step in path if isinstance(step, (str, int))) if isinstance(path, list) else (),
            code=self._clean(code) if isinstance(code, str) else "",
        )

    def _clean(self, text: str) -> str:
        """Turn text from a server into one printable line without the key: it goes into conditions and terminals."""
        return foreign_text(self._credential.scrub(text))


def _proxy_for(url: str) -> str | None:
    """The proxy for `url` from HTTPS_PROXY, HTTP_PROXY and NO_PROXY, or None."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def _lower(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in headers.items()]


def _json_object(content: bytes) -> Mapping[str, Any] | None:
    try:
        return read_object(content, max_bytes=MAX_ANSWER_BYTES, max_depth=MAX_ANSWER_DEPTH)
    except ForeignJSONError:
        return None


def _redirect_target(location: str) -> str:
    """Where a redirect leads, without query and user; empty if the header is missing or not a URL."""
    try:
        target = urlsplit(location)
        host = target.hostname
    except ValueError:
        return ""
    return f"{target.scheme}://{host}{target.path}" if host else ""


def _tls_reason(error: Exception) -> str:
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    reason = getattr(cause, "verify_message", None) or getattr(cause, "reason", None) or "handshake failed"
    return str(reason)


def _wait_of(headers: Mapping[str, str], at: datetime) -> timedelta:
    """The wait from Retry-After (seconds or a date) and RateLimit-Reset (seconds): the longer of the two.

    wandb's own client honours only Retry-After and retries too early.
    """
    waits = []
    retry_after = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", retry_after):
        waits.append(timedelta(seconds=int(retry_after)))
    elif retry_after:
        try:
            date = parsedate_to_datetime(retry_after)
            waits.append((date if date.tzinfo else date.replace(tzinfo=UTC)) - at)
        except (ValueError, OverflowError):
            pass
    reset = headers.get("ratelimit-reset", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", reset):
        waits.append(timedelta(seconds=float(reset)))
    return min(max(max(waits), timedelta(0)), MAX_WAIT) if waits else DEFAULT_WAIT
