"""Sends requests to the Kubernetes API: dicts out, dicts back, typed errors.

Every request has a timeout. Every write checks the fence first, so that a process that lost its lease stops writing
at once. This is the only module that sends requests to the API server, and with `connection` the only one that
imports `kubernetes`. It must never list or watch Secrets; they are only read by name.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient

from modelsync.api import names
from modelsync.api.foreign_text import foreign_text
from modelsync.api.kinds import CONTROLLER_REVISION, Kind, Object, resource_version_of, uid_of
from modelsync.cluster import wire
from modelsync.cluster.errors import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    KindMissingError,
    NotFoundError,
    UnavailableError,
)

READ_TIMEOUT = timedelta(seconds=15)
WRITE_TIMEOUT = timedelta(seconds=5)
"""At most lease duration minus renew deadline (`lease`), so that a write sent before the deadline also ends before the
lease does."""
PAGE_SIZE = 500
MAX_MESSAGE = 1000
"""Characters of the API server's own words in a message."""
MAX_LIST_RESTARTS = 3


NO_ANSWER = "<error>"
"""Used as the status of a request without a response, as in client-go's metrics."""

CountRequest = Callable[[str, str], None]
"""Called with the method and the status of each finished request. Must not block."""


class Cluster:
    """A client for one API server and account. `fence` is called before each write and raises when none may be sent."""

    def __init__(
        self, api: ApiClient, *, fence: Callable[[], None] | None = None, count_request: CountRequest | None = None
    ) -> None:
        self._api = api
        self._fence = fence
        self._count_request = count_request

    def fenced(self, fence: Callable[[], None]) -> "Cluster":
        """Return a client on the same connection that calls `fence` before each write."""
        return Cluster(self._api, fence=fence, count_request=self._count_request)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Read one object with a quorum read. Raises NotFoundError and other ClusterErrors."""
        return await self._request("GET", kind.path(namespace, name), what=_what("get", kind, namespace, name))

    async def find(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """Read one object; None when it does not exist. Raises KindMissingError when its kind does not exist."""
        try:
            return await self.get(kind, namespace, name)
        except KindMissingError:
            raise
        except NotFoundError:
            return None

    async def list_all(
        self, kind: Kind, namespace: str | None, *, labels: str | None = None, fields: str | None = None
    ) -> list[Object]:
        """Read all matching objects, in pages. `namespace=None` means all namespaces. Raises ClusterErrors."""
        for _ in range(MAX_LIST_RESTARTS):
            try:
                return [obj async for page in self.pages(kind, namespace, labels=labels, fields=fields) for obj in page]
            except _ContinueExpiredError:
                continue
        raise UnavailableError(f"list {kind.plural}: the continue token expired {MAX_LIST_RESTARTS} times")

    async def list_recent(self, kind: Kind, namespace: str | None, *, labels: str) -> list[Object]:
        """Read all matching objects from the API server's cache: fast, but possibly some milliseconds old."""
        query = {"labelSelector": labels, "resourceVersion": "0"}
        answer = await self._request(
            "GET", kind.path(namespace), query=query, what=_what("list", kind, namespace, None)
        )
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in answer.get("items") or ()]

    async def pages(
        self, kind: Kind, namespace: str | None, *, labels: str | None = None, fields: str | None = None
    ) -> AsyncIterator[list[Object]]:
        """Read all matching objects, one page at a time."""
        query = {"limit": str(PAGE_SIZE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        while True:
            answer = await self._request(
                "GET", kind.path(namespace), query=query, what=_what("list", kind, namespace, None)
            )
            # List items come without apiVersion and kind; callers need them.
            yield [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in answer.get("items") or ()]
            token = (answer.get("metadata") or {}).get("continue")
            if not token:
                return
            query["continue"] = token

    async def create(self, kind: Kind, namespace: str | None, body: Object) -> Object:
        """Create an object. Raises AlreadyExistsError and other ClusterErrors."""
        what = _what("create", kind, namespace, body["metadata"].get("name"))
        raw = kind == CONTROLLER_REVISION
        return await self._write(
            "POST",
            kind.path(namespace),
            _canonical(body) if raw else body,
            "application/yaml" if raw else "application/json",
            query={"fieldManager": names.FIELD_MANAGER},
            what=what,
        )

    async def apply(self, kind: Kind, namespace: str | None, body: Object, *, read: Object | None = None) -> Object:
        """Server-side apply the full intent of `body`.

        With `read`, raises ConflictError unless the object is still the one that was read, unchanged. Without it, the
        object is created if it does not exist. (A resourceVersion alone is not enough as a precondition: apply would
        recreate a deleted object. The uid prevents that.)
        """
        metadata = dict(body["metadata"])
        if read is not None:
            metadata |= {"resourceVersion": resource_version_of(read), "uid": uid_of(read)}
        name = metadata["name"]
        what = _what("apply", kind, namespace, name)
        try:
            return await self._write(
                "PATCH",
                kind.path(namespace, name),
                {**body, "metadata": metadata},
                "application/apply-patch+yaml",
                query={"fieldManager": names.FIELD_MANAGER, "force": "true"},
                what=what,
            )
        except InvalidError as error:
            # The API server reports this when another object with the same name exists now.
            if read is not None and "metadata.uid" in error.reason:
                raise ConflictError(f"{what}: it was recreated since it was read") from None
            raise

    async def replace(self, kind: Kind, namespace: str | None, body: Object) -> Object:
        """Replace an object; `metadata.resourceVersion` in `body` is the precondition. Raises ConflictError."""
        name = body["metadata"]["name"]
        return await self._write(
            "PUT",
            kind.path(namespace, name),
            body,
            "application/json",
            query={"fieldManager": names.FIELD_MANAGER},
            what=_what("replace", kind, namespace, name),
        )

    async def replace_status(self, kind: Kind, read: Object, status: Mapping[str, Any]) -> Object:
        """Replace the status of `read`. Raises ConflictError when the object has changed since it was read.

        A PUT and not a patch, so that fields missing from `status` are removed.
        """
        metadata = read["metadata"]
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion")},
            "spec": read.get("spec") or {},
            "status": dict(status),
        }
        return await self._write(
            "PUT",
            kind.path(metadata["namespace"], metadata["name"], "status"),
            body,
            "application/json",
            query={"fieldManager": names.FIELD_MANAGER},
            what=_what("write the status of", kind, metadata["namespace"], metadata["name"]),
        )

    async def merge(self, kind: Kind, namespace: str | None, name: str, patch: Object) -> Object:
        """Merge-patch an existing object; unlike apply it never creates one. Raises NotFoundError."""
        return await self._write(
            "PATCH",
            kind.path(namespace, name),
            patch,
            "application/merge-patch+json",
            query={"fieldManager": names.FIELD_MANAGER},
            what=_what("patch", kind, namespace, name),
        )

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        read: Object | None = None,
        uid: str | None = None,
        grace: timedelta | None = None,
    ) -> bool:
        """Delete an object and, in the background, its dependents. Returns False when it does not exist.

        Raises ConflictError when the object has changed since `read`, or has another uid than `uid`. `grace` is a pod's
        grace period, in whole seconds.
        """
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if read is not None:
            body["preconditions"] = {"uid": uid_of(read), "resourceVersion": resource_version_of(read)}
        elif uid is not None:
            body["preconditions"] = {"uid": uid}
        if grace is not None:
            body["gracePeriodSeconds"] = int(grace.total_seconds())
        try:
            await self._write(
                "DELETE",
                kind.path(namespace, name),
                body,
                "application/json",
                what=_what("delete", kind, namespace, name),
            )
        except NotFoundError:
            return False
        return True

    async def version(self) -> str:
        """Return the API server's version, such as `v1.36.3`; the cheapest check that the server can be reached."""
        answer = await self._request("GET", "/version", what="read the version of the API server")
        return str(answer.get("gitVersion", ""))

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def _write(
        self,
        method: str,
        path: str,
        body: Object | str,
        content_type: str,
        *,
        what: str,
        query: Mapping[str, str] | None = None,
    ) -> Object:
        if self._fence is not None:
            self._fence()
        return await self._request(
            method, path, query=query, body=body, content_type=content_type, timeout=WRITE_TIMEOUT, what=what
        )

    async def _request(
        self,
        method: str,
        path: str,
        *,
        what: str,
        query: Mapping[str, str] | None = None,
        body: Object | str | None = None,
        content_type: str = "application/json",
        timeout: timedelta = READ_TIMEOUT,
    ) -> Object:
        headers = {**self._api.default_headers, "Accept": "application/json", "Content-Type": content_type}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, None)
        url = self._api.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        problem = ""
        try:
            response = await self._api.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=timeout.total_seconds()
            )
            content = await response.read()
        except TimeoutError:
            problem = f"no answer within {timeout.total_seconds():g} s"
        except (aiohttp.ClientError, OSError) as error:
            problem = _network_problem(error)
        if self._count_request is not None:
            self._count_request(method, NO_ANSWER if problem else str(response.status))
        if problem:
            raise UnavailableError(f"{what}: the API server cannot be reached: {problem}")
        if 200 <= response.status < 300:
            return _parse(content, what)
        raise _error(what, response.status, response.headers, content)


