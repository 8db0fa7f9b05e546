"""The HTTPRoute as it is written, and as a live one is read."""

from copy import deepcopy
from typing import Any

import pytest

from modelsync.api import names
from modelsync.api.spec import Gateway
from modelsync.resources.objects import Object, Owner
from modelsync.resources.route import http_route, read_route

ONE, TWO = "v7-3fa9c1d2", "v8-00c0ffee"
GATEWAY = Gateway.model_validate(
    {
        "parentRefs": [{"name": "models", "namespace": "gateways", "sectionName": "https"}, {"name": "inner"}],
        "hostnames": ["chat.example.com"],
    }
)


@pytest.fixture
def live(owner: Owner) -> Object:
    """A route that both gateways have accepted at its generation."""
    route = http_route(owner, GATEWAY, ((ONE, 95), (TWO, 5)))
    route["metadata"] |= {"generation": 3, "annotations": {"someone.else/note": "kept"}}
    route["status"] = {
        "parents": [
            answer({"name": "models", "namespace": "gateways", "sectionName": "https"}, 3),
            answer({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "inner", "namespace": "prod"}, 3),
        ]
    }
    return route


def answer(parent: Object, generation: int, **said: str) -> Object:
    status = {"Accepted": "True", "ResolvedRefs": "True"} | said
    return {
        "parentRef": parent,
        "controllerName": "example.com/gateway",
        "conditions": [
            {
                "type": kind,
                "status": value,
                "observedGeneration": generation,
                "reason": "Because",
                "message": "so it is",
            }
            for kind, value in status.items()
        ],
    }


def test_the_route_publishes_v1_only_with_every_weight_even_zero(owner: Owner) -> None:
    route = http_route(owner, GATEWAY, ((ONE, 100), (TWO, 0)))
    assert route["spec"]["rules"] == [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}],
            "backendRefs": [
                {"group": "", "kind": "Service", "name": "chat-v7-3fa9c1d2", "port": 8000, "weight": 100},
                {"group": "", "kind": "Service", "name": "chat-v8-00c0ffee", "port": 8000, "weight": 0},
            ],
        }
    ]


def test_parents_and_hosts_are_the_specs(owner: Owner) -> None:
    spec = http_route(owner, GATEWAY, ((ONE, 100),))["spec"]
    group = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
    assert spec["parentRefs"] == [
        group | {"name": "models", "namespace": "gateways", "sectionName": "https"},
        group | {"name": "inner"},
    ]
    assert spec["hostnames"] == ["chat.example.com"]
    anywhere = GATEWAY.model_copy(update={"hostnames": []})
    assert "hostnames" not in http_route(owner, anywhere, ((ONE, 100),))["spec"]


def test_blocked_is_one_backend_that_leads_nowhere(owner: Owner) -> None:
    (rule,) = http_route(owner, GATEWAY, ((names.BLOCKED, 1),))["spec"]["rules"]
    (backend,) = rule["backendRefs"]
    assert (backend["name"], backend["weight"]) == ("chat-blocked", 1)


def test_a_hold_is_told_on_the_route_and_only_then(owner: Owner) -> None:
    held = http_route(owner, GATEWAY, ((names.BLOCKED, 1),), hold="regulatory-hold on v7")
    assert held["metadata"]["annotations"] == {"modelsync.dev/hold": "regulatory-hold on v7"}
    assert "annotations" not in http_route(owner, GATEWAY, ((ONE, 100),))["metadata"]


@pytest.mark.parametrize("weights", [((ONE, 95), (TWO, 5)), ((ONE, 100), (TWO, 0)), ((names.BLOCKED, 1),)])
def test_a_route_is_read_back_as_it_was_written(owner: Owner, weights: tuple[tuple[str, int], ...]) -> None:
    found = read_route(http_route(owner, GATEWAY, weights), owner, GATEWAY)
    assert found.weights == weights
    assert not found.drifted


def test_it_is_accepted_when_every_parent_says_both_at_this_generation(owner: Owner, live: Object) -> None:
    found = read_route(live, owner, GATEWAY)
    assert (found.accepted, found.message, found.drifted) == (True, "", False)


def test_a_parent_that_has_not_answered_leaves_it_open(owner: Owner, live: Object) -> None:
    live["status"]["parents"].pop()
    found = read_route(live, owner, GATEWAY)
    assert found.accepted is None
    assert found.message.startswith("Gateway prod/inner has not answered")


