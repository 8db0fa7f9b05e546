"""Which pods of held revisions have acknowledged that they are silent, as far as this process was told.

Kept beside the passes: a hold never waits for an acknowledgement, and what is known when it comes is told by the next
pass. Lost with the process; the pods are gone by then, or are asked again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from modelsync.observe.fuse import Acknowledgement
from modelsync.report.silences import Silence
from modelsync.rollout.model import Revision


@dataclass(slots=True)
class _Told:
    at: datetime
    pods: dict[str, Acknowledgement | None] = field(default_factory=dict)


class Silences:
    """By ModelDeployment and revision, what each pod answered; pods and ModelDeployments by their uids."""

    def __init__(self) -> None:
        self._told: dict[str, dict[Revision, _Told]] = {}

    def record(self, uid: str, revision: Revision, at: datetime, answers: Mapping[str, Acknowledgement | None]) -> None:
        """Pods of the revision were told at `at`; None is one that did not acknowledge."""
        told = self._told.setdefault(uid, {}).setdefault(revision, _Told(at))
        told.pods.update(answers)

    def is_whole(self, uid: str, revision: Revision, pod: str) -> bool:
        """Whether that pod has acknowledged, so that it need not be told again."""
        told = self._told.get(uid, {}).get(revision)
        answer = told.pods.get(pod) if told is not None else None
        return answer is not None and answer.whole

    def of(self, uid: str) -> tuple[Silence, ...]:
        """What is known of the revisions of a ModelDeployment."""
        return tuple(_summary(revision, told) for revision, told in self._told.get(uid, {}).items())

    def keep(self, uid: str, held: frozenset[Revision]) -> None:
        """Forget the revisions of a ModelDeployment that are not held any more."""
        for revision in self._told.get(uid, {}).keys() - held:
            del self._told[uid][revision]

    def forget(self, uid: str) -> None:
        """The ModelDeployment is no more."""
        self._told.pop(uid, None)


def _summary(revision: Revision, told: _Told) -> Silence:
    answers = [answer for answer in told.pods.values() if answer is not None]
    return Silence(
        revision=revision,
        at=told.at,
        pods=len(told.pods),
        acknowledged=sum(answer.whole for answer in answers),
        last_byte=max((answer.last_byte for answer in answers if answer.last_byte is not None), default=None),
    )