def _canonical(body: Object) -> str:
    """`body` as YAML that the API server converts to its own form of JSON.

    It keeps the bytes of a ControllerRevision's `data` as they were sent, compares bytes to reject changes, and writes
    the data anew in its own form with every patch. If the bytes differ, no patch of the metadata is accepted: neither
    an adoption, nor the garbage collector's for `kubectl delete --cascade=orphan`, which then never ends.
    """
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    # YAML has no surrogate pairs: characters beyond 16 bits are sent as they are.
    return re.sub(r"(?<!\\)((?:\\\\)*)(\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2})", _astral, text)


def _astral(match: re.Match[str]) -> str:
    return match[1] + str(json.loads(f'"{match[2]}"'))


class _ContinueExpiredError(ClusterError):
    """410 in the middle of a list: start the list over."""


def _what(verb: str, kind: Kind, namespace: str | None, name: str | None) -> str:
    place = "/".join(part for part in (namespace, name) if part)
    return (
        f"{verb} {kind.kind} {place}".rstrip() if name else f"{verb} {kind.plural}" + (f" in {place}" if place else "")
    )


def _parse(content: bytes, what: str) -> Object:
    try:
        answer = wire.parse(content)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise UnavailableError(
            f"{what}: the response is not a Kubernetes object; is there a proxy in front of the API server?"
        )
    return answer


