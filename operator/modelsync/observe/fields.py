"""Reads fields of Kubernetes objects that anyone may have written. Never raises: a value of the wrong type is empty."""

from datetime import UTC, datetime
from typing import Any

from modelsync.api.kinds import Object, mapping, sequence

MIN_YEAR, MAX_YEAR = 1970, 9000


def objects(value: Any) -> list[Object]:
    """The dicts in `value`; empty if it is not a list."""
    return [item for item in sequence(value) if isinstance(item, dict)]


def condition(obj: Object, kind: str) -> Object:
    """The condition of that type in the object's status; empty if there is none."""
    return next(
        (each for each in objects(mapping(obj.get("status")).get("conditions")) if each.get("type") == kind), {}
    )


def container_statuses(pod: Object) -> list[Object]:
    """The statuses of the pod's containers, without init containers."""
    return objects(mapping(pod.get("status")).get("containerStatuses"))


def init_container_statuses(pod: Object) -> list[Object]:
    """The statuses of the pod's init containers."""
    return objects(mapping(pod.get("status")).get("initContainerStatuses"))


def last_termination(status: Object) -> Object:
    """The last `terminated` state of a container; while it waits or runs again, that is in `lastState`."""
    now = mapping(mapping(status.get("state")).get("terminated"))
    return now or mapping(mapping(status.get("lastState")).get("terminated"))


def restarts(status: Object) -> int:
    """The restart count of a container."""
    count = status.get("restartCount")
    return count if isinstance(count, int) else 0


def parse_time(value: Any) -> datetime | None:
    """Read a Kubernetes timestamp; None for anything else, and for a year that no clock shows: adding to it fails."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    if not MIN_YEAR <= parsed.year <= MAX_YEAR:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
