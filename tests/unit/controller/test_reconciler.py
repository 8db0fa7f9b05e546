"""What a pass reports when not all of its writes succeeded."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from modelsync.api.kinds import Key
from modelsync.cluster.errors import ClusterError, ConflictError
from modelsync.controller.instrumentation import Instrumentation
from modelsync.controller.reconciler import Reconciler
from modelsync.observe.family import Family
from modelsync.observe.hold_watch import Marks
from modelsync.rollout.model import Event
from modelsync.telemetry.metrics import Metrics
from unit.observe.builders import KEY, SETTINGS, family
from unit.observe.test_gather import NOW, answers, resolved


@dataclass
class Api:
    """Stands in for everything a pass writes to: status writes succeed, actions raise `refusal`."""

    refusal: ClusterError | None = None
    statuses: list[dict[str, Any]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    again: list[Key] = field(default_factory=list)

    async def write_status(self, _owner: dict[str, Any], status: dict[str, Any]) -> None:
        self.statuses.append(status)

    async def stamp(self, _gathered: Any, _epoch: int) -> bool:
        return False

    async def apply(self, _gathered: Any, plan: Any) -> Any:
        if self.refusal is not None:
            raise self.refusal
        return plan.actions

    async def record(self, _owner: dict[str, Any], event: Event) -> None:
        self.events.append(event)

    def add(self, key: Key) -> None:
        self.again.append(key)


def reconciler(api: Api, found: Family) -> Reconciler:
    """Return a reconciler whose registry resolves the alias to v7."""

    async def live(_known: Family) -> Family:
        return found

    async def subscription(*_: Any, **__: Any) -> Any:
        return SimpleNamespace()

    def nothing(*_: Any, **__: Any) -> None:
        return None

    async def no_watches(*_: Any) -> dict[Any, Any]:
        return {}

    poller = SimpleNamespace(subscribe=nothing, look=nothing, snapshot=lambda _key: answers(resolved()))
    parts: dict[str, Any] = {
        "cache": SimpleNamespace(),
        "cached": SimpleNamespace(family=lambda _key: found),
        "live": SimpleNamespace(family=live),
        "applier": api,
        "silences": SimpleNamespace(keep_only=nothing, of=lambda _uid: ()),
        "recorder": api,
        "credentials": SimpleNamespace(subscription=subscription, credential_problem=nothing),
        "poller": poller,
        "guard": SimpleNamespace(watch=no_watches, release=nothing, look=nothing, marks=lambda *_: Marks()),
        "adapters": SimpleNamespace(),
        "queue": api,
        "exams": SimpleNamespace(poll=lambda _key, _pods: {}),
    }
    return Reconciler(
        **cast(Any, parts), settings=SETTINGS, epoch="1", instrumentation=Instrumentation(Metrics()), now=lambda: NOW
    )


async def test_the_event_of_a_written_status_is_recorded_although_its_actions_are_refused() -> None:
    api = Api(refusal=ConflictError("written by another"))
    with structlog.testing.capture_logs() as lines, pytest.raises(ConflictError):
        await reconciler(api, family()).reconcile(KEY)
    assert [status["target"]["reason"] for status in api.statuses] == ["First"]
    assert [event.reason for event in api.events] == ["First"], "the next pass finds no difference in the status"
    (line,) = lines
    assert (line["event"], line["actions"], line["status"]) == ("reconciled", [], True)
    assert line["events"][0].startswith("First: v7-")
    assert api.again == [], "the caller decides when to retry"


async def test_a_complete_pass_is_logged_and_queues_the_key_again() -> None:
    api = Api()
    with structlog.testing.capture_logs() as lines:
        await reconciler(api, family()).reconcile(KEY)
    assert [event.reason for event in api.events] == ["First"]
    assert [line["actions"] for line in lines] == [["SetRoute(blocked)"]]
    assert api.again == [KEY]
