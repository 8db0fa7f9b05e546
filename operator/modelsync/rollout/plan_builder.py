"""The parts of a plan beside the new state: events, waits, finished moves, and whether to ask the registry again.

The rules add to it as they decide, so that the sentence of an event stands where the decision is made.
"""

from dataclasses import dataclass, field
from datetime import datetime

from modelsync.api.reasons import Reason
from modelsync.rollout.model import Event, Finished, Outcome, Revision, Wait


@dataclass(slots=True)
class PlanBuilder:
    """Filled in one pass; `plan` copies it into the Plan."""

    events: list[Event] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    look: bool = False

    def wait(self, reason: Reason, revision: Revision | None = None, until: datetime | None = None) -> None:
        """Add a wait: something has to happen before the next move."""
        wait = Wait(reason, revision, until)
        if wait not in self.waits:
            self.waits.append(wait)

    def normal(self, reason: Reason, action: str, note: str, revision: Revision | None = None) -> None:
        """Add a Normal event."""
        self.events.append(Event("Normal", reason, action, note, revision))

    def warning(self, reason: Reason, action: str, note: str, revision: Revision | None = None) -> None:
        """Add a Warning event."""
        self.events.append(Event("Warning", reason, action, note, revision))

    def has_event(self, reason: Reason) -> bool:
        """Whether an event with this reason was added."""
        return any(event.reason == reason for event in self.events)

    def finish(self, revision: Revision, outcome: Outcome, reason: str, started_at: datetime) -> None:
        """Add a move that ended in this pass."""
        self.finished.append(Finished(revision, outcome, reason, started_at))
