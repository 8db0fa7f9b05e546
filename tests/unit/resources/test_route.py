"""Rendering the HTTPRoute, and reading a live one."""

from copy import deepcopy
from typing import Any

import pytest

from modelsync.api import names
from modelsync.api.routing import HeaderMatch, Routing, Rule, RuleKind
from modelsync.api.traffic import Traffic
from modelsync.resources.objects import Object, Owner
from modelsync.resources.route import http_route, read_route

ONE, TWO = "v7-3fa9c1d2", "v8-00c0ffee"
PARENTS = [{"name": "models", "namespace": "gateways", "sectionName": "https"}, {"name": "inner"}]


def traffic(*, gateway: dict[str, Any] | None = None, **parts: Any) -> Traffic:
    parent = {"parentRefs": PARENTS, "hostnames": ["chat.example.com"]}
    return Traffic.model_validate({"gateway": parent | (gateway or {}), **parts})


GATEWAY = traffic()


@pytest.fixture
def live(owner: Owner) -> Object:
    """A route that both gateways accepted at its generation."""
    route = http_route(owner, GATEWAY, Routing(((ONE, 95), (TWO, 5))))
    route["metadata"] |= {"generation": 3, "annotations": {"someone.else/note": "kept"}}
    route["status"] = {
        "parents": [
            answer({"name": "models", "namespace": "gateways", "sectionName": "https"}, 3),
            answer({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "inner", "namespace": "prod"}, 3),
        ]
    }
    return route


def answer(parent: Object, generation: int, **conditions: str) -> Object:
    status = {"Accepted": "True", "ResolvedRefs": "True"} | conditions
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
    route = http_route(owner, GATEWAY, Routing(((ONE, 100), (TWO, 0))))
    assert route["spec"]["rules"] == [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}],
            "backendRefs": [
                {"group": "", "kind": "Service", "name": "chat-v7-3fa9c1d2", "port": 8000, "weight": 100},
                {"group": "", "kind": "Service", "name": "chat-v8-00c0ffee", "port": 8000, "weight": 0},
            ],
            "timeouts": {"request": "0s"},
        }
    ]


def test_parents_and_hosts_are_the_specs(owner: Owner) -> None:
    spec = http_route(owner, GATEWAY, Routing(((ONE, 100),)))["spec"]
    group = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
    assert spec["parentRefs"] == [
        group | {"name": "models", "namespace": "gateways", "sectionName": "https"},
        group | {"name": "inner"},
    ]
    assert spec["hostnames"] == ["chat.example.com"]
    anywhere = traffic(gateway={"hostnames": []})
    assert "hostnames" not in http_route(owner, anywhere, Routing(((ONE, 100),)))["spec"]


def test_blocked_is_one_backend_that_leads_nowhere(owner: Owner) -> None:
    (rule,) = http_route(owner, GATEWAY, Routing(((names.BLOCKED, 1),)))["spec"]["rules"]
    (backend,) = rule["backendRefs"]
    assert (backend["name"], backend["weight"]) == ("chat-blocked", 1)


def test_the_route_has_an_annotation_only_during_a_hold(owner: Owner) -> None:
    held = http_route(owner, GATEWAY, Routing(((names.BLOCKED, 1),)), hold="regulatory-hold on v7")
    assert held["metadata"]["annotations"] == {"modelsync.dev/hold": "regulatory-hold on v7"}
    assert "annotations" not in http_route(owner, GATEWAY, Routing(((ONE, 100),)))["metadata"]


@pytest.mark.parametrize("weights", [((ONE, 95), (TWO, 5)), ((ONE, 100), (TWO, 0)), ((names.BLOCKED, 1),)])
def test_a_route_is_read_back_as_it_was_written(owner: Owner, weights: tuple[tuple[str, int], ...]) -> None:
    found = read_route(http_route(owner, GATEWAY, Routing(weights)), owner, GATEWAY)
    assert found.routing.weights == weights
    assert not found.drifted


def test_it_is_accepted_when_every_parent_reports_both_for_this_generation(owner: Owner, live: Object) -> None:
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
    assert (
        found.message
        == "Gateway gateways/models listener https has not yet reported ResolvedRefs for the latest change"
    )


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
    assert found.routing.weights == ((ONE, 95), (TWO, 50))
    assert not found.drifted


def test_a_second_rule_cannot_hide_the_exposure_of_a_revision(owner: Owner, live: Object) -> None:
    live["spec"]["rules"].append({"backendRefs": [{"name": "chat-v6-deadbeef", "weight": 1}]})
    assert ("v6-deadbeef", 1) in read_route(live, owner, GATEWAY).routing.weights


@pytest.mark.parametrize(
    "spoilt",
    [
        {},
        {"spec": None, "status": None, "metadata": None},
        {"spec": {"rules": [None, {"backendRefs": None}, {"backendRefs": ["x", {"name": None, "weight": "1"}]}]}},
        {"status": {"parents": [None, {"parentRef": None, "conditions": [None, {}]}]}},
    ],
)
def test_any_content_of_a_route_can_be_read(owner: Owner, spoilt: dict[str, Any]) -> None:
    found = read_route(spoilt, owner, GATEWAY)
    assert found.accepted is None
    assert found.drifted


