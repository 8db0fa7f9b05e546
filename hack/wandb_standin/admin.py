"""Client of the stand-in's admin API, for tests, the demo and `python -m wandb_standin ctl`.

Blocking. In a coroutine, call slow methods (`wait_for_requests`, big uploads) through `asyncio.to_thread`; the others
return at once, since the server never runs in the caller's event loop.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

import xxhash

DEFAULT_ADMIN_KEY: Final = "standin-admin"
CHUNK_BYTES: Final = 1 << 20
Files: TypeAlias = Mapping[str, bytes] | Path


class AdminError(Exception):
    """The server refused; the message contains what is wrong and what is allowed."""


@dataclass(frozen=True)
class Version:
    """One version in one collection, as it was when it was queried.

    Attributes:
        path: `entity/project/collection:vN`, accepted by every method that takes a version.
        version: `vN` in this collection.
        source: path of the version in the collection where it was logged.
        size: bytes.
        aliases: those of this collection, with `vN` among them.
        tags: of the version itself, the same through every link.
    """

    path: str
    version: str
    source: str
    artifact_id: str
    digest: str
    size: int
    file_count: int
    state: str
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    metadata: dict[str, Any]

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class LoggedRequest:
    """A request by a client; logged before the first byte of its answer.

    Attributes:
        at: time of arrival, in seconds since the epoch.
        operation: name of the GraphQL operation, or `download`, `upload`, `file_stream`, `telemetry`, `health`.
        status: None if the connection was reset.
        seconds: until the first byte of the answer.
        refs: the requested versions, or the file.
        faults: ids of the faults that affected it.
    """

    seq: int
    at: float
    method: str
    path: str
    client: str
    operation: str
    user: str | None
    status: int | None
    seconds: float
    refs: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Delivery:
    """A webhook request and the receiver's status (None: no answer yet, or it failed with `error`)."""

    automation: str
    event: str
    url: str
    body: str
    at: float
    status: int | None
    error: str | None


@dataclass(frozen=True)
class _File:
    md5: str
    size: int
    digest: str | None
    content: bytes | None = field(default=None, repr=False)
    path: Path | None = None

    def open(self) -> bytes | BinaryIO:
        return self.path.open("rb") if self.path else self.content or b""

    def facts(self) -> dict[str, Any]:
        return {"md5": self.md5, "size": self.size} | ({"digest": self.digest} if self.digest else {})


