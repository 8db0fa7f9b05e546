"""Events: a transition is reported once, and every event is in the catalogue."""

import ast
import re
from pathlib import Path

from modelsync.api.reasons import Reason
from modelsync.api.status import ModelDeploymentStatus, ResolvedStatus
from modelsync.report.events import EVENTS, transitions
from modelsync.rollout.model import Event, RegistryOutcome, RegistryView
from unit.rollout.worlds import JUST_NOW, LONG_AGO, NOW, V2, V3, reads, status_of, world

GOLDEN = Path(__file__).parents[2] / "golden"
ROLLOUT = Path(__file__).parents[3] / "operator" / "modelsync" / "rollout"


def resolved(version: str, first_seen: object = LONG_AGO) -> ResolvedStatus:
    return ResolvedStatus.model_validate(
        {
            "alias": "production",
            "collection": "acme/r/chat",
            "version": version,
            "artifactID": version,
            "digest": f"digest-{version}",
            "firstSeen": first_seen,
            "revision": f"{version}-11111111",
            "content": version,
        }
    )


def away(outcome: RegistryOutcome = RegistryOutcome.UNREACHABLE) -> ModelDeploymentStatus:
    return status_of(world(registry=RegistryView(outcome, None, JUST_NOW, message="no answer within 30 s")))


def brief(events: tuple[Event, ...]) -> list[tuple[str, str, str]]:
    return [(event.type, event.reason, event.action) for event in events]


def test_an_alias_that_moves_is_reported_with_both_versions() -> None:
    before = ModelDeploymentStatus(resolved=resolved("v2"))
    after = ModelDeploymentStatus(resolved=resolved("v3", NOW))
    (event,) = transitions(before, after)
    assert (event.type, event.reason) == ("Normal", "AliasMoved")
    assert event.note == "acme/r/chat:production now names v3 (was v2)"
    assert transitions(after, after) == ()
    assert transitions(ModelDeploymentStatus(), after) == (), "the first answer is no move"


def test_what_needs_a_user_is_reported_once_with_the_next_step() -> None:
    serving, denied = status_of(world()), away(RegistryOutcome.DENIED)
    (event,) = transitions(serving, denied)
    assert brief((event,)) == [("Warning", "Denied", "Stall")]
    assert event.note == "no answer within 30 s"
    assert transitions(denied, denied) == ()


def test_a_registry_that_becomes_unreachable_and_recovers_is_reported_both_times() -> None:
    serving = status_of(world())
    assert brief(transitions(serving, away())) == [("Warning", "Unreachable", "Resolve")]
    assert brief(transitions(away(), serving)) == [("Normal", "Resolved", "Resolve")]


def test_a_start_of_the_operator_is_no_event_of_the_registry() -> None:
    pending = status_of(world(registry=RegistryView(RegistryOutcome.PENDING, None, None)))
    assert transitions(status_of(world()), pending) == ()
    assert transitions(pending, status_of(world())) == ()


def test_a_hold_is_reported_by_the_planner_alone() -> None:
    held = status_of(world(named=V3, holds=reads(V2, V3)))
    assert held.phase == "Blocked"
    assert transitions(status_of(world()), held) == ()


def test_a_version_that_fails_is_not_reported_twice() -> None:
    serving = status_of(world())
    stalled = away(RegistryOutcome.DENIED)
    planned = [Event("Warning", Reason.FAILED, "Judge", "v3 has failed")]
    assert "Stall" not in {event.action for event in transitions(serving, stalled, planned)}


def in_golden_logs() -> set[tuple[str, str]]:
    line = re.compile(r"event (Normal|Warning) (\w+):")
    return {(kind, reason) for log in GOLDEN.glob("*.log") for kind, reason in line.findall(log.read_text())}


def test_every_event_of_the_golden_logs_is_in_the_table() -> None:
    assert in_golden_logs() <= {(kind.type, kind.reason) for kind in EVENTS}


def test_every_action_that_the_planner_names_is_in_the_table() -> None:
    """Read from the source, because not every transition occurs in a golden log."""
    named = set()
    for path in ROLLOUT.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("normal", "warning")
            ):
                kind = {"normal": "Normal", "warning": "Warning"}[node.func.attr]
                reason, action = node.args[0], node.args[1]
                assert isinstance(action, ast.Constant)
                if isinstance(reason, ast.Attribute):
                    named.add((kind, Reason[reason.attr].value, action.value))
    assert len(named) > 8
    assert named <= {(kind.type, kind.reason, kind.action) for kind in EVENTS}


def test_every_reason_of_the_table_is_a_reason() -> None:
    words = {kind.reason for kind in EVENTS if " " not in kind.reason}
    assert words <= {reason.value for reason in Reason}
    assert len({(kind.type, kind.reason, kind.action) for kind in EVENTS}) == len(EVENTS)
