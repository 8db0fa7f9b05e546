"""The log of client requests, for tests to read and wait on. Bounded; does not contain requests to the admin API."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from aiohttp import web

MAX_ENTRIES: Final = 20_000


@dataclass
class Entry:
    """One request. `operation` is the GraphQL operation's name, or `download`, `upload`, `file_stream`, `telemetry`."""

    method: str
    path: str
    client: str
    seq: int = 0
    at: float = field(default_factory=time.time)
    operation: str = ""
    user: str | None = None
    refs: list[str] = field(default_factory=list)
    status: int | None = None
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


ENTRY: Final = web.RequestKey("entry", Entry)
"""Key under which a request that is being answered holds its entry."""


class RequestLog:
    """The last requests, oldest first."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self._next = 1
        self._changed = asyncio.Condition()

    async def add(self, entry: Entry) -> None:
        """Append a finished request."""
        async with self._changed:
            entry.seq, self._next = self._next, self._next + 1
            self._entries.append(entry)
            self._changed.notify_all()

    def read(self, *, since: int = 0, operation: str = "*", ref: str = "*") -> list[dict[str, Any]]:
        """Entries after number `since` whose operation and any ref match the globs."""
        return [asdict(e) for e in self._entries if e.seq > since and _matches(e, operation, ref)]

    async def wait(self, *, since: int, operation: str, ref: str, count: int, seconds: float) -> list[dict[str, Any]]:
        """Like `read`, once there are `count` entries or the time is over."""

        def enough() -> bool:
            return len(self.read(since=since, operation=operation, ref=ref)) >= count

        await _within(seconds, self._changed, enough)
        return self.read(since=since, operation=operation, ref=ref)

    @property
    def last(self) -> int:
        """The number of the newest entry."""
        return self._next - 1


def _matches(entry: Entry, operation: str, ref: str) -> bool:
    return fnmatchcase(entry.operation, operation) and (ref == "*" or any(fnmatchcase(r, ref) for r in entry.refs))


async def _within(seconds: float, condition: asyncio.Condition, predicate: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(seconds), condition:
            await condition.wait_for(predicate)
    except TimeoutError:
        return
