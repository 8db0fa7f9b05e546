"""Steady load on an OpenAI endpoint, a share of it streams, with one record for each request.

A request is `LOST` when its user got less than asked and nobody told them why: a 5xx, a refused or cut connection, a
stream that does not end with `[DONE]`, an error event inside a stream, or `finish_reason: abort` (vLLM ends what a
drain cuts that way). The middleware's 451 (a held version refuses) is `REFUSED`. Nothing is excluded by time: who reads
the records says what a phase may contain.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

import aiohttp


class Outcome(StrEnum):
    """How a request ended."""

    OK = "ok"
    BLOCKED = "blocked"  # 503 without a version header: the gateway has no endpoint
    REFUSED = "refused"  # 451: a held version says no
    LOST = "lost"


@dataclass(slots=True)
class Answer:
    """One request. Times are `time.monotonic()` seconds; `last_byte` moves while a stream runs."""

    stream: bool
    sent: float
    first_byte: float | None = None
    last_byte: float | None = None
    done: float | None = None
    status: int | None = None
    revision: str | None = None
    outcome: Outcome | None = None
    detail: str = ""


@dataclass(slots=True)
class Traffic:
    """Sends `rate` requests a second to `url` (…/v1), every `1 / stream_share`-th as a stream.

    Alternates between kept-alive connections and new ones. `async with Traffic(…) as traffic:` starts and stops it.
    """

    url: str
    host: str
    model: str = "chat"
    rate: float = 20.0
    stream_share: float = 0.2
    max_tokens: int = 8
    stream_tokens: int = 60
    timeout_seconds: float = 120.0
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
        """Stop sending, and let what is under way end."""
        await self.stop()

    async def stop(self) -> None:
        """Send no more, and wait for every answer under way (at most `timeout_seconds`)."""
        if self._pump:
            self._pump.cancel()
            with suppress(asyncio.CancelledError):
                await self._pump
            self._pump = None

    async def _run(self) -> None:
        kept = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        fresh = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=self.timeout_seconds, sock_connect=5)
        async with (
            aiohttp.ClientSession(connector=kept, timeout=timeout) as a,
            aiohttp.ClientSession(connector=fresh, timeout=timeout) as b,
        ):
            try:
                started, number, every = (
                    time.monotonic(),
                    0,
                    max(1, round(1 / self.stream_share)) if self.stream_share else 0,
                )
                while True:
                    number += 1
                    session = b if number % 2 else a
                    task = asyncio.create_task(self._ask(session, stream=bool(every) and number % every == 0))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                    # By the start time, not by the last request: a slow loop must not lower the rate.
                    await asyncio.sleep(max(0.0, started + number / self.rate - time.monotonic()))
            finally:
                if self._tasks:
                    await asyncio.wait(self._tasks, timeout=self.timeout_seconds)
                for task in self._tasks:
                    task.cancel()

    async def _ask(self, session: aiohttp.ClientSession, *, stream: bool) -> None:
        answer = Answer(stream=stream, sent=time.monotonic())
        self.answers.append(answer)
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": "Who are you?"}],
            "max_tokens": self.stream_tokens if stream else self.max_tokens,
            "stream": stream,
        }
        try:
            async with session.post(f"{self.url}/chat/completions", json=body, headers={"host": self.host}) as response:
                answer.status = response.status
                answer.revision = response.headers.get("x-model-revision")
                await (self._read_stream if stream and response.status == 200 else self._read_whole)(answer, response)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            answer.outcome, answer.detail = Outcome.LOST, f"{type(error).__name__}: {error}"
        finally:
            answer.done = time.monotonic()
            self._changed.set()

    async def _read_whole(self, answer: Answer, response: aiohttp.ClientResponse) -> None:
        raw = await response.read()
        answer.first_byte = answer.last_byte = time.monotonic()
        if response.status == 451:
            answer.outcome = Outcome.REFUSED
        elif response.status == 503 and answer.revision is None:
            answer.outcome, answer.detail = Outcome.BLOCKED, raw[:80].decode(errors="replace")
        elif response.status != 200:
            answer.outcome, answer.detail = (
                Outcome.LOST,
                f"status {response.status}: {raw[:200].decode(errors='replace')}",
            )
        else:
            payload = json.loads(raw)
            self._judge(answer, payload.get("model"), payload["choices"][0].get("finish_reason"))

    async def _read_stream(self, answer: Answer, response: aiohttp.ClientResponse) -> None:
        finish, model, ended = None, None, False
        async for raw in response.content:
            now = time.monotonic()
            line = raw.decode().strip()
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                ended = True
                continue
            chunk: dict[str, Any] = json.loads(data)
            if "error" in chunk:
                held = str(chunk["error"].get("code")) == "451"
                answer.outcome = Outcome.REFUSED if held else Outcome.LOST
                answer.detail = f"error event: {chunk['error']}"
                return
            # After the error event's return: the refusal itself is not an answer of the version that refuses.
            answer.first_byte, answer.last_byte = answer.first_byte or now, now
            model = chunk.get("model", model)
            for choice in chunk.get("choices", ()):
                finish = choice.get("finish_reason") or finish
        if not ended:
            answer.outcome, answer.detail = Outcome.LOST, "the stream ended without [DONE]"
            return
        self._judge(answer, model, finish)

    def _judge(self, answer: Answer, model: str | None, finish: str | None) -> None:
        if finish == "abort":
            answer.outcome, answer.detail = Outcome.LOST, "finish_reason abort"
        elif model is None or answer.revision is None or not model.endswith(f"@{answer.revision}"):
            answer.outcome = Outcome.LOST
            answer.detail = f"the answer says model {model!r}, its header revision {answer.revision!r}"
        else:
            answer.outcome = Outcome.OK

    def lost(self, answers: Iterable[Answer] | None = None) -> list[Answer]:
        """The lost ones among `answers` (default: all)."""
        return [a for a in (self.answers if answers is None else answers) if a.outcome is Outcome.LOST]

    def explain(self) -> str:
        """The lost ones in words: when (wall clock, to hold against logs), how long, of whom, why."""
        now, wall = time.monotonic(), datetime.now(UTC)
        lines = [f"{len(self.lost())} of {len(self.answers)} requests are lost:"]
        for answer in self.lost():
            sent = (wall - timedelta(seconds=now - answer.sent)).strftime("%H:%M:%S.%f")[:-3]
            took = f"{answer.done - answer.sent:.3f} s" if answer.done else "not done"
            kind = "stream" if answer.stream else "request"
            lines.append(f"  {sent} {kind}, {took}, status {answer.status}, {answer.revision}: {answer.detail}")
        return "\n".join(lines)

    def since(self, moment: float) -> list[Answer]:
        """Requests sent at or after `moment` (monotonic seconds)."""
        return [a for a in self.answers if a.sent >= moment]

    def by_revision(self, answers: Sequence[Answer] | None = None) -> Counter[str]:
        """Finished good answers, counted by the revision that gave them."""
        return Counter(
            a.revision or "" for a in (self.answers if answers is None else answers) if a.outcome is Outcome.OK
        )

    async def until(
        self,
        what: Callable[["Traffic"], bool],
        timeout: float = 60.0,
    ) -> None:
        """Wait until `what(self)` holds; looks after each answer. Raises `TimeoutError` after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            while not what(self):
                self._changed.clear()
                await self._changed.wait()
