"""Asks pods how their version's own exam stands (`GET /modelsync/exam`), beside the passes, and remembers verdicts.

A pass only reads what is known and says which pods there are; the asking goes on in tasks of its own, bounded in number
and time, and puts the key into the queue when there is something new. What a pod answers is a tenant's word: it is cut,
checked, and never more than told. Nothing here may hold up a pass or a hold.
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
from modelsync.observe.exams import ListeningPod, ServerStart, exam_of, listening_pod, worse
from modelsync.rollout.model import Exam, Revision

AT_ONCE = 32
"""Requests under way, whatever the number of pods."""

TIMEOUT = timedelta(seconds=2)
FIRST_PAUSE = timedelta(milliseconds=500)
LONGEST_PAUSE = timedelta(seconds=5)
"""Between two questions to one pod: an exam takes seconds to minutes."""

MAX_BYTES = 64 << 10
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Followed:
    """One start of a pod's server. `over`: there is a verdict, or there is no exam; it is not asked again."""

    revision: Revision
    exam: Exam | None = None
    over: bool = False
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Exams:
    """How the exams stand, by ModelDeployment. `changed` is called when an answer may matter to a key."""

    changed: Callable[[Key], None]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    port: int = names.PORT
    _known: dict[Key, dict[ServerStart, _Followed]] = field(default_factory=lambda: defaultdict(dict))
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _session: aiohttp.ClientSession | None = None

    def of(self, key: Key, pods: Iterable[Object]) -> Mapping[Revision, Exam]:
        """What is known of the exams of these pods, by revision. Those that are not known are asked from now on; those
        that are not among `pods` any more are forgotten."""
        followed = self._known[key]
        present = {pod.start: pod for each in pods if (pod := listening_pod(each, self.now())) is not None}
        for start in followed.keys() - present.keys():
            _stop(followed.pop(start))
        for start, pod in present.items():
            if start not in followed and pod.ask:
                new = followed[start] = _Followed(pod.revision)
                new.task = asyncio.get_running_loop().create_task(self._follow(key, pod, new))
        if not followed:
            del self._known[key]
        found: dict[Revision, Exam] = {}
        for each in followed.values():
            if each.exam is not None and worse(each.exam, found.get(each.revision)):
                found[each.revision] = each.exam
        return found

    def forget(self, key: Key) -> None:
        """The ModelDeployment is no more."""
        for each in self._known.pop(key, {}).values():
            _stop(each)

    async def close(self) -> None:
        """End all asking."""
        for key in [*self._known]:
            self.forget(key)
        if self._session is not None:
            await self._session.close()

    async def _follow(self, key: Key, pod: ListeningPod, followed: _Followed) -> None:
        """Ask until there is a verdict, or there is no exam."""
        pause = FIRST_PAUSE
        while True:
            async with self._places:
                answer = await self._ask(pod)
            if answer is not None:
                exam, followed.over = answer
                if exam != followed.exam:
                    followed.exam = exam
                    self.changed(key)
                if followed.over:
                    if exam is not None:
                        log.info(
                            "exam.over",
                            revision=followed.revision,
                            pod=pod.name,
                            outcome=exam.outcome,
                            message=exam.message,
                        )
                    return
            await asyncio.sleep(pause.total_seconds())
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _ask(self, pod: ListeningPod) -> tuple[Exam | None, bool] | None:
        """The exam and whether it is over; None when the pod does not say."""
        if self._session is None:
            # Without proxies: pods are never behind one.
            timeout = aiohttp.ClientTimeout(total=TIMEOUT.total_seconds())
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        try:
            url = f"http://{host}:{self.port}{EXAM_PATH}"
            async with self._session.get(url, allow_redirects=False) as answer:
                if answer.status == 404:
                    return None, True  # a middleware that knows of no exams
                if answer.status != 200:
                    return None
                return exam_of(await _body(answer))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """At most MAX_BYTES of it."""
    chunks, length = [], 0
    async for chunk in answer.content.iter_chunked(MAX_BYTES):
        chunks.append(chunk)
        length += len(chunk)
        if length > MAX_BYTES:
            return b""
    return b"".join(chunks)


def _stop(followed: _Followed) -> None:
    if followed.task is not None:
        followed.task.cancel()
