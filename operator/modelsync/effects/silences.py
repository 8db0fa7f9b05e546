"""Remembers which pods of held revisions have acknowledged that they stopped responding, as seen by this process.

A hold never waits for an acknowledgement: the next pass reports those that have arrived. The memory is lost with the
process; by then the pods are deleted, or their fuse is blown again. Nothing is decided here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from modelsync.observe.fuse import Acknowledgement
from modelsync.report.silences import Silence
from modelsync.rollout.model import Revision


@dataclass(slots=True)
class _FuseRequest:
    """The first fuse request to a revision's pods, and the response of each pod by its uid."""

    at: datetime
    pods: dict[str, Acknowledgement | None] = field(default_factory=dict)


class Silences:
    """The responses of pods, by ModelDeployment uid, revision and pod uid."""

    def __init__(self) -> None:
        self._requests: dict[str, dict[Revision, _FuseRequest]] = {}

    def record(self, uid: str, revision: Revision, at: datetime, answers: Mapping[str, Acknowledgement | None]) -> None:
        """Store the responses to the requests sent at `at`; None for a pod that did not acknowledge."""
        request = self._requests.setdefault(uid, {}).setdefault(revision, _FuseRequest(at))
        request.pods.update(answers)

    def is_acknowledged(self, uid: str, revision: Revision, pod: str) -> bool:
        """Whether the pod has acknowledged, so that it needs no further request."""
        request = self._requests.get(uid, {}).get(revision)
        answer = request.pods.get(pod) if request is not None else None
        return answer is not None and answer.whole

    def of(self, uid: str) -> tuple[Silence, ...]:
        """Return a summary for each revision of a ModelDeployment whose pods got a request."""
        return tuple(_summary(revision, request) for revision, request in self._requests.get(uid, {}).items())

    def keep_only(self, uid: str, held: frozenset[Revision]) -> None:
        """Forget the revisions of a ModelDeployment that are no longer held."""
        for revision in self._requests.get(uid, {}).keys() - held:
            del self._requests[uid][revision]

    def forget(self, uid: str) -> None:
        """Forget a ModelDeployment that was deleted."""
        self._requests.pop(uid, None)


def _summary(revision: Revision, request: _FuseRequest) -> Silence:
    answers = [answer for answer in request.pods.values() if answer is not None]
    return Silence(
        revision=revision,
        at=request.at,
        pods=len(request.pods),
        acknowledged=sum(answer.whole for answer in answers),
        last_byte=max((answer.last_byte for answer in answers if answer.last_byte is not None), default=None),
    )
