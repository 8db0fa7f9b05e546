"""Steady load on an OpenAI endpoint, partly streaming, with one record for each request.

`reading` determines the outcome of a request. No request is excluded by time; the caller decides what a phase may
contain.
"""

import asyncio
import json
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Protocol, Self

from traffic.answer import Answer, Outcome, Way
from traffic.http1 import Http1
from traffic.http2 import Http2
from traffic.reading import Reading

_PATH = "/chat/completions"
_MOST_SHOWN = 200


class Asker(Protocol):
    """A transport for requests."""

    async def ask(self, body: bytes, headers: dict[str, str], reading: Reading) -> int:
        """Send a request, read its answer into `reading`, and return how often it was resent."""
        ...


@dataclass(slots=True)
class Traffic:
    """Sends `rate` requests per second to `url` (…/v1), every `1 / stream_share`-th as a stream, over `ways` in turn.

    `async with Traffic(…) as traffic:` starts and stops it.
    """

    url: str
    host: str
    model: str = "chat"
    rate: float = 20.0
    stream_share: float = 0.2
    max_tokens: int = 8
    stream_tokens: int = 60
    timeout_seconds: float = 120.0
    ways: Sequence[Way] = (Way.NEW, Way.KEPT)
    answers: list[Answer] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _pump: asyncio.Task[None] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        """Start sending."""
        self._pump = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop sending, and wait for outstanding answers."""
        await self.stop()

    async def stop(self) -> None:
        """Stop sending, and wait for outstanding answers (at most `timeout_seconds`)."""
        if self._pump:
            self._pump.cancel()
            with suppress(asyncio.CancelledError):
                await self._pump
            self._pump = None

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            askers: dict[Way, Asker] = {}
            for way in self.ways:
                asker = Http2(self.url + _PATH) if way is Way.HTTP2 else _http1(self.url + _PATH, way)
                askers[way] = await stack.enter_async_context(asker)
            bodies = {stream: self._body(stream=stream) for stream in (False, True)}
            every = max(1, round(1 / self.stream_share)) if self.stream_share else 0
            started, number = time.monotonic(), 0
            try:
                while True:
                    due = started + number / self.rate
                    number += 1
                    stream = bool(every) and number % every == 0
                    way = self.ways[number % len(self.ways)]
                    task = asyncio.create_task(self._ask(askers[way], way, bodies[stream], stream, due))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                    # By the start time, not by the last request: a slow loop must not lower the rate.
                    await asyncio.sleep(max(0.0, started + number / self.rate - time.monotonic()))
            finally:
                if self._tasks:
                    await asyncio.wait(self._tasks)  # each request has its own time limit

    def _body(self, *, stream: bool) -> bytes:
        ask = {
            "model": self.model,
            "messages": [{"role": "user", "content": "Who are you?"}],
            "max_tokens": self.stream_tokens if stream else self.max_tokens,
            "stream": stream,
        }
        return json.dumps(ask).encode()

    async def _ask(self, asker: Asker, way: Way, body: bytes, stream: bool, due: float) -> None:
        now = time.monotonic()
        answer = Answer(stream=stream, sent=now, way=way, late=now - due)
        self.answers.append(answer)
        reading = Reading(answer)
        try:
            async with asyncio.timeout(self.timeout_seconds):
                answer.retries = await asker.ask(body, {"host": self.host, "content-type": "application/json"}, reading)
        except TimeoutError:
            reading.broken(f"no end within {self.timeout_seconds:g} s")
        finally:
            reading.broken("the client gave up")  # no effect if there is a verdict already; every request needs one
            answer.done = time.monotonic()
            self._changed.set()

    def lost(self, answers: Iterable[Answer] | None = None) -> list[Answer]:
        """The lost requests among `answers` (default: all)."""
        return [a for a in (self.answers if answers is None else answers) if a.outcome is Outcome.LOST]

    def unserved(self) -> list[Answer]:
        """Every request without an answer, whatever the reason: lost, refused, or blocked."""
        return [a for a in self.answers if a.outcome not in (None, Outcome.OK)]

    def explain(self, answers: Sequence[Answer] | None = None) -> str:
        """Describe these (default: the lost ones): when (wall clock, to compare with logs), how long, by whom, why."""
        shown = self.lost() if answers is None else answers
        now, wall = time.monotonic(), datetime.now(UTC)
        lines = [f"{len(shown)} of {len(self.answers)} requests were {'lost' if answers is None else 'not served'}:"]
        for answer in shown[:_MOST_SHOWN]:
            sent = (wall - timedelta(seconds=now - answer.sent)).strftime("%H:%M:%S.%f")[:-3]
            took = f"{answer.done - answer.sent:.3f} s" if answer.done else "not done"
            kind = "stream" if answer.stream else "request"
            outcome = "" if answer.outcome is Outcome.LOST else f"{answer.outcome}, "
            lines.append(
                f"  {sent} {kind} over {answer.way}, {took}, {outcome}status {answer.status}, {answer.revision}: "
                f"{answer.detail}"
            )
        if len(shown) > _MOST_SHOWN:
            lines.append(f"  … and {len(shown) - _MOST_SHOWN} more")
        return "\n".join(lines)

    def since(self, moment: float) -> list[Answer]:
        """Requests sent at or after `moment` (monotonic seconds)."""
        return self.answers[bisect_left(self.answers, moment, key=lambda answer: answer.sent) :]

    def by_revision(self, answers: Sequence[Answer] | None = None) -> Counter[str]:
        """The number of successful answers by revision."""
        return Counter(
            a.revision or "" for a in (self.answers if answers is None else answers) if a.outcome is Outcome.OK
        )

    async def until(
        self,
        what: Callable[["Traffic"], bool],
        timeout: float = 60.0,
    ) -> None:
        """Wait until `what(self)` is true; checks after each answer. Raises TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            while not what(self):
                self._changed.clear()
                await self._changed.wait()


def _http1(url: str, way: Way) -> Http1:
    return Http1(url, keep_alive=way is Way.KEPT)
