"""Log lines show actions and events in a short form."""

import pytest

from modelsync.api.routing import Rule, RuleKind
from modelsync.controller.log_fields import action_text, event_text
from modelsync.rollout.model import BLOCKED, Action, CutOff, EnsureRevision, Event, PointService, Remove, SetRoute

V1, V2 = "v1-11111111", "v2-22222222"


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (SetRoute(((V1, 80), (V2, 20)), "why"), f"SetRoute({V1} 80 %, {V2} 20 %)"),
        (SetRoute(((V1, 100),), "why", (Rule(V2, RuleKind.TEST),)), f"SetRoute({V1} 100 %, Test to {V2})"),
        (SetRoute(((BLOCKED, 1),), "why"), "SetRoute(blocked)"),
        (EnsureRevision(V2, 3), f"EnsureRevision({V2}, replicas=3)"),
        (PointService(V1), f"PointService({V1})"),
        (Remove(V1, forget=False), f"Remove({V1}, forget=False)"),
        (CutOff(V1), f"CutOff({V1})"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_an_action_is_shown_with_its_revisions_and_numbers(action: Action, text: str) -> None:
    assert action_text(action) == text


def test_an_event_is_shown_with_its_reason() -> None:
    assert event_text(Event("Normal", "Promoted", "Promote", f"{V1} is the stable revision", V1)) == (
        f"Promoted: {V1} is the stable revision"
    )
