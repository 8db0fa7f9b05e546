"""How a version's own exam stands, as its pods and the status say. What a pod answers is a tenant's word: it is cut and
checked, and what cannot be read says nothing.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelsync.api import duration, names
from modelsync.api.kinds import Object, labels_of, name_of, uid_of
from modelsync.api.pod_contract import SERVE_CONTAINER
from modelsync.api.status import ModelDeploymentStatus
from modelsync.observe.pods import parse_time
from modelsync.rollout.model import Exam, ExamOutcome, Revision

FRESH = timedelta(minutes=5)
"""A pod that is ready for longer is not asked: it has passed, and an operator that starts must not ask them all."""

MAX_MESSAGE = 500
MAX_COUNT = 10_000
MAX_SECONDS = 86_400.0

_WORST = (ExamOutcome.INVALID, ExamOutcome.FAILED, ExamOutcome.PASSED, ExamOutcome.RUNNING)
"""What is told of several pods. A pod that begins anew does not take back that others have passed."""

ServerStart = tuple[str, int]
"""A pod's uid and how often its server was restarted: each start takes the exam anew."""


@dataclass(frozen=True, slots=True)
class ListeningPod:
    start: ServerStart
    name: str
    revision: Revision
    address: str
    ask: bool


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


def worse(exam: Exam, than: Exam | None) -> bool:
    return than is None or _WORST.index(exam.outcome) < _WORST.index(than.outcome)


def listening_pod(pod: Object, now: datetime) -> ListeningPod | None:
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
    return ListeningPod((uid_of(pod), restarts), name_of(pod), revision, address, ask=not ready_for_long)


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
