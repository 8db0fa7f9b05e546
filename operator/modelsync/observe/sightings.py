"""Remembers since when this process has observed something whose time no object contains."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(slots=True)
class Sightings:
    """First observation of each fact, by ModelDeployment. Lost when the process ends."""

    _since: dict[str, dict[tuple[str, ...], datetime]] = field(default_factory=lambda: defaultdict(dict))

    def since(self, uid: str, what: tuple[str, ...], now: datetime) -> datetime:
        """When `what` was first observed to be true for the ModelDeployment `uid`."""
        return self._since[uid].setdefault(what, now)

    def has(self, uid: str, what: tuple[str, ...]) -> bool:
        """Whether `what` has been observed to be true."""
        return what in self._since[uid]

    def ended(self, uid: str, what: tuple[str, ...]) -> None:
        """Record that `what` is not true now."""
        self._since[uid].pop(what, None)

    def forget(self, uid: str) -> None:
        """Drop everything about a deleted ModelDeployment."""
        self._since.pop(uid, None)
