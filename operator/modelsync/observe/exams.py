"""The state of a version's own exam, from its pods and from the status.

A tenant's pod can answer anything: answers are truncated and checked, and ignored if they cannot be read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelsync.api import duration, names
from modelsync.api.foreign_json import read_object
from modelsync.api.kinds import Object, labels_of, name_of, uid_of
from modelsync.api.pod_contract import SERVE_CONTAINER
from modelsync.api.status import ModelDeploymentStatus
from modelsync.observe.fields import condition, container_statuses, parse_time
from modelsync.rollout.model import Exam, ExamOutcome, Revision

FRESH = timedelta(minutes=5)
"""A pod that has been ready for longer has passed and is not queried, so a starting operator does not query all."""

MAX_BYTES = 64 << 10
"""Of an answer."""
MAX_MESSAGE = 500
MAX_COUNT = 10_000
MAX_SECONDS = 86_400.0

_WORST = (ExamOutcome.INVALID, ExamOutcome.FAILED, ExamOutcome.PASSED, ExamOutcome.RUNNING)
"""Precedence when pods differ. A pod that takes the exam again does not override a pass of others."""

ServerStart = tuple[str, int]
"""A pod's uid and the restart count of its server: each start takes the exam again."""


@dataclass(frozen=True, slots=True)
class ListeningPod:
    start: ServerStart
    name: str
    revision: Revision
    address: str
    ask: bool


def with_earlier(exams: Mapping[Revision, Exam], status: ModelDeploymentStatus) -> Mapping[Revision, Exam]:
    """`exams`, plus passed exams from the status: pods that have long been ready are not queried, and a pod that takes
    the exam again does not revoke a pass. Failed exams are not carried over, since a retry must take them again."""
    found = dict(exams)
    for each in status.exams:
        known = found.get(each.revision)
        if each.outcome == "Passed" and (known is None or known.outcome is ExamOutcome.RUNNING):
            found[each.revision] = Exam(
                ExamOutcome.PASSED, each.passed, each.total, _parsed_seconds(each.duration), each.message or ""
            )
    return found


def exam_of(body: bytes) -> tuple[Exam | None, bool] | None:
    """Read the middleware's answer: the exam, and whether it has finished. None if it is not valid."""
    try:
        answer = read_object(body, max_bytes=MAX_BYTES)
        state = answer["state"]
        if state == "None":
            return None, True
        if state in ("Pending", "Running"):
            return Exam(ExamOutcome.RUNNING), False
        exam = Exam(
            outcome=ExamOutcome(state),
            passed=_count(answer["passed"]),
            total=_count(answer["total"]),
            seconds=_seconds(answer["seconds"]),
            message=_message(answer["message"]),
        )
    except (ValueError, LookupError, TypeError, OverflowError):
        return None
    return exam, True


def worse(exam: Exam, than: Exam | None) -> bool:
    return than is None or _WORST.index(exam.outcome) < _WORST.index(than.outcome)


def listening_pod(pod: Object, now: datetime) -> ListeningPod | None:
    """The pod, if its server is listening; None if it has not started or is terminating. Never raises, whatever the
    object contains."""
    status = pod.get("status")
    revision = labels_of(pod).get(names.REVISION_LABEL)
    if not isinstance(status, Mapping) or not revision or pod["metadata"].get("deletionTimestamp"):
        return None
    server = next((each for each in container_statuses(pod) if each.get("name") == SERVE_CONTAINER), {})
    restarts, address = server.get("restartCount"), status.get("podIP")
    # The startup probe sets `started`; before that, the server does not listen.
    if server.get("started") is not True or not isinstance(restarts, int) or not isinstance(address, str):
        return None
    ready = condition(pod, "Ready")
    since = parse_time(ready.get("lastTransitionTime"))
    ready_for_long = ready.get("status") == "True" and (since is None or since + FRESH < now)
    return ListeningPod((uid_of(pod), restarts), name_of(pod), revision, address, ask=not ready_for_long)


def _parsed_seconds(text: str | None) -> float:
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
    """`value` as one printable line of limited length."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"
