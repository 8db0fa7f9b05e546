"""Since when this process has seen something that no object carries a time of."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(slots=True)
class Sightings:
    """Since when this process has seen something that no object carries a time of."""

    _since: dict[str, dict[tuple[str, ...], datetime]] = field(default_factory=lambda: defaultdict(dict))

    def since(self, uid: str, what: tuple[str, ...], now: datetime) -> datetime:
        """When `what` was first seen to hold of the ModelDeployment `uid`."""
        return self._since[uid].setdefault(what, now)

    def has(self, uid: str, what: tuple[str, ...]) -> bool:
        """Whether `what` was seen to hold."""
        return what in self._since[uid]

    def ended(self, uid: str, what: tuple[str, ...]) -> None:
        """`what` does not hold now."""
        self._since[uid].pop(what, None)

    def forget(self, uid: str) -> None:
        """The ModelDeployment is no more."""
        self._since.pop(uid, None)
