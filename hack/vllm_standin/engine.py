"""The engine behind the API: the text of an answer, the timing of its tokens, and the effect of a shutdown.

It counts what vLLM's engine counts and knows nothing of HTTP. The effect of a shutdown was measured on real vLLM 0.32
(docs/design/vllm.md): running requests continue, new ones fail; when the time is over, the engine is killed, and its
requests get neither a further token nor an end.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from vllm_standin.faults import due
from vllm_standin.likelihood import Top
from vllm_standin.metrics import Metrics, Timing
from vllm_standin.model import Model

_KV_CACHE_TOKENS = 65_536  # size of the simulated cache; used only for kv_cache_usage_perc


class GenerationError(Exception):
    """A fault of the model failed this request; vLLM's engine would report an internal error."""

    def __init__(self, message: str = "Internal server error") -> None:
        super().__init__(message)


class ShutDownError(RuntimeError):
    """The request came during a shutdown. The message is that of vLLM's renderer, which stops before the engine."""

    def __init__(self) -> None:
        super().__init__("cannot schedule new futures after shutdown")


_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."


@dataclass(frozen=True)
class GenerationRequest:
    """A request to the engine."""

    prompt_tokens: int
    max_tokens: int
    stream: bool
    ignore_eos: bool = False
    """Generate `max_tokens`, however short the text is."""
    stop: Sequence[str] = ()
    chat: bool = False
    """Whether the prompt uses the chat template."""
    logprobs: int | None = None
    """How many of the likeliest tokens to return with each token."""
    says: str | None = None
    """Text of the answer in place of the model's own."""


@dataclass(frozen=True)
class Token:
    """One step of an answer. The last one has a finish_reason."""

    text: str
    count: int
    """Tokens so far, including this one."""
    finish_reason: str | None = None
    stop_reason: str | None = None
    top: Top | None = None
    """If log-probabilities were requested: this token and the next likely ones."""