def _network_problem(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted ({error.certificate_error})"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the host name {error.host} cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{error.host}:{error.port}: {error.strerror or 'the connection failed'}"
    return str(error) or type(error).__name__


def _error(what: str, status: int, headers: Mapping[str, str], content: bytes) -> ClusterError:
    """Map the HTTP status and the reason in the Status object to an error (API conventions, "Response Status Kind")."""
    try:
        parsed = wire.parse(content)
    except (ValueError, RecursionError):
        parsed = None
    answer = parsed if isinstance(parsed, dict) and parsed.get("kind") == "Status" else {}
    server_message = " ".join(str(answer.get("message") or f"HTTP {status}").split())
    message = f"{what}: {foreign_text(server_message, limit=MAX_MESSAGE)}"  # may quote an admission webhook
    reason = answer.get("reason")
    if status == 409:
        return AlreadyExistsError(message) if reason == "AlreadyExists" else ConflictError(message)
    if status == 404:
        # For an unknown kind the router responds: with plain text, or with a Status that names no object.
        named = (answer.get("details") or {}).get("name")
        return NotFoundError(message) if named else KindMissingError(message)
    if status == 410:
        return _ContinueExpiredError(message)
    if status == 401:
        return ForbiddenError(f"{what}: the API server does not accept the credentials (401)")
    if status == 403:
        causes = (answer.get("details") or {}).get("causes") or ()
        if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
            return NotFoundError(message)
        return ForbiddenError(message)
    if status in (400, 413, 415, 422):
        return InvalidError(message, reason=server_message)
    retry_after = headers.get("Retry-After", "")
    wait = timedelta(seconds=int(retry_after)) if retry_after.isdigit() else None
    return UnavailableError(message, retry_after=wait)