class Admin:
    """One server's admin API.

    Args:
        url: the server's base URL.
        key: its admin key.
        timeout: seconds for one answer.
    """

    def __init__(self, url: str, key: str = DEFAULT_ADMIN_KEY, timeout: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self._key = key
        self._timeout = timeout

    def log_artifact(
        self,
        entity: str,
        project: str,
        name: str,
        files: Files,
        *,
        type: str = "model",
        aliases: Iterable[str] = (),
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        description: str | None = None,
        algorithm: Literal["MD5", "XXH128"] = "MD5",
        references: Mapping[str, str] | None = None,
    ) -> Version:
        """Log a version, as `run.log_artifact` would; entity and project are created if necessary.

        Content that is identical to an earlier version's returns that version, as in W&B.

        Args:
            files: content by name (`/` for folders), or a folder with the files.
            algorithm: digest algorithm of the manifest.
            references: URIs by name, for a reference artifact.
        """
        read = dict(_read(files, algorithm))
        facts = {n: f.facts() for n, f in read.items()}
        for missing in self._call("missing-content", files=facts):
            content = read[missing]
            self._send("PUT", f"/standin/content/{content.md5}", content.open(), content.size)
        return self._version(
            "log-artifact",
            entity=entity,
            project=project,
            name=name,
            files=facts,
            type=type,
            algorithm=algorithm,
            references=dict(references or {}),
            aliases=list(aliases),
            tags=list(tags),
            metadata=None if metadata is None else dict(metadata),
            description=description,
        )

    def link(self, source: str | Version, target: str, *, aliases: Iterable[str] = ()) -> Version:
        """Link a version to `entity/project/collection`; a registry is a project named `wandb-registry-…`."""
        return self._version("link", source=str(source), target=target, aliases=list(aliases))

    def unlink(self, path: str | Version) -> None:
        """Remove a linked version, and its aliases there, from its portfolio."""
        self._call("unlink", path=str(path))

    def delete_version(self, path: str | Version, *, keep_membership: bool = False) -> None:
        """Delete a version. Its memberships are removed, too, or kept and show it as DELETED."""
        self._call("delete-version", path=str(path), keep_membership=keep_membership)

    def delete_collection(self, path: str) -> None:
        """Delete `entity/project/collection`."""
        self._call("delete-collection", path=path)

    def set_alias(self, path: str | Version, alias: str) -> Version:
        """Move an alias of the collection to this version."""
        return self._version("set-alias", path=str(path), alias=alias)

    def remove_alias(self, collection: str, alias: str) -> None:
        """Remove an alias from `entity/project/collection`. W&B sends no event for it."""
        self._call("remove-alias", path=collection, alias=alias)

    def add_tag(self, path: str | Version, *tags: str) -> None:
        """Tag a version; the tag is visible through all its links."""
        self._call("tag-version", path=str(path), add=list(tags))

    def remove_tag(self, path: str | Version, *tags: str) -> None:
        """Remove tags from a version."""
        self._call("tag-version", path=str(path), remove=list(tags))

    def add_collection_tag(self, collection: str, *tags: str) -> None:
        """Tag `entity/project/collection`."""
        self._call("tag-collection", path=collection, add=list(tags))

    def remove_collection_tag(self, collection: str, *tags: str) -> None:
        """Remove tags from a collection."""
        self._call("tag-collection", path=collection, remove=list(tags))

    def set_metadata(self, path: str | Version, metadata: Mapping[str, Any]) -> None:
        """Replace a version's metadata."""
        self._call("set-metadata", path=str(path), metadata=dict(metadata))

    def show(self, path: str | Version) -> Version:
        """The version that `entity/project/collection:alias` names now."""
        return self._version("show", path=str(path))

    def collections(self) -> list[dict[str, Any]]:
        """All collections with `path`, `kind`, `tags` and `versions`."""
        found: list[dict[str, Any]] = self._call("list-collections")
        return found

    def add_user(self, username: str, api_key: str, *, roles: Mapping[str, str], entity: str | None = None) -> None:
        """Add a user.

        Args:
            api_key: 40 characters or more.
            roles: `none`, `restricted`, `viewer`, `member` or `admin` by `entity`, `entity/project` or `*`; the most
                specific one applies.
            entity: default entity; the user's own if None.
        """
        self._call("add-user", username=username, api_key=api_key, roles=dict(roles), entity=entity)

    def protect_alias(self, entity: str, project: str, alias: str) -> None:
        """Let only admins move this alias in a project or registry."""
        self._call("protect-alias", entity=entity, project=project, alias=alias)

    def configure(
        self,
        *,
        features: Mapping[str, bool] | None = None,
        xxhash_digests: Mapping[str, bool] | None = None,
        url_expiry_seconds: float | None = None,
        registry_tag_events: bool | None = None,
        page_sizes: tuple[int, int] | None = None,
        lacking: Sequence[str] | None = None,
    ) -> None:
        """Change how the server behaves; what is not given stays.

        Args:
            features: W&B's flags for what a server supports.
            xxhash_digests: which entities use XXH128 digests.
            url_expiry_seconds: the lifetime of presigned URLs.
            registry_tag_events: whether tags of a version fire automations of the registries that link it.
            page_sizes: of links, tags and aliases: when the client does not say (50), and at most (10,000).
            lacking: parts of the schema that an older server does not have, such as `TagConnection.pageInfo` or
                `Artifact.artifactMemberships(first)`; all others come back.
        """
        self._call(
            "configure",
            features=dict(features or {}),
            xxhash_digests=dict(xxhash_digests or {}),
            url_expiry_seconds=url_expiry_seconds,
            registry_tag_events=registry_tag_events,
            page_sizes=page_sizes,
            lacking=None if lacking is None else list(lacking),
        )

    def rate_limit(self, limit: int | None, *, window_seconds: float = 60.0, send_retry_after: bool = False) -> None:
        """Answer 429 after `limit` GraphQL requests per caller and window; None removes the limit."""
        self._call("rate-limit", limit=limit, window_seconds=window_seconds, send_retry_after=send_retry_after)

    def add_automation(
        self,
        name: str,
        *,
        url: str,
        scope: str,
        event: str,
        filter: Mapping[str, Any] | None = None,
        payload: Mapping[str, Any] | None = None,
        access_token: str | None = None,
        secret: str | None = None,
    ) -> str:
        """Add an automation that posts to a webhook; returns its id.

        Args:
            scope: `entity`, `entity/project` or `entity/project/collection`.
            event: LINK_ARTIFACT, UNLINK_ARTIFACT, CREATE_ARTIFACT, ADD_ARTIFACT_ALIAS, ADD_ARTIFACT_TAG,
                REMOVE_ARTIFACT_TAG, ADD_COLLECTION_TAG or REMOVE_COLLECTION_TAG.
            filter: Mongo-like, on `alias` and `tag`.
            payload: the body, with `${…}` variables; `{}` if not given.
            access_token: sent as `Authorization: Bearer`.
            secret: signs the body (X-Wandb-Signature).
        """
        new: str = self._call(
            "add-automation",
            name=name,
            url=url,
            scope=scope,
            event=event,
            filter=dict(filter or {}),
            payload=None if payload is None else dict(payload),
            access_token=access_token,
            secret=secret,
        )
        return new

    def remove_automation(self, automation_id: str) -> None:
        """Remove an automation."""
        self._call("remove-automation", id=automation_id)

    def deliveries(self) -> list[Delivery]:
        """The webhook requests sent so far, oldest first."""
        return [Delivery(**d) for d in self._call("deliveries")]

    def wait_for_deliveries(self, automation: str, count: int = 1, *, seconds: float = 10.0) -> list[Delivery]:
        """The finished webhook requests of one automation, once there are `count` of them.

        Raises:
            AdminError: there are fewer when the time is over.
        """
        deadline = time.monotonic() + seconds
        while True:
            done = [d for d in self.deliveries() if d.automation == automation and (d.status or d.error)]
            if len(done) >= count:
                return done
            if time.monotonic() > deadline:
                raise AdminError(f"{len(done)} of {count} posts of {automation!r} were made within {seconds:g} s")
            time.sleep(0.02)

    def add_fault(self, kind: str, **settings: Any) -> str:
        """Set a fault (kinds and settings: `faults.Fault`); returns the id by which it can be lifted."""
        new: str = self._call("add-fault", kind=kind, **settings)
        return new

    def lift_fault(self, fault_id: str | None = None) -> None:
        """Lift one fault, or all of them."""
        self._call("lift-fault", id=fault_id)

    def faults(self) -> list[dict[str, Any]]:
        """The active faults, with their number of hits."""
        found: list[dict[str, Any]] = self._call("list-faults")
        return found

    @contextmanager
    def fault(self, kind: str, **settings: Any) -> Iterator[str]:
        """Set a fault during the block."""
        fault_id = self.add_fault(kind, **settings)
        try:
            yield fault_id
        finally:
            self.lift_fault(fault_id)

    def down(
        self, how: Literal["reset", "unavailable", "refused"] = "reset", seconds: float | None = None
    ) -> str | None:
        """Take the server down: connections are reset, answered with 503, or refused.

        Args:
            seconds: for how long; None: until `lift_fault` with the returned id. `refused` needs a time, because the
                admin API is then unreachable, too.
        """
        if how == "refused":
            if seconds is None:
                raise AdminError("down('refused') needs seconds: nobody could lift it")
            self._call("refuse-connections", seconds=seconds)
            return None
        return self.add_fault("reset" if how == "reset" else "status", status=503, seconds=seconds)

    def expire_urls(self) -> None:
        """Treat all presigned URLs issued so far as expired."""
        self._call("expire-urls")

    def last_request(self) -> int:
        """The number of the newest request; pass it as `since` to get later ones."""
        number: int = self._call("last-request")
        return number

    def requests(self, *, since: int = 0, operation: str = "*", ref: str = "*") -> list[LoggedRequest]:
        """Requests after number `since` whose operation and any ref match the globs."""
        return self.wait_for_requests(0, since=since, operation=operation, ref=ref, seconds=0)

    def wait_for_requests(
        self, count: int = 1, *, since: int = 0, operation: str = "*", ref: str = "*", seconds: float = 10.0
    ) -> list[LoggedRequest]:
        """Like `requests`, once there are `count` of them.

        Raises:
            AdminError: there are fewer when the time is over.
        """
        query = {"since": since, "operation": operation, "ref": ref, "count": count, "seconds": seconds}
        body = self._send("GET", f"/standin/log?{urlencode(query)}", timeout=self._timeout + seconds)
        entries = [LoggedRequest(**e | {"refs": tuple(e["refs"]), "faults": tuple(e["faults"])}) for e in body]
        if len(entries) < count:
            raise AdminError(f"{len(entries)} of {count} requests {operation!r} for {ref!r} came within {seconds:g} s")
        return entries

    def _version(self, command: str, **arguments: Any) -> Version:
        shown = self._call(command, **arguments)
        return Version(**shown | {"aliases": tuple(shown["aliases"]), "tags": tuple(shown["tags"])})

    def _call(self, command: str, **arguments: Any) -> Any:
        body = json.dumps(arguments).encode()
        return self._send("POST", f"/standin/{quote(command)}", body, len(body))

    def _send(
        self, method: str, path: str, body: bytes | BinaryIO = b"", size: int = 0, timeout: float | None = None
    ) -> Any:
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=timeout or self._timeout, blocksize=CHUNK_BYTES)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Length": str(size)}
        try:
            connection.request(method, f"{parts.path}{path}", body, headers)
            response = connection.getresponse()
            answer = response.read()
        except OSError as error:
            raise AdminError(f"no stand-in answers at {self.url}: {error}") from error
        finally:
            connection.close()
            if not isinstance(body, bytes):
                body.close()
        if response.status == 200 and not answer:
            return None
        try:
            parsed = json.loads(answer)
        except ValueError:
            parsed = {"error": answer.decode(errors="replace")[:200]}
        if response.status != 200 or "error" in parsed:
            raise AdminError(parsed.get("error", f"HTTP {response.status}"))
        return parsed["result"]


def _read(files: Files, algorithm: str) -> Iterator[tuple[str, _File]]:
    if isinstance(files, Path):
        for path in sorted(p for p in files.rglob("*") if p.is_file()):
            yield path.relative_to(files).as_posix(), _digest_file(path, algorithm)
        return
    for name, content in files.items():
        digest = base64.b64encode(xxhash.xxh128_digest(content)).decode() if algorithm == "XXH128" else None
        yield name, _File(hashlib.md5(content, usedforsecurity=False).hexdigest(), len(content), digest, content)


def _digest_file(path: Path, algorithm: str) -> _File:
    md5, xxh128 = hashlib.md5(usedforsecurity=False), xxhash.xxh128() if algorithm == "XXH128" else None
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            md5.update(chunk)
            if xxh128 is not None:
                xxh128.update(chunk)
    digest = base64.b64encode(xxh128.digest()).decode() if xxh128 is not None else None
    return _File(md5.hexdigest(), path.stat().st_size, digest, path=path)