# --- rules before the weights ----------------------------------------------------------------------------------------

SEGMENT = Rule(TWO, RuleKind.SEGMENT, (HeaderMatch("x-group", "internal"), HeaderMatch("x-id", "^b.*$", regex=True)))
TESTED = traffic(testHeader="X-Model-Revision")
SHARES = ((ONE, 95), (TWO, 5))


def test_a_segment_is_a_rule_of_its_own_before_the_shares(owner: Owner) -> None:
    first, last = http_route(owner, GATEWAY, Routing(SHARES, (SEGMENT,)))["spec"]["rules"]
    path = {"type": "PathPrefix", "value": "/v1"}
    assert first["matches"] == [
        {"path": path, "headers": [{"type": "Exact", "name": "x-group", "value": "internal"}]},
        {"path": path, "headers": [{"type": "RegularExpression", "name": "x-id", "value": "^b.*$"}]},
    ]
    assert [(backend["name"], backend["weight"]) for backend in first["backendRefs"]] == [("chat-v8-00c0ffee", 1)]
    assert last["matches"] == [{"path": path}]


def test_the_test_header_names_a_revision_or_its_version(owner: Owner) -> None:
    first, _ = http_route(owner, TESTED, Routing(SHARES, (Rule(TWO, RuleKind.TEST),)))["spec"]["rules"]
    assert [match["headers"] for match in first["matches"]] == [
        [{"type": "Exact", "name": "X-Model-Revision", "value": TWO}],
        [{"type": "Exact", "name": "X-Model-Revision", "value": "v8"}],
    ]


def test_of_two_revisions_of_one_version_the_version_names_the_stable(owner: Owner) -> None:
    other = "v7-00c0ffee"
    rules = (Rule(ONE, RuleKind.TEST), Rule(other, RuleKind.TEST))
    stable, canary, _ = http_route(owner, TESTED, Routing(((ONE, 95), (other, 5)), rules))["spec"]["rules"]
    values = [[match["headers"][0]["value"] for match in rule["matches"]] for rule in (stable, canary)]
    assert values == [[ONE, "v7"], [other]]
    alone = http_route(owner, TESTED, Routing(((ONE, 100), (other, 0)), rules[1:]))["spec"]["rules"][0]
    assert [match["headers"][0]["value"] for match in alone["matches"]] == [other]


def test_every_path_is_published_in_every_rule(owner: Owner) -> None:
    both = traffic(gateway={"paths": ["/v1", "/score"]})
    segment, shares = http_route(owner, both, Routing(SHARES, (SEGMENT,)))["spec"]["rules"]
    assert [match["path"]["value"] for match in segment["matches"]] == ["/v1", "/v1", "/score", "/score"]
    assert [match["path"]["value"] for match in shares["matches"]] == ["/v1", "/score"]


def test_the_most_that_a_spec_may_ask_for_is_a_route_that_the_gateway_api_takes(owner: Owner) -> None:
    """At most 16 rules, 64 matches in one, 128 in all."""
    most = traffic(gateway={"paths": [f"/v{number}" for number in range(6)]}, testHeader="x-model")
    match = tuple(HeaderMatch(f"x-{number}", "y") for number in range(8))
    weights = (*SHARES, ("v6-deadbeef", 0))
    rules = (
        *(Rule(revision, RuleKind.TEST) for revision, _ in weights),
        Rule(TWO, RuleKind.SEGMENT, match),
        *(Rule(revision, RuleKind.SESSION) for revision, _ in SHARES),
    )
    matches = [len(rule["matches"]) for rule in http_route(owner, most, Routing(weights, rules))["spec"]["rules"]]
    assert len(matches) <= 16
    assert max(matches) <= 64
    assert sum(matches) < 128


def test_only_what_goes_by_the_weights_is_to_be_given_a_cookie(owner: Owner) -> None:
    sticky = traffic(sessionAffinity={"maxAge": "10m"})
    rules = (SEGMENT, Rule(ONE, RuleKind.SESSION), Rule(TWO, RuleKind.SESSION))
    route = http_route(owner, sticky, Routing(SHARES, rules))
    assert ["filters" in rule for rule in route["spec"]["rules"]] == [False, False, False, True]
    assert read_route(route, owner, sticky).routing == Routing(SHARES, rules)
    assert not read_route(route, owner, sticky).drifted
    alone = http_route(owner, sticky, Routing(((ONE, 100),)))
    assert "filters" not in alone["spec"]["rules"][0]


