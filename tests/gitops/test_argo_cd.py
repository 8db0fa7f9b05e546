"""Argo CD's health and actions, run as by Argo CD, on the object of each row of the truth table."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from generate import gitops
from gitops.judge import SCRIPTS, JudgeError, Object, Question, answers, enabled, health, patch
from gitops.recorded import kept, recorded
from modelsync.api.requests import ABORT, REFRESH, Request, Requests
from modelsync.api.roles import STEERING
from modelsync.rollout import plan
from unit.report.test_truth_table import ROWS
from unit.rollout.worlds import in_canary

SUSPENDED = {"a canary waits for a person", "suspended on its target", "suspended in mid-canary"}
NOBODY_IS_SERVED = "the stable has no pod"


def expected(row: str) -> str:
    if row in SUSPENDED:
        return "Suspended"
    if ROWS[row].stalled or row == NOBODY_IS_SERVED:
        return "Degraded"
    return "Healthy" if ROWS[row].ready == "True" else "Progressing"


def test_every_row_of_the_truth_table_has_its_health() -> None:
    found = health([recorded(row) for row in ROWS])
    assert {row: answer["status"] for row, answer in zip(ROWS, found, strict=True)} == {
        row: expected(row) for row in ROWS
    }
    assert all(answer["message"] for answer in found)


def test_a_status_of_an_older_spec_is_progressing_in_any_case() -> None:
    older = [recorded(row) for row in ROWS]
    for obj in older:
        obj["metadata"]["generation"] += 1
    unanswered = recorded("before the first answer")
    del unanswered["status"]
    for answer in health([*older, unanswered]):
        assert answer == {"status": "Progressing", "message": "Waiting for the spec to be observed"}


def test_what_is_being_deleted_is_progressing() -> None:
    obj = recorded("what the alias names serves fully")
    obj["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z"
    assert health([obj])[0]["status"] == "Progressing"


def test_the_message_names_who_has_to_act() -> None:
    (answer,) = health([recorded("a canary waits for a person")])
    assert answer["message"].endswith("; waits for a person's promote")


ALWAYS = {"refresh"}
CANARY = {"abort", "pause"}
ENABLED = {
    "what the alias names serves fully": {"pause"},
    "a canary is in a timed pause": {*CANARY, "promote", "promote-full"},
    "a canary waits for a person": {*CANARY, "promote", "promote-full"},
    "a canary is brought up": {*CANARY, "promote-full"},
    "a canary is promoted": CANARY,
    "going back": CANARY,
    "the canary was taken back and is still named": {"pause", "retry"},
    "suspended on its target": {"resume"},
    "suspended in mid-canary": {"abort", "resume"},
    "before the first answer": {"pause"},
}


def test_only_applicable_actions_are_offered() -> None:
    found = enabled([recorded(row) for row in ENABLED])
    assert dict(zip(ENABLED, found, strict=True)) == {row: ALWAYS | actions for row, actions in ENABLED.items()}


@pytest.mark.parametrize(
    ("action", "row"),
    [
        ("promote", "a canary waits for a person"),
        ("promote-full", "a canary waits for a person"),
        ("abort", "a canary waits for a person"),
        ("abort", "going back"),
        ("retry", "the canary was taken back and is still named"),
    ],
)
def test_a_click_is_a_request_that_the_operator_acts_on(action: str, row: str) -> None:
    sent = patch(action, recorded(row))
    value = sent["metadata"]["annotations"].pop(f"modelsync.dev/{action}")
    assert sent == {"metadata": {"annotations": {}}}, "nothing else of the object changes"
    asked = Request.parse(value)
    assert asked.token.isdigit()
    assert asked.by == ""
    observed = ROWS[row].observed
    before = observed.state
    made = plan(replace(observed, requests=Requests(**{action.replace("-", "_"): value})))
    assert made.state != before
    assert getattr(made.state.handled, action.replace("-", "_")) == value
    assert not [event for event in made.events if event.reason == "RequestIgnored"]


def test_a_look_at_the_registry_is_asked_for_by_a_new_token() -> None:
    sent = patch("refresh", recorded("what the alias names serves fully"))
    value = sent["metadata"]["annotations"].pop(REFRESH.annotation)
    assert sent == {"metadata": {"annotations": {}}}
    assert value.isdigit()
    assert plan(in_canary(requests=Requests(requested_at=value))).look


def test_forward_moves_are_suspended_and_resumed_by_the_spec() -> None:
    assert patch("pause", recorded("a canary waits for a person")) == {"spec": {"suspend": True}}
    assert patch("resume", recorded("suspended in mid-canary")) == {"spec": {"suspend": False}}


def test_an_object_without_annotations_can_be_asked_too() -> None:
    obj = recorded("a canary waits for a person")
    del obj["metadata"]["annotations"]
    assert list(patch("abort", obj)["metadata"]["annotations"]) == [ABORT.annotation]


@pytest.mark.parametrize("action", ["promote", "promote-full", "abort", "retry"])
def test_an_action_that_does_not_apply_returns_an_error(action: str) -> None:
    with pytest.raises(JudgeError, match=r"nothing|has not failed"):
        patch(action, recorded("what the alias names serves fully"))


def test_there_is_exactly_one_action_for_each_request() -> None:
    steering = {right.verb for right in STEERING} - {"suspend", "release"} | {"pause"}
    assert set(gitops.ACTIONS) == steering
    assert {path.parent.name for path in SCRIPTS.glob("actions/*/action.lua")} == steering
    discovered = answers([Question("discovery", recorded("going back"), read("actions/discovery.lua"))])
    assert set(discovered[0]) == steering


def read(name: str) -> str:
    return (SCRIPTS / name).read_text()


def test_the_stored_objects_match_the_operators_current_reports() -> None:
    again = "PYTHONPATH=operator:hack:tests python tests/gitops/recorded.py"
    assert {path: path.read_text() for path in kept()} == kept(), f"rewrite them: {again}"


@pytest.mark.parametrize("case", yaml.safe_load(read("health_test.yaml"))["tests"], ids=lambda case: case["inputPath"])
def test_argo_cds_own_table_of_health_holds(case: dict[str, Any]) -> None:
    (answer,) = health([load(SCRIPTS / case["inputPath"])])
    assert answer == case["healthStatus"]


@pytest.mark.parametrize(
    "case", yaml.safe_load(read("actions/action_test.yaml"))["discoveryTests"], ids=lambda case: case["inputPath"]
)
def test_argo_cds_own_table_of_actions_holds(case: dict[str, Any]) -> None:
    (answer,) = answers(
        [Question("discovery", load(SCRIPTS / "actions" / case["inputPath"]), read("actions/discovery.lua"))]
    )
    assert [{"name": name} | answer[name] for name in gitops.ACTIONS] == case["result"]


def load(path: Path) -> Object:
    return dict(yaml.safe_load(path.read_text()))


def test_the_addition_to_argocd_cm_holds_the_same_scripts() -> None:
    data = yaml.safe_load((gitops.ARGO_CD / "argocd-cm.yaml").read_text())["data"]
    assert data["resource.customizations.health.modelsync.dev_ModelDeployment"] == read("health.lua")
    actions = yaml.safe_load(data["resource.customizations.actions.modelsync.dev_ModelDeployment"])
    assert actions["discovery.lua"] == read("actions/discovery.lua")
    assert {action["name"]: action["action.lua"] for action in actions["definitions"]} == {
        name: read(f"actions/{name}/action.lua") for name in gitops.ACTIONS
    }


def test_an_empty_pause_survives_lua() -> None:
    obj = recorded("a canary waits for a person")
    assert {"pause": {}} in obj["spec"]["rollout"]["steps"]
    assert "rollout" not in patch("pause", deepcopy(obj))["spec"]
