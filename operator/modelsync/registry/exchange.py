"""Sends many small queries to one server in few requests, and returns a reply or an error for each of them.

A batch that the server rejects is sent again in halves, down to single queries, so that one bad reference or a limit on
the query size does not affect the others. A problem of the whole server (throttled, wrong key, dead network) ends the
exchange at once: no further request is sent.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelsync.api.model_ref import ModelRef
from modelsync.registry.errors import (
    DeniedError,
    GraphQLError,
    NotFoundError,
    NotGraphQLError,
    RefusedError,
    RegistryError,
    ThrottledError,
    UnreachableError,
)
from modelsync.registry.graphql import GraphQL, Response, clock, now_utc
from modelsync.registry.query import (
    OPERATION,
    ArtifactById,
    CollectionPage,
    LinksPage,
    Path,
    TagsPage,
    Unit,
    document,
    refused_parts,
)

BATCH = 20
"""References per request. Whether W&B limits the complexity of a query is not documented, so keep it small."""
PARALLEL = 4
"""Concurrent requests to one server, for one exchange."""
_GROW_AFTER = 50
"""Consecutive successful requests before a reduced batch size is doubled again."""
_GIVE_UP_AFTER = 2
"""Consecutive single queries that end in a 5xx before the server counts as down."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The response for one unit: a value that may be null, with the errors that the server attributed to it."""

    value: Any
    errors: tuple[GraphQLError, ...]
    """Those at, above or below the unit, and those that name no path."""
    project_missing: bool
    """The enclosing project was null."""
    status: int
    asked_at: datetime
    answered_at: datetime
    asked: float = 0.0


@dataclass(frozen=True, slots=True)
class NoReply:
    """The reason why one unit has no reply."""

    error: RegistryError
    asked_at: datetime
    answered_at: datetime
    asked: float = 0.0


