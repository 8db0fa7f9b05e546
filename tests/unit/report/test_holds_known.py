"""`HoldsKnown`, `status.holdsKnownAt`, and what Ready and the events say when the registry is silent."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from modelsync.api.conditions import Condition
from modelsync.api.hold import OnStale
from modelsync.api.status import ModelDeploymentStatus
from modelsync.report.events import transitions
from modelsync.report.holds_known import holds_known_at
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import (
    BLOCKED,
    Observed,
    RegistryOutcome,
    RegistryView,
    State,
)
from unit.rollout.worlds import (
    JUST_NOW,
    LONG_AGO,
    NOW,
    POLICY,
    V1,
    V2,
    V3,
    candidate,
    cold,
    conditions,
    read,
    reads,
    route,
    status_of,
    up,
    world,
)

LIMIT = timedelta(minutes=5)
SERVE = replace(POLICY, max_staleness=LIMIT)
BLOCK = replace(SERVE, on_stale=OnStale.BLOCK)
SERVER = "https://wandb.example.com"
AT = NOW - timedelta(minutes=7)
SILENT = RegistryView(
    RegistryOutcome.UNREACHABLE, candidate(V2), AT, "connection refused", AT + timedelta(seconds=30), server=SERVER
)


def silent(asked_at: datetime = AT, **changes: object) -> Observed:
    """The registry has not answered since `asked_at`."""
    marks = {"digest-v2": replace(read(V2, asked_at=asked_at), server=SERVER)}
    values: dict[str, object] = {"policy": SERVE, "holds": marks, "registry": SILENT, **changes}
    return world(**values)


def blocked() -> Observed:
    return silent(policy=BLOCK, route=route((BLOCKED, 1)), service=BLOCKED)


def known(observed: Observed) -> Condition:
    return conditions(status_of(observed))["HoldsKnown"]


def remembered(observed: Observed) -> datetime | None:
    return holds_known_at(Facts(observed, observed.state.holds))


# --- the condition ---------------------------------------------------------------------------------------------------


def test_while_the_registry_answers_the_holds_are_known() -> None:
    condition = known(world(policy=SERVE))
    assert (condition.status, condition.reason) == ("True", "Fresh")


def test_before_the_first_read_it_is_unknown_and_names_the_version() -> None:
    condition = known(world(policy=SERVE, holds={}, registry=RegistryView(RegistryOutcome.PENDING, candidate(V2))))
    assert (condition.status, condition.reason) == ("Unknown", "Resolving")
    assert "v2 (v2-22222222)" in condition.message
    nothing = world(policy=SERVE, named=None, state=State(), views=(), route=None, service=None, holds={})
    assert known(nothing).status == "Unknown"


def test_silence_is_told_so_that_an_sre_knows_at_night_what_to_do() -> None:
    condition = known(silent())
    assert (condition.status, condition.reason) == ("False", "Stale")
    assert condition.message == (
        "the hold marks of v2 (v2-22222222) have not been read since 2025-12-31 23:53:00 UTC from "
        "https://wandb.example.com, longer than hold.maxStaleness (5m): a hold set since then is not seen; what "
        "serves keeps serving, but no rollout to it proceeds; to stop all that serves, set spec.replicas to 0; check "
        "the server, the network and the API key (kubectl modelsync doctor); last answer: Unreachable, connection "
        "refused"
    )


def test_it_says_that_traffic_is_blocked_where_it_is() -> None:
    assert "no traffic goes there until the marks are read again; then it returns by itself" in known(blocked()).message


def test_a_version_of_unknown_content_is_told_as_such() -> None:
    nameless = up(V2, digests=(), content="", recorded=False, unread_since=AT)
    message = known(silent(views=(cold(V1), nameless), named=V3, holds=reads())).message
    assert (
        "the record of v2 (v2-22222222) is gone, so its content is not known: move the alias to replace it" in message
    )


def test_the_condition_does_not_change_with_the_clock() -> None:
    later = replace(silent(), now=NOW + timedelta(hours=3))
    assert (known(later).reason, known(later).message) == (known(silent()).reason, known(silent()).message)


# --- Ready, waiting, events ------------------------------------------------------------------------------------------


def test_what_serves_as_asked_stays_ready_while_the_registry_is_silent() -> None:
    status = status_of(silent())
    assert (status.phase, conditions(status)["Ready"].status) == ("Healthy", "True")
    assert status.waiting is None


def test_a_blocked_one_is_not_ready_and_waits_for_the_registry() -> None:
    for observed in (blocked(), silent(policy=BLOCK)):  # after and before the route is written
        status = status_of(observed)
        ready = conditions(status)["Ready"]
        assert (status.phase, ready.status, ready.reason) == ("Blocked", "False", "HoldsStale")
        assert "clients get 503" in ready.message
        assert "hold.onStale is Block" in ready.message
        assert "OnHold" not in conditions(status), "no hold was seen"
        assert conditions(status)["Stalled"].status == "True"
        assert status.waiting is not None
        assert (status.waiting.reason, status.waiting.who) == ("HoldsStale", "registry")
    assert conditions(status_of(blocked()))["Available"].status == "False"


def test_a_rollout_that_waits_for_marks_says_so() -> None:
    observed = world(policy=SERVE, named=V3, holds={**reads(), "digest-v3": read(V3, asked_at=AT)})
    status = status_of(observed)
    assert (status.phase, conditions(status)["Ready"].reason) == ("Pending", "HoldsStale")
    assert status.waiting is not None
    assert (status.waiting.reason, status.waiting.who) == ("HoldsStale", "registry")
    assert "v3 (v3-33333333)" in conditions(status)["HoldsKnown"].message


def test_an_event_tells_when_the_knowledge_becomes_too_old_and_when_it_is_fresh_again() -> None:
    fresh, stale = status_of(world(policy=SERVE)), status_of(silent())
    (event,) = (event for event in transitions(fresh, stale) if event.reason == "Stale")
    assert (event.type, event.action, event.note) == ("Warning", "Hold", known(silent()).message)
    assert not transitions(stale, stale)
    assert [event.type for event in transitions(stale, fresh) if event.reason == "Fresh"] == ["Normal"]
    assert not [event for event in transitions(ModelDeploymentStatus(), fresh) if event.reason == "Fresh"]


# --- what a new process needs to know --------------------------------------------------------------------------------


def test_a_quiet_world_remembers_nothing() -> None:
    """Else every poll would be a write."""
    assert remembered(world(policy=SERVE)) is None
    assert remembered(world(policy=SERVE, holds={**reads(), "digest-v2": read(V2, asked_at=LONG_AGO)})) == LONG_AGO


def test_what_was_known_is_remembered_as_soon_as_the_registry_falls_silent() -> None:
    at = NOW - timedelta(seconds=40)
    fallen = replace(SILENT, since=NOW - timedelta(seconds=10))
    assert remembered(silent(at, registry=fallen)) == at


def test_reads_that_go_on_are_not_remembered_although_the_alias_is_missing() -> None:
    missing = replace(SILENT, outcome=RegistryOutcome.MISSING, since=LONG_AGO)
    assert remembered(silent(JUST_NOW, registry=missing)) is None


@pytest.mark.parametrize("outcome", [RegistryOutcome.PENDING, RegistryOutcome.UNREACHABLE])
def test_a_new_process_remembers_since_when_it_has_read_nothing(outcome: RegistryOutcome) -> None:
    views = (cold(V1), up(V2, unread_since=AT))
    started = world(policy=SERVE, holds={}, views=views, registry=RegistryView(outcome, candidate(V2)))
    assert remembered(started) == AT
    assert status_of(started).holds_known_at == AT
