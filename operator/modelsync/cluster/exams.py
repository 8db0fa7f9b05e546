"""Asks pods how their version's own exam stands (`GET /modelsync/exam`), beside the passes, and remembers verdicts.

A pass only reads what is known and says which pods there are; the asking goes on in tasks of its own, bounded in number
and time, and puts the key into the queue when there is something new. What a pod answers is a tenant's word: it is cut,
checked, and never more than told. Nothing here may hold up a pass or a hold.
"""

import asyncio
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import structlog

from modelsync.api import duration, names
from modelsync.api.status import ModelDeploymentStatus
from modelsync.cluster.kinds import Key, Object, labels_of, name_of, uid_of
from modelsync.cluster.pods import parse_time
from modelsync.middleware import EXAM_PATH
from modelsync.resources.pod import SERVE_CONTAINER
from modelsync.rollout.model import Exam, ExamOutcome, Revision

AT_ONCE = 32
"""Requests under way, whatever the number of pods."""

TIMEOUT = timedelta(seconds=2)
FIRST_PAUSE = timedelta(milliseconds=500)
LONGEST_PAUSE = timedelta(seconds=5)
"""Between two questions to one pod: an exam takes seconds to minutes."""

FRESH = timedelta(minutes=5)
"""A pod that is ready for longer is not asked: it has passed, and an operator that starts must not ask them all."""

MAX_BYTES = 64 << 10
MAX_MESSAGE = 500
MAX_COUNT = 10_000
MAX_SECONDS = 86_400.0

log = structlog.get_logger(__name__)

_WORST = (ExamOutcome.INVALID, ExamOutcome.FAILED, ExamOutcome.PASSED, ExamOutcome.RUNNING)
"""What is told of several pods. A pod that begins anew does not take back that others have passed."""

_Start = tuple[str, int]
"""A pod's uid and how often its server was restarted: each start takes the exam anew."""


@dataclass(slots=True)
class _Followed:
    """One start of a pod's server. `over`: there is a verdict, or there is no exam; it is not asked again."""

    revision: Revision
    exam: Exam | None = None
    over: bool = False
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class _Pod:
    start: _Start
    name: str
    revision: Revision
    address: str
    ask: bool


@dataclass(slots=True)
class Exams:
    """How the exams stand, by ModelDeployment. `changed` is called when an answer may matter to a key."""

    changed: Callable[[Key], None]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    port: int = names.PORT
    _known: dict[Key, dict[_Start, _Followed]] = field(default_factory=lambda: defaultdict(dict))
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _session: aiohttp.ClientSession | None = None

    def of(self, key: Key, pods: Iterable[Object]) -> Mapping[Revision, Exam]:
        """What is known of the exams of these pods, by revision. Those that are not known are asked from now on; those
        that are not among `pods` any more are forgotten."""
        followed = self._known[key]
        present = {pod.start: pod for each in pods if (pod := _pod(each, self.now())) is not None}
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
            if each.exam is not None and _worse(each.exam, found.get(each.revision)):
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

    async def _follow(self, key: Key, pod: _Pod, followed: _Followed) -> None:
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

    async def _ask(self, pod: _Pod) -> tuple[Exam | None, bool] | None:
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


def with_earlier(exams: Mapping[Revision, Exam], status: ModelDeploymentStatus) -> Mapping[Revision, Exam]:
    """`exams`, and what the status tells of exams that were passed: pods that have long been ready are not asked again,
    and one that begins anew takes nothing back. What was failed is not taken over: retry has to try it anew."""
    found = dict(exams)
    for each in status.exams:
        known = found.get(each.revision)
        if each.outcome == "Passed" and (known is None or known.outcome is ExamOutcome.RUNNING):
            found[each.revision] = Exam(
                ExamOutcome.PASSED, each.passed, each.total, _told_seconds(each.duration), each.message or ""
            )
    return found


def exam_of(body: bytes) -> tuple[Exam | None, bool] | None:
    """What the middleware says, checked: the exam, and whether it is over. None when it cannot be read."""
    try:
        said = json.loads(body)
        state = said["state"]
        if state == "None":
            return None, True
        if state in ("Pending", "Running"):
            return Exam(ExamOutcome.RUNNING), False
        exam = Exam(
            outcome=ExamOutcome(state),
            passed=_count(said["passed"]),
            total=_count(said["total"]),
            seconds=_seconds(said["seconds"]),
            message=_message(said["message"]),
        )
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return exam, True


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """At most MAX_BYTES of it."""
    chunks, length = [], 0
    async for chunk in answer.content.iter_chunked(MAX_BYTES):
        chunks.append(chunk)
        length += len(chunk)
        if length > MAX_BYTES:
            return b""
    return b"".join(chunks)


def _worse(exam: Exam, than: Exam | None) -> bool:
    return than is None or _WORST.index(exam.outcome) < _WORST.index(than.outcome)


def _stop(followed: _Followed) -> None:
    if followed.task is not None:
        followed.task.cancel()


def _pod(pod: Object, now: datetime) -> _Pod | None:
    """A pod whose server listens; None for one that has not come so far, or ends. Whatever stands in it, this does not
    raise."""
    status = pod.get("status")
    revision = labels_of(pod).get(names.REVISION_LABEL)
    if not isinstance(status, Mapping) or not revision or pod["metadata"].get("deletionTimestamp"):
        return None
    server = next((each for each in _dicts(status.get("containerStatuses")) if each.get("name") == SERVE_CONTAINER), {})
    restarts, address = server.get("restartCount"), status.get("podIP")
    # `started` is set by the startup probe: before it nobody listens.
    if server.get("started") is not True or not isinstance(restarts, int) or not isinstance(address, str):
        return None
    ready = next((each for each in _dicts(status.get("conditions")) if each.get("type") == "Ready"), {})
    since = parse_time(ready.get("lastTransitionTime"))
    ready_for_long = ready.get("status") == "True" and (since is None or since + FRESH < now)
    return _Pod((uid_of(pod), restarts), name_of(pod), revision, address, ask=not ready_for_long)


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _told_seconds(text: str | None) -> float:
    try:
        return duration.parse(text or "0s").total_seconds()
    except ValueError:
        return 0.0


def _count(value: Any) -> int:
    return min(max(int(value), 0), MAX_COUNT)


def _seconds(value: Any) -> float:
    seconds = float(value)
    return min(max(seconds, 0.0), MAX_SECONDS) if math.isfinite(seconds) else 0.0


def _message(value: Any) -> str:
    """One printable line."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"