@pytest.mark.parametrize(
    "rules",
    [
        (SEGMENT,),
        (Rule(TWO, RuleKind.TEST),),
        (Rule(ONE, RuleKind.TEST), Rule(TWO, RuleKind.TEST), SEGMENT),
        (SEGMENT, Rule(ONE, RuleKind.SESSION), Rule(TWO, RuleKind.SESSION)),
    ],
)
def test_rules_are_read_back_as_they_were_written(owner: Owner, rules: tuple[Rule, ...]) -> None:
    both = traffic(gateway={"paths": ["/v1", "/score"]}, testHeader="X-Model-Revision")
    found = read_route(http_route(owner, both, Routing(SHARES, rules)), owner, both)
    assert found.routing == Routing(SHARES, rules)
    assert not found.drifted


@pytest.mark.parametrize("spoil", ["value", "order", "weight", "filters", "timeouts"])
def test_a_rule_that_someone_changed_is_drift(owner: Owner, spoil: str) -> None:
    route = http_route(owner, TESTED, Routing(SHARES, (Rule(TWO, RuleKind.TEST), SEGMENT)))
    rules = route["spec"]["rules"]
    match spoil:
        case "value":
            rules[0]["matches"][0]["headers"][0]["value"] = ONE
        case "order":
            rules.reverse()
        case "weight":
            rules[1]["backendRefs"][0]["weight"] = 2
        case "filters":
            rules[1]["filters"] = [{"type": "RequestMirror"}]
        case "timeouts":
            del rules[2]["timeouts"]
    assert read_route(route, owner, TESTED).drifted


def test_a_rule_that_a_stranger_wrote_cannot_hide_an_exposure(owner: Owner, live: Object) -> None:
    headers = [{"type": "Exact", "name": "x", "value": "y"}, {"type": "Exact", "name": "z", "value": "y"}]
    strange = {"matches": [{"headers": headers}], "backendRefs": [{"name": "chat-v6-deadbeef"}]}
    live["spec"]["rules"].insert(0, strange)
    found = read_route(live, owner, GATEWAY)
    assert found.drifted
    assert found.routing.rules_to("v6-deadbeef")


def test_a_request_lives_as_long_as_it_is_allowed_to(owner: Owner) -> None:
    minutes = traffic(gateway={"requestTimeout": "10m"})
    for rule in http_route(owner, minutes, Routing(SHARES, (SEGMENT,)))["spec"]["rules"]:
        assert rule["timeouts"] == {"request": "10m"}


def test_a_port_makes_another_parent(owner: Owner) -> None:
    one = traffic(gateway={"parentRefs": [{"name": "models", "port": 443}]})
    route = http_route(owner, one, Routing(SHARES))
    assert route["spec"]["parentRefs"][0]["port"] == 443
    route["metadata"]["generation"] = 1
    route["status"] = {"parents": [answer({"name": "models"}, 1)]}
    assert read_route(route, owner, one).message.startswith("Gateway prod/models port 443 has not answered")
    route["status"] = {"parents": [answer({"name": "models", "port": 443}, 1)]}
    assert read_route(route, owner, one).accepted is True


def test_a_route_of_which_the_gateway_drops_rules_is_not_accepted(owner: Owner, live: Object) -> None:
    """A controller may report Accepted together with PartiallyInvalid: it may have dropped the canary's rule."""
    live["status"]["parents"][0] = answer(
        {"name": "models", "namespace": "gateways", "sectionName": "https"}, 3, PartiallyInvalid="True"
    )
    found = read_route(live, owner, GATEWAY)
    assert found.accepted is False
    assert "PartiallyInvalid=True, Because: so it is" in found.message


def test_a_policy_controller_that_adds_conditions_of_its_own_is_not_waited_for(owner: Owner, live: Object) -> None:
    parent = {"name": "models", "namespace": "gateways", "sectionName": "https"}
    policy = {"type": "kuadrant.io/RateLimitPolicyAffected", "status": "True", "observedGeneration": 3}
    live["status"]["parents"].append({"parentRef": parent, "controllerName": "x/policy", "conditions": [policy]})
    assert read_route(live, owner, GATEWAY).accepted is True


def test_within_a_live_route_nothing_new_is_claimed(owner: Owner) -> None:
    live = http_route(owner, GATEWAY, Routing(SHARES))
    wish = {"hostnames": ["victim.example.com"], "paths": ["/v1/chat", "/score"], "parentRefs": [{"name": "other"}]}
    held = http_route(owner, traffic(gateway=wish), Routing(((names.BLOCKED, 1),)), hold="h", within=live)
    for field in ("hostnames", "parentRefs"):
        assert held["spec"][field] == live["spec"][field]
    (rule,) = held["spec"]["rules"]
    assert [match["path"]["value"] for match in rule["matches"]] == ["/v1"]
    assert [backend["name"] for backend in rule["backendRefs"]] == ["chat-blocked"]


@pytest.mark.parametrize("spec", [None, [], {"rules": [1, {"matches": [2]}]}, {"rules": "x", "hostnames": []}])
def test_a_live_route_of_any_shape_still_takes_the_hold(owner: Owner, spec: Any) -> None:
    held = http_route(owner, GATEWAY, Routing(((names.BLOCKED, 1),)), hold="h", within={"spec": spec})
    assert [backend["name"] for backend in held["spec"]["rules"][0]["backendRefs"]] == ["chat-blocked"]
