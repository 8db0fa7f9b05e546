"""Faults that tests and users inject: what goes wrong, for whom, how often and for how long.

A fault never changes the store; once it is lifted, the server behaves as before.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, TypeAlias, get_args

from wandb_standin.errors import RefusedError

Kind: TypeAlias = Literal[
    "status",  # answer with `status`, without any effect; 429 and 503 carry `retry_after` and `reset` if given
    "html",  # a proxy's login page with HTTP 200
    "reset",  # the connection is reset without an answer
    "slow",  # the answer is delayed by `delay` seconds, or until the fault is lifted
    "error",  # a GraphQL error for `ref`, whose field is null; the other fields of the request are answered
    "refuse-batch",  # HTTP 400 for a GraphQL request that looks up more than `limit` references
    "corrupt",  # a download has one wrong byte, at `offset`
    "truncate",  # a download announces its full size but ends after `offset` bytes
    "resize",  # a download matches its own headers, but is `offset` bytes longer (or shorter, if negative)
    "throttle",  # a download comes at `rate` bytes per second
    "expired",  # a presigned URL is treated as expired
    "manifest",  # the manifest of `ref` has a wrong digest for its first file, so that it does not match the artifact
]

CODES: Final = {401: "UNAUTHENTICATED", 403: "PERMISSION_ERROR", 404: "NOT_FOUND"}


@dataclass
class Fault:
    """One fault. Globs (`*`) select the requests that it affects.

    Attributes:
        operation: name of the GraphQL operation, or `download`, `upload`, `file_stream`, `telemetry`.
        ref: `entity/project/collection:alias` as the client wrote it, for `error` and `manifest`.
        file: file name in the artifact, for faults of downloads; `wandb_manifest.json` is the manifest.
        user: the user whose key was sent (`` for none).
        status: HTTP status, for `status` (503 if not given) and `error` (200 if not given).
        message: the error message; has a default.
        delay: seconds.
        offset: bytes; see the kinds.
        rate: bytes per second.
        limit: references.
        retry_after: value of the Retry-After header, in seconds.
        reset: value of the RateLimit-Reset header, in seconds.
        times: how many requests it affects; None: no limit.
        seconds: for how long; None: until it is lifted.
    """

    kind: Kind
    operation: str = "*"
    ref: str = "*"
    file: str = "*"
    user: str = "*"
    status: int | None = None
    message: str = ""
    delay: float = 0.0
    offset: int = 0
    rate: int = 1 << 20
    limit: int = 1
    retry_after: float | None = None
    reset: float | None = None
    times: int | None = None
    seconds: float | None = None
    id: str = ""
    hits: int = 0
    _until: float | None = field(default=None, repr=False)
    _lifted: asyncio.Event = field(default_factory=asyncio.Event, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Fault:
        """A fault from the admin API's JSON.

        Raises:
            RefusedError: an unknown kind or field; the message lists the valid ones.
        """
        allowed = {f.name for f in fields(cls) if not f.name.startswith("_")} - {"id", "hits"}
        unknown = sorted(body.keys() - allowed)
        if unknown:
            raise RefusedError(f"a fault has no field {unknown[0]!r}; it has {', '.join(sorted(allowed))}")
        if body.get("kind") not in get_args(Kind):
            raise RefusedError(f"no fault of kind {body.get('kind')!r}; there are {', '.join(get_args(Kind))}")
        return cls(**body)

    def to_json(self) -> dict[str, Any]:
        """For the admin API: the settings, the id, the number of hits and the remaining seconds."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if not f.name.startswith("_")}
        if self._until is not None:
            shown["seconds"] = max(0.0, self._until - time.monotonic())
        return shown

    def start(self, fault_id: str) -> None:
        """Start the clock."""
        self.id = fault_id
        self._until = None if self.seconds is None else time.monotonic() + self.seconds

    async def delayed(self) -> None:
        """Wait for `delay`, or until the fault is lifted."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.delay):
                await self._lifted.wait()

    def lift(self) -> None:
        """Release the requests that wait because of this fault."""
        self._lifted.set()

    @property
    def over(self) -> bool:
        """Whether it has reached its number of requests or its time."""
        if self.times is not None and self.hits >= self.times:
            return True
        return self._until is not None and time.monotonic() >= self._until


class Faults:
    """The active faults, in the order in which they were set."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self._next = 1

    def add(self, fault: Fault) -> str:
        """Set a fault; returns the id by which it can be lifted."""
        fault.start(f"fault-{self._next}")
        self._next += 1
        self._faults[fault.id] = fault
        return fault.id

    def lift(self, fault_id: str | None = None) -> None:
        """Lift one, or all.

        Raises:
            RefusedError: there is no such fault (a fault that is over still exists until it is lifted).
        """
        if fault_id is not None and fault_id not in self._faults:
            raise RefusedError(f"no fault {fault_id!r}; there are {', '.join(self._faults) or 'none'}", "NOT_FOUND")
        for each in list(self._faults) if fault_id is None else [fault_id]:
            self._faults.pop(each).lift()

    def list(self) -> list[Fault]:
        """The faults that are not over."""
        return [f for f in self._faults.values() if not f.over]

    def hit(
        self,
        *kinds: Kind,
        operation: str,
        user: str,
        ref: str | None = None,
        file: str | None = None,
        lookups: int = 0,
    ) -> Fault | None:
        """The first matching fault of these kinds; counts the hit. Faults for a ref or file need one to match."""
        for fault in self._faults.values():
            if (
                fault.kind in kinds
                and not fault.over
                and fnmatchcase(operation, fault.operation)
                and fnmatchcase(user, fault.user)
                and _selects(fault.ref, ref)
                and _selects(fault.file, file)
                and not (fault.kind == "refuse-batch" and lookups <= fault.limit)
            ):
                fault.hits += 1
                return fault
        return None


def _selects(pattern: str, value: str | None) -> bool:
    return pattern == "*" if value is None else fnmatchcase(value, pattern)