@dataclass(slots=True)
class ServerTraits:
    """What was learned about a server, kept from one exchange to the next. Contains no credential."""

    batch: int = BATCH
    without: set[str] = field(default_factory=set)
    """What the server does not have (`query.DIGEST_ALGORITHM`, …)."""
    successes: int = 0
    throttled: ThrottledError | None = None

    def succeeded(self) -> None:
        """A batch was answered."""
        self.successes += 1
        if self.batch < BATCH and self.successes >= _GROW_AFTER:
            self.batch, self.successes = min(BATCH, self.batch * 2), 0

    def refused(self, size: int) -> None:
        """A batch of `size` was refused although its parts were answered: it was too large."""
        self.batch, self.successes = max(1, min(self.batch, size // 2)), 0


async def ask(api: GraphQL, units: Iterable[Unit], traits: ServerTraits) -> Mapping[Unit, Reply | NoReply]:
    """Query all `units` and return a reply or an error for each of them. Raises no RegistryError."""
    exchange = _Exchange(api, traits)
    await exchange.run(batches(units, traits.batch))
    return exchange.results


def batches(units: Iterable[Unit], limit: int) -> list[list[Unit]]:
    """Split into requests of at most `limit` references; units of one project stay together.

    A collection's page is sent with the collection's references and is not counted, unless it has none.
    """
    ordered = sorted(set(units), key=_place)
    chunks: list[list[Unit]] = []
    counted = limit
    for unit in ordered:
        if isinstance(unit, CollectionPage) and chunks and _place(chunks[-1][-1])[:4] == _place(unit)[:4]:
            chunks[-1].append(unit)
            continue
        if counted >= limit:
            chunks.append([])
            counted = 0
        chunks[-1].append(unit)
        counted += 1
    return chunks


def _place(unit: Unit) -> tuple[str, ...]:
    """Sort key: by project and collection; within a collection, references before its page."""
    match unit:
        case CollectionPage(collection=home, after=after):
            return ("p", home.entity, home.project, home.collection, "page", after or "")
        case TagsPage(collection=home, after=after):
            return ("p", home.entity, home.project, home.collection, "tags", after)
        case ArtifactById(artifact_id=artifact_id):
            return ("a", artifact_id)
        case LinksPage(artifact_id=artifact_id, after=after):
            return ("a", artifact_id, "links", after)
        case ModelRef():
            return ("p", unit.entity, unit.project, unit.collection, "alias", unit.alias)


class _Exchange:
    def __init__(self, api: GraphQL, traits: ServerTraits) -> None:
        self.results: dict[Unit, Reply | NoReply] = {}
        self._api = api
        self._traits = traits
        self._stopped: NoReply | None = None
        self._down = 0
        self._slots = asyncio.Semaphore(PARALLEL)

    async def run(self, chunks: Sequence[Sequence[Unit]]) -> None:
        if chunks:  # the first one alone: a throttled or dead server, or a wrong key, costs one request and not four
            await self._ask(chunks[0])
        await asyncio.gather(*(self._ask(chunk) for chunk in chunks[1:]))

    async def _ask(self, chunk: Sequence[Unit]) -> None:
        async with self._slots:
            parts = await self._once(chunk)
        for part in parts:
            await self._ask(part)
        if parts and len(chunk) > 1 and not any(self._refused(unit) for unit in chunk):
            self._traits.refused(len(chunk))

    async def _once(self, chunk: Sequence[Unit]) -> Sequence[Sequence[Unit]]:
        """Send one request; return the parts in which it must be sent again, if any."""
        if (throttled := self._traits.throttled) and self._stopped is None and clock() < throttled.resume:
            self._stopped = NoReply(throttled, now_utc(), now_utc(), clock())
        if self._stopped is not None:
            self._fail(chunk, self._stopped)
            return ()
        without = frozenset(self._traits.without)
        request = document(chunk, without=without)
        asked_at, asked = now_utc(), clock()
        try:
            response = await self._api.execute(request.query, request.variables, operation=OPERATION)
        except RegistryError as error:
            reply = NoReply(error, asked_at, now_utc(), asked)
            if partial := _as_response(reply, request.paths.values()):
                return self._keep(chunk, partial, request.paths)
            return self._again_after(error, chunk, reply, without)
        self._down = 0
        self._traits.succeeded()
        return self._keep(chunk, response, request.paths)

    def _again_after(
        self, error: RegistryError, chunk: Sequence[Unit], reply: NoReply, sent_without: frozenset[str]
    ) -> Sequence[Sequence[Unit]]:
        match error:
            case RefusedError(messages=messages) if lacking := refused_parts(messages) - sent_without:
                self._traits.without |= lacking
                return (chunk,)
            case RefusedError() | NotFoundError() | DeniedError(status=403) | UnreachableError(too_large=True) if (
                len(chunk) > 1
            ):
                middle = len(chunk) // 2
                return (chunk[:middle], chunk[middle:])
            case UnreachableError(status=int()) if len(chunk) > 1:
                return [[unit] for unit in chunk]
            case UnreachableError(status=int()):
                self._down += 1
                if self._down >= _GIVE_UP_AFTER:
                    self._stopped = reply
            case UnreachableError(too_large=True):
                pass
            case ThrottledError():
                self._traits.throttled = error
                self._stopped = reply
            case DeniedError(status=401) | NotGraphQLError() | UnreachableError():
                self._stopped = reply
        self._fail(chunk, reply)
        return ()

    def _keep(self, chunk: Sequence[Unit], response: Response, paths: Mapping[Unit, Path]) -> Sequence[Sequence[Unit]]:
        """Assign each unit its part of the response; return the units that must be queried again, one by one."""
        at_large = tuple(error for error in response.errors if not _belongs(error, paths.values()))
        again: list[list[Unit]] = []
        for unit in chunk:
            path = paths[unit]
            outer = response.data.get(path[0])
            value = outer.get(path[1]) if len(path) > 1 and isinstance(outer, Mapping) else outer
            errors = tuple(error for error in response.errors if _touches(error.path, path))
            if value is None and not errors and (response.status >= 400 or _spoiled(path, response.errors, at_large)):
                if len(chunk) > 1:  # maybe null because of another unit's error; on its own there is no other unit
                    again.append([unit])
                    continue
                errors = at_large
            elif value is not None:
                errors += tuple(error for error in at_large if error not in errors)
            self.results[unit] = Reply(
                value=value,
                errors=errors,
                project_missing=len(path) > 1 and outer is None,
                status=response.status,
                asked_at=response.asked_at,
                answered_at=response.answered_at,
                asked=response.asked,
            )
        return again

    def _fail(self, chunk: Sequence[Unit], reply: NoReply) -> None:
        for unit in chunk:
            self.results[unit] = reply

    def _refused(self, unit: Unit) -> bool:
        result = self.results.get(unit)
        return isinstance(result, NoReply)


def _as_response(reply: NoReply, paths: Iterable[Path]) -> Response | None:
    """Treat a 403 or 404 without data as a response, if each of its errors has the path of a unit; else None."""
    error = reply.error
    known = tuple(paths)
    if isinstance(error, NotFoundError) or (isinstance(error, DeniedError) and error.status == 403):
        status = 404 if isinstance(error, NotFoundError) else 403
        if error.errors and all(_belongs(each, known) for each in error.errors):
            return Response({}, error.errors, status, reply.asked_at, reply.answered_at, reply.asked)
    return None


def _spoiled(path: Path, errors: Iterable[GraphQLError], at_large: Sequence[GraphQLError]) -> bool:
    """Whether the unit at `path` may be null because of another unit's error.

    An error in a non-nullable field makes the nearest nullable parent null, which can be a whole project.
    """
    return bool(at_large) or any(error.path[:1] == path[:1] for error in errors)


def _touches(error: tuple[str | int, ...], path: Path) -> bool:
    """Whether an error at path `error` concerns the unit at `path`: at it, above it, or below it."""
    common = min(len(error), len(path))
    return common > 0 and error[:common] == path[:common]


def _belongs(error: GraphQLError, paths: Iterable[Path]) -> bool:
    return any(_touches(error.path, path) for path in paths)
