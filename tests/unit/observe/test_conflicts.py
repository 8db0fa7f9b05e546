"""If two claim the same host and path, the older one wins."""

from typing import Any

import pytest

from modelsync.api.spec import ModelDeploymentSpec
from modelsync.observe.conflicts import conflict
from unit.observe.builders import a_record, family, live, model_deployment, spec

GATEWAY = ModelDeploymentSpec.model_validate(spec()).traffic.gateway
OLD, NEW = "2026-01-01T00:00:00Z", "2026-12-31T00:00:00Z"


def their_route(created: str, **parts: Any) -> dict[str, Any]:
    body = {
        "kind": "HTTPRoute",
        "metadata": {"name": "theirs", "namespace": "shop"},
        "spec": {
            "hostnames": ["chat.example.com"],
            "parentRefs": [{"name": "models", "namespace": "gateways"}],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}]}],
        }
        | parts,
    }
    return live(body, creationTimestamp=created)


def found(**rivals: Any) -> str | None:
    assert GATEWAY is not None
    return conflict(family(a_record(), weights=((a_record()[0].revision, 100),), **rivals), GATEWAY)


def test_an_older_route_of_anyone_has_the_host() -> None:
    message = found(rival_routes=(their_route(OLD),))
    assert message is not None
    assert "HTTPRoute shop/theirs is older and already uses /v1 of chat.example.com" in message
    assert message.startswith("spec.traffic.gateway.hostnames: ")


def test_a_younger_route_does_not() -> None:
    assert found(rival_routes=(their_route(NEW),)) is None


def test_before_we_have_a_route_every_existing_one_is_older() -> None:
    assert GATEWAY is not None
    assert conflict(family(rival_routes=(their_route(NEW),)), GATEWAY) is not None


@pytest.mark.parametrize(
    "parts",
    [
        {"hostnames": ["shop.example.com"]},
        {"parentRefs": [{"name": "others", "namespace": "gateways"}]},
        {"parentRefs": [{"name": "models"}]},
        {"rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}]},
        {"rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/v1/files"}}]}]},
        {"rules": [{}]},
    ],
    ids=["another host", "another gateway", "a gateway of its own namespace", "all paths", "a longer path", "no match"],
)
def test_what_does_not_take_our_requests_is_no_conflict(parts: dict[str, Any]) -> None:
    assert found(rival_routes=(their_route(OLD, **parts),)) is None


def test_another_listener_is_no_conflict_but_all_listeners_are() -> None:
    assert GATEWAY is not None
    ours = GATEWAY.model_copy(
        update={"parent_refs": [GATEWAY.parent_refs[0].model_copy(update={"section_name": "https"})]}
    )
    other = their_route(OLD, parentRefs=[{"name": "models", "namespace": "gateways", "sectionName": "http"}])
    assert conflict(family(rival_routes=(other,)), ours) is None
    assert conflict(family(rival_routes=(their_route(OLD),)), ours) is not None


def test_another_port_is_no_conflict_but_all_ports_are() -> None:
    assert GATEWAY is not None
    ours = GATEWAY.model_copy(update={"parent_refs": [GATEWAY.parent_refs[0].model_copy(update={"port": 443})]})
    other = their_route(OLD, parentRefs=[{"name": "models", "namespace": "gateways", "port": 80}])
    assert conflict(family(rival_routes=(other,)), ours) is None
    assert conflict(family(rival_routes=(their_route(OLD),)), ours) is not None


def test_two_on_one_host_with_different_paths_live_side_by_side() -> None:
    assert GATEWAY is not None
    scores = GATEWAY.model_copy(update={"paths": ["/score", "/rerank"]})
    assert conflict(family(rival_routes=(their_route(OLD),)), scores) is None
    both = GATEWAY.model_copy(update={"paths": ["/score", "/v1"]})
    assert "already uses /v1 of chat.example.com" in str(conflict(family(rival_routes=(their_route(OLD),)), both))
    theirs = model_deployment("older", "shop", creationTimestamp=OLD)
    theirs["spec"]["traffic"]["gateway"]["paths"] = ["/score"]
    assert "already uses /score of chat.example.com" in str(conflict(family(rival_owners=(theirs,)), scores))
    assert conflict(family(rival_owners=(theirs,)), GATEWAY) is None


def test_a_header_does_not_make_another_path() -> None:
    path = {"path": {"type": "PathPrefix", "value": "/v1/"}, "headers": [{"name": "x", "value": "y"}]}
    assert found(rival_routes=(their_route(OLD, rules=[{"matches": [path]}]),)) is not None


def test_of_two_model_deployments_without_a_route_the_older_goes_first() -> None:
    older = model_deployment("older", "shop", creationTimestamp=OLD)
    younger = model_deployment("younger", "shop", creationTimestamp=NEW)
    assert GATEWAY is not None
    assert "ModelDeployment shop/older" in str(conflict(family(rival_owners=(older,)), GATEWAY))
    assert conflict(family(rival_owners=(younger,)), GATEWAY) is None


def test_of_two_that_were_made_in_the_same_second_only_one_yields() -> None:
    ours = family(rival_owners=(model_deployment("zebra", "prod"),))
    theirs = family(owner=model_deployment("zebra", "prod"), rival_owners=(model_deployment("chat", "prod"),))
    assert GATEWAY is not None
    messages = [conflict(each, GATEWAY) for each in (ours, theirs)]
    assert sorted(map(bool, messages)) == [False, True]


def test_our_own_route_is_no_rival() -> None:
    reference = {"kind": "ModelDeployment", "name": "chat", "uid": "uid-chat", "controller": True}
    own = their_route(OLD)
    own["metadata"]["ownerReferences"] = [reference]
    assert found(rival_routes=(own,)) is None