class Engine:
    """Answers requests with the model's text, at its pace and with its faults."""

    def __init__(self, model: Model, metrics: Metrics, max_num_seqs: int) -> None:
        self._model = model
        self._faults = model.faults
        self._metrics = metrics
        self._max_num_seqs = max_num_seqs
        self._requests = 0
        self._streams = 0
        self._running = 0
        self._cached_tokens = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._pauses: set[asyncio.Future[None]] = set()
        self._draining = False
        self._aborted = False
        self._killed = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """The answer to `request`, token by token, at the model's pace.

        Raises GenerationError if a fault of the model applies. Closing the iterator early frees its slot.
        """
        arrived = time.monotonic()
        hangs, fails, breaks = self._admit(request.stream)
        await self._take_place()
        self._count_cached(request.prompt_tokens)
        cached = request.prompt_tokens
        scheduled = first = last = time.monotonic()
        produced = 0
        try:
            if fails:
                self._metrics.finished("error", Timing(arrived, scheduled, last, last), request.prompt_tokens, 0)
                raise GenerationError
            await self._pause(None if hangs else self._faults.ttft_seconds)
            words = self._words(request)
            for produced, token in enumerate(words, start=1):
                now = time.monotonic()
                if self._aborted:
                    raise GenerationError(_DEAD)
                if produced == 1:
                    first = now
                    self._metrics.prompt_tokens.inc(request.prompt_tokens)
                    self._metrics.first_token(now - arrived)
                else:
                    self._metrics.next_token(now - last)
                last = now
                self._metrics.generation_tokens.inc()
                self._count_cached(1)
                cached += 1
                if breaks and produced > len(words) // 2:
                    self._metrics.finished(
                        "error", Timing(arrived, scheduled, first, now), request.prompt_tokens, produced
                    )
                    raise GenerationError
                if token.finish_reason is not None:
                    self._metrics.finished(
                        token.finish_reason, Timing(arrived, scheduled, first, now), request.prompt_tokens, produced
                    )
                yield token
                if token.finish_reason is not None:
                    return
                await self._pause(self._faults.token_seconds)
        finally:
            self._count_cached(-cached)
            self._give_place()

    async def embed(self, prompt_tokens: int) -> list[float]:
        """A vector of 8 numbers that depends on the weights. Raises GenerationError as `generate` does."""
        request = GenerationRequest(prompt_tokens=prompt_tokens, max_tokens=1, stream=False)
        async for _ in self.generate(request):
            pass
        digits = self._model.fingerprint
        return [(int(digit, 16) - 7.5) / 8 for digit in digits]

    @property
    def drained(self) -> bool:
        """Whether a shutdown let every request finish."""
        return self._draining and not self._killed and not self._aborted

    def take(self) -> None:
        """Raise ShutDownError if no requests are accepted."""
        if self._draining:
            raise ShutDownError

    async def shutdown(self, timeout: float) -> None:
        """Accept no more requests, let the running ones finish for `timeout` seconds, then kill the engine.

        With 0 the engine is killed at once and its requests fail. Returns when it is idle or killed.
        """
        self._draining = True
        if timeout > 0:
            try:
                await asyncio.wait_for(self._idle.wait(), timeout)
            except TimeoutError:
                print("[shutdown] Process manager: force killing remaining process EngineCore", flush=True)
                self.kill()
            return
        self._aborted = True
        for pause in self._pauses:  # queued requests follow, each when the previous one frees its slot
            _finish(pause)
        await self._idle.wait()

    def kill(self) -> None:
        """Disappear: requests get neither another token nor an end."""
        self._draining = self._killed = True

    def _admit(self, stream: bool) -> tuple[bool, bool, bool]:
        """Count the request; returns whether it hangs, fails, or breaks off in mid-stream."""
        faults = self._faults
        if faults.crash_after_requests is not None and self._requests >= faults.crash_after_requests:
            crash("EngineCore encountered a fatal error: crash_after_requests", faults.exit_code)
        self._requests += 1
        self._streams += stream
        hangs = faults.hang or (faults.hang_after_requests is not None and self._requests > faults.hang_after_requests)
        fails = due(faults.error_rate, self._requests)
        breaks = stream and due(faults.stream_error_rate, self._streams)
        return hangs, fails, breaks

    def _words(self, request: GenerationRequest) -> list[Token]:
        """All tokens of the answer: the model's words with their leading space, repeated."""
        likelihood = self._model.likelihood
        words = likelihood.words(request.says or self._model.says, chat=request.chat)
        wanted = self._faults.tokens or len(words)
        reason, stop_reason = "stop", None
        if request.ignore_eos or wanted > request.max_tokens:
            wanted, reason = request.max_tokens, "length"
        texts = [words[i % len(words)] if i == 0 else " " + words[i % len(words)] for i in range(wanted)]
        cuts = [(at, stop) for stop in request.stop if (at := "".join(texts).find(stop)) >= 0]
        if cuts:
            length, stop_reason = min(cuts)
            reason = "stop"
            texts = _cut(texts, length)
        tops: Sequence[Top | None] = [None] * len(texts)
        if request.logprobs is not None:
            tops = [likelihood.top(text, at, request.logprobs) for at, text in enumerate(texts)]
        *rest, final = texts
        return [
            *(Token(text, count, top=tops[count - 1]) for count, text in enumerate(rest, start=1)),
            Token(final, len(texts), reason, stop_reason, tops[-1]),
        ]

    async def _take_place(self) -> None:
        self._idle.clear()
        while self._running >= self._max_num_seqs and not self._aborted:
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append(place)
            self._metrics.waiting.inc()
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._call_next()  # the slot was assigned at the same moment; it must not get lost
                raise
            finally:
                self._metrics.waiting.dec()
        self._running += 1
        self._metrics.running.inc()

    def _give_place(self) -> None:
        self._running -= 1
        self._metrics.running.dec()
        self._call_next()

    def _call_next(self) -> None:
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        if not self._running:
            self._idle.set()

    async def _pause(self, seconds: float | None) -> None:
        """Wait `seconds`, or forever if it is None or the engine is killed; an abort ends the wait."""
        if self._aborted:
            return
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, _finish, over)
        self._pauses.add(over)
        try:
            await over
            if self._killed:
                await loop.create_future()
        finally:
            self._pauses.discard(over)
            if timer is not None:
                timer.cancel()

    def _count_cached(self, tokens: int) -> None:
        self._cached_tokens += tokens
        self._metrics.kv_cache_usage.set(min(1.0, self._cached_tokens / _KV_CACHE_TOKENS))


def crash(message: str, exit_code: int) -> NoReturn:
    """End the process like a crash: no drain, and nothing is flushed to clients."""
    print(message, flush=True)
    os._exit(exit_code)


def _finish(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


def _cut(texts: list[str], length: int) -> list[str]:
    """`texts` cut to `length` characters in total; never empty."""
    kept: list[str] = []
    for text in texts:
        kept.append(text[:length])
        length -= len(text)
        if length <= 0:
            break
    return kept
