"""Polls pods for the result of their version's exam (`GET /modelsync/exam`) in the background, and keeps the results.

A pass only reads known results and passes in the current pods. Polling runs in separate tasks, limited in number and
time, and queues the key when a result changes. A pod's response comes from a tenant: it is limited in size, validated,
and only ever reported. This module must never delay a pass or a hold.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import aiohttp
import structlog

from modelsync.api import names
from modelsync.api.kinds import Key, Object
from modelsync.api.pod_contract import EXAM_PATH
from modelsync.observe.exams import MAX_BYTES, ListeningPod, ServerStart, exam_of, listening_pod, worse
from modelsync.rollout.model import Exam, Revision

MAX_CONCURRENT_REQUESTS = 32
"""For all pods together."""

TIMEOUT = timedelta(seconds=2)
FIRST_PAUSE = timedelta(milliseconds=500)
LONGEST_PAUSE = timedelta(seconds=5)
"""Between two requests to one pod: an exam takes seconds to minutes."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _PolledServer:
    """One start of a pod's server. `over`: it has a final result or no exam, and is not polled again."""

    revision: Revision
    exam: Exam | None = None
    over: bool = False
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class ExamPoller:
    """Exam results by ModelDeployment. `on_change` is called with a key when one of its results has changed."""

    on_change: Callable[[Key], None]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    port: int = names.PORT
    _known: dict[Key, dict[ServerStart, _PolledServer]] = field(default_factory=lambda: defaultdict(dict))
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_CONCURRENT_REQUESTS))
    _session: aiohttp.ClientSession | None = None

    def poll(self, key: Key, pods: Iterable[Object]) -> Mapping[Revision, Exam]:
        """Return the known results of these pods, by revision. Starts polling new pods, and forgets those that are no
        longer in `pods`."""
        polled = self._known[key]
        present = {pod.start: pod for each in pods if (pod := listening_pod(each, self.now())) is not None}
        for start in polled.keys() - present.keys():
            _stop(polled.pop(start))
        for start, pod in present.items():
            if start not in polled and pod.ask:
                new = polled[start] = _PolledServer(pod.revision)
                new.task = asyncio.get_running_loop().create_task(self._poll_until_over(key, pod, new))
        if not polled:
            del self._known[key]
        found: dict[Revision, Exam] = {}
        for each in polled.values():
            if each.exam is not None and worse(each.exam, found.get(each.revision)):
                found[each.revision] = each.exam
        return found

    def forget(self, key: Key) -> None:
        """Stop polling the pods of a ModelDeployment that was deleted."""
        for each in self._known.pop(key, {}).values():
            _stop(each)

    async def close(self) -> None:
        """Stop all polling."""
        for key in [*self._known]:
            self.forget(key)
        if self._session is not None:
            await self._session.close()

    async def _poll_until_over(self, key: Key, pod: ListeningPod, polled: _PolledServer) -> None:
        """Poll until there is a final result, or it is known that there is no exam."""
        pause = FIRST_PAUSE
        while True:
            async with self._slots:
                answer = await self._get(pod)
            if answer is not None:
                exam, polled.over = answer
                if exam != polled.exam:
                    polled.exam = exam
                    self.on_change(key)
                if polled.over:
                    if exam is not None:
                        log.info(
                            "exam.over",
                            revision=polled.revision,
                            pod=pod.name,
                            outcome=exam.outcome,
                            message=exam.message,
                        )
                    return
            await asyncio.sleep(pause.total_seconds())
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _get(self, pod: ListeningPod) -> tuple[Exam | None, bool] | None:
        """Return the exam and whether it is over; None without a usable response."""
        if self._session is None:
            # Without proxies: pods are never behind one.
            timeout = aiohttp.ClientTimeout(total=TIMEOUT.total_seconds())
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        try:
            url = f"http://{host}:{self.port}{EXAM_PATH}"
            async with self._session.get(url, allow_redirects=False) as answer:
                if answer.status == 404:
                    return None, True  # a middleware version without exams
                if answer.status != 200:
                    return None
                return exam_of(await _body(answer))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body; empty when it is longer than MAX_BYTES."""
    chunks, length = [], 0
    async for chunk in answer.content.iter_chunked(MAX_BYTES):
        chunks.append(chunk)
        length += len(chunk)
        if length > MAX_BYTES:
            return b""
    return b"".join(chunks)


def _stop(polled: _PolledServer) -> None:
    if polled.task is not None:
        polled.task.cancel()
