"""Whether the pod may receive requests: the model has answered under each of its names, and vLLM's /health is good.

It must never make the model answer more than once for each name, however many probes arrive.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Optional

from .asgi import App, Ask, Receive, Scope, Send, asking, send_json
from .shared_state import SharedState

READY_PATH = "/modelsync/ready"
ANSWER_SECONDS = 120.0  # for the first answer: vLLM may still compile and capture graphs
PROBE_SECONDS = 0.5  # a probe is answered within this time; kubelet times out after a few seconds
RETRY_SECONDS = 1.0  # between two attempts, however many probes arrive
HEALTH_SECONDS = 0.5

Check = Callable[[Ask], Awaitable[Optional[str]]]
"""A further condition for readiness, checked once the model has answered: returns None, or why the pod is not ready. A
failed check is repeated with later probes; a check whose failure is final must cache its reason."""


class Readiness:
    """`GET /modelsync/ready`: ready after one real answer for each name and all `checks`, then while /health is good.

    MODELSYNC_SERVED_NAMES are names of one model, separated by commas: only the first is tried. Each of
    MODELSYNC_ADAPTER_NAMES is a model of its own. One server process tries for all: they share one engine. `unfit`
    returns why the pod must not be ready whatever the model answers, or None.
    """

    def __init__(
        self, app: App, shared: SharedState, *, unfit: Callable[[], str | None], checks: Sequence[Check] = ()
    ) -> None:
        self._app = app
        self._shared = shared
        self._unfit = unfit
        self._checks = checks
        self._names = [*_names("MODELSYNC_SERVED_NAMES")[:1], *_names("MODELSYNC_ADAPTER_NAMES")]
        self._answered: set[str] = set()
        self._attempt: asyncio.Task[str | None] | None = None
        self._started = -math.inf
        self._proved = False
        self._reason = "the model has not answered yet"

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a probe: 200, or 503 with the reason."""
        if scope["method"] not in ("GET", "HEAD"):
            await send_json(send, 405, {"ready": False, "reason": "only GET is allowed"})
            return
        reason = self._unfit() or await self._why_not(scope)
        await send_json(send, 200 if reason is None else 503, {"ready": reason is None, "reason": reason or ""})

    async def _why_not(self, scope: Scope) -> str | None:
        if not self._proved:
            return await self._proof(scope)
        status, _ = await asking(self._app, scope)("GET", "/health", None, HEALTH_SECONDS)
        return None if status == 200 else f"/health answers {status or 'nothing in time'}"

    async def _proof(self, scope: Scope) -> str | None:
        """Join the running attempt, or start one; wait for it no longer than a probe may take."""
        if any(process.get("proved") for process in self._shared.published()):
            self._proved = True
            return None
        if self._attempt is None and time.monotonic() - self._started >= RETRY_SECONDS:
            self._started = time.monotonic()
            self._attempt = asyncio.ensure_future(self._prove_for_all(asking(self._app, dict(scope))))
            self._attempt.add_done_callback(self._conclude)
        attempt = self._attempt
        if attempt is not None:
            await asyncio.wait([attempt], timeout=PROBE_SECONDS)
            if not attempt.done():
                answered = self._answered.issuperset(self._names)
                what = "the checks of the model" if answered else "the model's first answer"
                return f"waiting for {what} for {time.monotonic() - self._started:.0f} s"
            await asyncio.sleep(0)  # lets _conclude run
        return None if self._proved else self._reason

    def _conclude(self, attempt: asyncio.Task[str | None]) -> None:
        self._attempt = None
        if attempt.cancelled():
            self._reason = "the model's first answer was cancelled"
            return
        error = attempt.exception()
        reason = attempt.result() if error is None else f"a check of the model failed: {type(error).__name__}: {error}"
        self._proved = reason is None
        self._reason = reason or ""
        if self._proved:
            self._shared.publish(proved=True)

    async def _prove_for_all(self, ask: Ask) -> str | None:
        with self._shared.exclusively("proof") as mine:
            return await self._prove(ask) if mine else "another server process is querying the model"

    async def _prove(self, ask: Ask) -> str | None:
        if not self._names:
            return "MODELSYNC_SERVED_NAMES is empty; it must name the model"
        for name in self._names:
            if name not in self._answered:
                reason = await _one_answer(ask, name)
                if reason is not None:
                    return reason if name == self._names[0] else f"{name}: {reason}"
                self._answered.add(name)
        for check in self._checks:
            reason = await check(ask)
            if reason is not None:
                return reason
        return None


async def _one_answer(ask: Ask, name: str) -> str | None:
    """Request one short answer, a text or an embedding, from the model `name`. None, or why that failed."""
    question: dict[str, Any] = {"model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
    status, body = await ask("POST", "/v1/completions", question, ANSWER_SECONDS)
    if _not_offered(status, body):
        status, body = await ask("POST", "/v1/embeddings", {"model": name, "input": "Hello"}, ANSWER_SECONDS)
        if _not_offered(status, body):
            return "neither /v1/completions nor /v1/embeddings is offered by this model"
    if status is None:
        return f"the model gave no answer within {ANSWER_SECONDS:.0f} s"
    if status != 200:
        return f"the model's first answer is an error: {status} {body[:200].decode(errors='replace')}"
    return _judge(body)


def _names(variable: str) -> list[str]:
    return [name for name in re.split(r"[,\s]+", os.environ.get(variable, "")) if name]


def _not_offered(status: int | None, body: bytes) -> bool:
    """Whether the server lacks this API: vLLM registers only the routes that the model supports.

    An unknown model is a 404 too, but with type NotFoundError; a missing route is `Not Found`.
    """
    return status in (405, 501) or (status == 404 and b"NotFoundError" not in body)


def _judge(body: bytes) -> str | None:
    """None if `body` is a complete answer of a model; otherwise why not."""
    try:
        answer = json.loads(body)
        if "choices" in answer:
            reason = answer["choices"][0]["finish_reason"]
            return None if reason in ("stop", "length") else f"the model's first answer ended with {reason!r}"
        return None if answer["data"][0]["embedding"] else "the model's first embedding is empty"
    except (ValueError, LookupError, TypeError):
        return f"the model's first answer is invalid: {body[:200].decode(errors='replace')}"
