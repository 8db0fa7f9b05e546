"""Finished pulls of a pod's init containers, from their termination messages."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelsync.api.kinds import Object, mapping
from modelsync.api.pod_contract import TerminationMessage
from modelsync.observe.fields import init_container_statuses, parse_time

UNTOLD = "Untold"
"""The outcome of a pull that ended without a result: it was killed or ran out of memory."""


@dataclass(frozen=True, slots=True)
class EndedPull:
    """One finished pull."""

    container: str
    at: datetime
    """When it ended, by the kubelet's clock, in whole seconds."""
    outcome: str
    """`Pulled`, `AlreadyPublished`, or the name of a failure (`modelsync.puller.errors`)."""
    fetched: int
    """Downloaded bytes."""
    seconds: float


def ended_pulls(pod: Object) -> Iterator[EndedPull]:
    """The finished pulls that the pod's status still contains: the last two of each init container."""
    for container in init_container_statuses(pod):
        for state in ("lastState", "state"):
            ended = mapping(mapping(container.get(state)).get("terminated"))
            if ended and (pull := _read(str(container.get("name")), ended)) is not None:
                yield pull


def _read(container: str, ended: Mapping[str, Any]) -> EndedPull | None:
    at = parse_time(ended.get("finishedAt"))
    if at is None:
        return None
    result = TerminationMessage.parse(ended.get("message"))
    if result is None:
        return None if ended.get("exitCode") == 0 else EndedPull(container, at, UNTOLD, 0, 0.0)
    return EndedPull(
        container=container,
        at=at,
        outcome=result.outcome or UNTOLD,
        fetched=max(0, result.bytes - result.reused_bytes),
        seconds=float(result.seconds),
    )