@pytest.mark.parametrize("generation", [2, 4, None])
def test_an_answer_to_another_generation_is_no_answer(owner: Owner, live: Object, generation: int | None) -> None:
    live["metadata"]["generation"] = generation
    assert read_route(live, owner, GATEWAY).accepted is None


@pytest.mark.parametrize("condition", ["Accepted", "ResolvedRefs"])
def test_one_no_is_a_no_even_while_others_have_not_answered(owner: Owner, live: Object, condition: str) -> None:
    inner = answer({"name": "inner"}, 3, **{condition: "False"})
    live["status"]["parents"] = [inner]
    found = read_route(live, owner, GATEWAY)
    assert found.accepted is False
    assert found.message == f"Gateway prod/inner: {condition}=False, Because: so it is"


def test_a_condition_that_is_missing_or_unknown_leaves_it_open(owner: Owner, live: Object) -> None:
    live["status"]["parents"][0] = answer(
        {"name": "models", "namespace": "gateways", "sectionName": "https"}, 3, ResolvedRefs="Unknown"
    )
    found = read_route(live, owner, GATEWAY)
    assert found.accepted is None
    assert found.message == "Gateway gateways/models listener https has not yet said ResolvedRefs of the latest change"


def test_the_answer_of_a_parent_that_is_not_ours_counts_for_nothing(owner: Owner, live: Object) -> None:
    live["status"]["parents"].append(answer({"name": "foreign"}, 3, Accepted="False"))
    assert read_route(live, owner, GATEWAY).accepted is True


def test_another_listener_of_the_same_gateway_is_another_parent(owner: Owner, live: Object) -> None:
    live["status"]["parents"][0]["parentRef"]["sectionName"] = "http"
    assert read_route(live, owner, GATEWAY).accepted is None


def changed(live: Object, change: str) -> Object:
    spec = live["spec"]
    rule = spec["rules"][0]
    match change:
        case "another rule":
            spec["rules"].append(deepcopy(rule))
        case "a filter":
            rule["filters"] = [{"type": "RequestMirror"}]
        case "another path":
            rule["matches"][0]["path"]["value"] = "/"
        case "a match on a header":
            rule["matches"][0]["headers"] = [{"name": "x", "value": "y"}]
        case "a foreign backend":
            rule["backendRefs"].append({"group": "", "kind": "Service", "name": "other", "port": 8000, "weight": 1})
        case "a filter on a backend":
            rule["backendRefs"][0]["filters"] = []
        case "another port":
            rule["backendRefs"][0]["port"] = 80
        case "another host":
            spec["hostnames"] = ["other.example.com"]
        case "a parent less":
            spec["parentRefs"].pop()
        case "no rules":
            del spec["rules"]
    return live


@pytest.mark.parametrize(
    "change",
    [
        "another rule", "a filter", "another path", "a match on a header", "a foreign backend", "a filter on a backend",
        "another port", "another host", "a parent less", "no rules",
    ],
)  # fmt: skip
def test_whatever_someone_changed_is_drift(owner: Owner, live: Object, change: str) -> None:
    assert read_route(changed(live, change), owner, GATEWAY).drifted


def test_changed_weights_are_read_and_are_no_drift(owner: Owner, live: Object) -> None:
    live["spec"]["rules"][0]["backendRefs"][1]["weight"] = 50
    found = read_route(live, owner, GATEWAY)
    assert found.weights == ((ONE, 95), (TWO, 50))
    assert not found.drifted


def test_a_second_rule_cannot_hide_the_exposure_of_a_revision(owner: Owner, live: Object) -> None:
    live["spec"]["rules"].append({"backendRefs": [{"name": "chat-v6-deadbeef", "weight": 1}]})
    assert ("v6-deadbeef", 1) in read_route(live, owner, GATEWAY).weights


@pytest.mark.parametrize(
    "spoilt",
    [
        {},
        {"spec": None, "status": None, "metadata": None},
        {"spec": {"rules": [None, {"backendRefs": None}, {"backendRefs": ["x", {"name": None, "weight": "1"}]}]}},
        {"status": {"parents": [None, {"parentRef": None, "conditions": [None, {}]}]}},
    ],
)
def test_whatever_stands_in_a_route_it_can_be_read(owner: Owner, spoilt: dict[str, Any]) -> None:
    found = read_route(spoilt, owner, GATEWAY)
    assert found.accepted is None
    assert found.drifted
