"""Formats actions and events of a pass for a log line. Nothing is decided here."""

from typing import Any

from modelsync.rollout.model import BLOCKED, Action, Event, SetRoute


def action_text(action: Action) -> str:
    """`EnsureRevision(v1-94ad0a89, replicas=1)`, `SetRoute(v0-f719cdec 80 %, v1-94ad0a89 20 %)`."""
    if isinstance(action, SetRoute):
        parts = [revision if revision == BLOCKED else f"{revision} {weight} %" for revision, weight in action.weights]
        parts += [f"{rule.kind.value} to {rule.revision}" for rule in action.rules]
    else:
        fields: list[tuple[str, Any]] = [
            (name, getattr(action, name)) for name in action.__dataclass_fields__ if name != "reason"
        ]
        parts = [str(value) if number == 0 else f"{name}={value}" for number, (name, value) in enumerate(fields)]
    return f"{type(action).__name__}({', '.join(parts)})"


def event_text(event: Event) -> str:
    """`Promoted: v1-94ad0a89 is the stable revision`. Logged because the API server keeps Events for only an hour."""
    return f"{event.reason}: {event.note}"
