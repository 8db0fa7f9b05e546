"""What a pass has to say beside the new state: events, waits, ended moves, and whether to look at the registry.

Written while the rules are walked through, so that the sentence stands where the decision is made.
"""

from dataclasses import dataclass, field
from datetime import datetime

from modelsync.api.reasons import Reason
from modelsync.rollout.model import Event, Finished, Outcome, Revision, Wait


@dataclass(slots=True)
class Notes:
    """Collected in one pass and handed out with the plan."""

    events: list[Event] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    look: bool = False

    def wait(self, reason: Reason, revision: Revision | None = None, until: datetime | None = None) -> None:
        """Something has to happen first."""
        wait = Wait(reason, revision, until)
        if wait not in self.waits:
            self.waits.append(wait)

    def tell(self, reason: Reason, action: str, note: str, revision: Revision | None = None) -> None:
        """An event that people expect to see."""
        self.events.append(Event("Normal", reason, action, note, revision))

    def warn(self, reason: Reason, action: str, note: str, revision: Revision | None = None) -> None:
        """An event that somebody should look at."""
        self.events.append(Event("Warning", reason, action, note, revision))

    def has_told(self, reason: Reason) -> bool:
        """An event with this reason is among them."""
        return any(event.reason == reason for event in self.events)

    def finish(self, revision: Revision, outcome: Outcome, reason: str, started_at: datetime) -> None:
        """A move came to its end."""
        self.finished.append(Finished(revision, outcome, reason, started_at))
