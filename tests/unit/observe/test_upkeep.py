"""Which differences are corrected, and which are not differences."""

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from modelsync.observe.family import Family
from modelsync.observe.gather import gather
from modelsync.observe.sightings import Sightings
from modelsync.observe.spec_status import read
from modelsync.observe.upkeep import covers, upkeep
from modelsync.resources.children import disruption_budget
from modelsync.rollout.model import State
from unit.observe.builders import OWNER, SETTINGS, a_record, family, live


@pytest.mark.parametrize(
    ("live_value", "wanted"),
    [
        ({"a": 1, "b": 2}, {"a": 1}),
        ({"a": [{"x": 1, "default": 2}]}, {"a": [{"x": 1}]}),
        ({"resources": {"limits": {"cpu": "1"}}}, {"resources": {"limits": {"cpu": "1000m"}}}),
        ({"resources": {"requests": {"memory": "512Mi"}}}, {"resources": {"requests": {"memory": "536870912"}}}),
        ({"volumes": [{"emptyDir": {"sizeLimit": "1Ki"}}]}, {"volumes": [{"emptyDir": {"sizeLimit": "1024"}}]}),
        ({}, {"empty": {}, "none": None, "text": "", "list": []}),
        (None, {}),
    ],
)
def test_what_the_api_server_adds_or_writes_otherwise_is_no_difference(live_value: Any, wanted: Any) -> None:
    assert covers(live_value, wanted)


@pytest.mark.parametrize(
    ("live_value", "wanted"),
    [
        ({"a": 1}, {"a": 2}),
        ({}, {"a": 1}),
        ({"a": [1, 2]}, {"a": [1]}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": [2, 1]}, {"a": [1, 2]}),
        ({"resources": {"limits": {"cpu": "2"}}}, {"resources": {"limits": {"cpu": "1000m"}}}),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "1000m"}]}),
        ({"args": ["1k"]}, {"args": ["1000"]}),
        ({"annotations": {"limits": "1"}}, {"annotations": {"limits": "1.0"}}),
        ({"a": "text"}, {"a": {"b": 1}}),
        ({"flag": False}, {"flag": True}),
    ],
)
def test_what_is_missing_or_other_is_a_difference(live_value: Any, wanted: Any) -> None:
    assert not covers(live_value, wanted)


def pieces(found: Family) -> list[tuple[str, str]]:
    """What must be written, by kind and name, if the only revision is the stable."""
    (name,) = [each.removeprefix("chat-") for each in found.deployments]
    gathered = gather(
        read(found, SETTINGS),
        settings=SETTINGS,
        answers=None,
        refusal=None,
        sightings=Sightings(),
        now=datetime(2026, 11, 21, tzinfo=UTC),
    )
    return [(str(piece.kind), piece.wanted["metadata"]["name"]) for piece in upkeep(gathered, State(promoted=(name,)))]


@pytest.fixture
def whole() -> Family:
    """A family that is as wanted."""
    made = a_record()
    revision = made[0].revision
    budget = live(disruption_budget(OWNER, revision))
    return family(made, weights=((revision, 100),), plain=revision, budgets={"chat": budget})


def changed(found: Family, field: str, name: str, change: Any) -> Family:
    obj = copy.deepcopy(getattr(found, field)[name])
    change(obj)
    parts = {each: getattr(found, each) for each in Family.__slots__}
    return Family(**parts | {field: {**getattr(found, field), name: obj}})


def test_a_world_that_is_as_wanted_needs_nothing(whole: Family) -> None:
    assert pieces(whole) == []


def test_a_number_of_pods_is_the_planners_business(whole: Family) -> None:
    (name,) = whole.deployments
    assert pieces(changed(whole, "deployments", name, lambda obj: obj["spec"].update(replicas=7))) == []


def test_a_template_that_was_edited_is_taken_back_to_the_record(whole: Family) -> None:
    (name,) = whole.deployments

    def edit(obj: Any) -> None:
        obj["spec"]["template"]["spec"]["containers"][0]["image"] = "evil/image:v1"

    assert pieces(changed(whole, "deployments", name, edit)) == [("Deployment", name)]


def test_a_selector_with_a_key_more_is_put_right(whole: Family) -> None:
    (name,) = whole.deployments
    edited = changed(whole, "services", name, lambda obj: obj["spec"]["selector"].update(extra="key"))
    assert pieces(edited) == [("Service", name)]


def test_the_blocked_service_and_the_budget_are_there_before_they_are_needed(whole: Family) -> None:
    parts = {each: getattr(whole, each) for each in Family.__slots__}
    services = {name: each for name, each in whole.services.items() if name != "chat-blocked"}
    bare = Family(**parts | {"services": services, "budgets": {}})
    assert pieces(bare) == [("Service", "chat-blocked"), ("PodDisruptionBudget", "chat")]


def test_a_deployment_that_is_gone_is_the_planners_business(whole: Family) -> None:
    parts = {each: getattr(whole, each) for each in Family.__slots__}
    (name,) = whole.deployments
    kept = {each: obj for each, obj in whole.services.items() if each != name}
    assert ("Service", name) not in pieces(Family(**parts | {"services": kept}))
