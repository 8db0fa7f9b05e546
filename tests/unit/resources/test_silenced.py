"""Live objects lose the exposure of some revisions without a spec, whatever else they contain."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsync.api import names
from modelsync.resources.silenced import exposed_by_route, route_without, service_without

V7, V8 = "v7-00000007", "v8-00000008"
BLOCKED = {"group": "", "kind": "Service", "name": "chat-blocked", "port": 8000, "weight": 1}


def backend(revision: str, weight: int | None = None) -> dict[str, Any]:
    return {"name": f"chat-{revision}", "port": 8000} | ({} if weight is None else {"weight": weight})


def route(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "chat"}, "spec": {"parentRefs": [{"name": "models"}], "rules": list(rules)}}


def test_a_share_goes_to_what_is_left() -> None:
    live = route({"timeouts": {"request": "1h"}, "backendRefs": [backend(V7, 95), backend(V8, 5)]})
    assert route_without(live, "chat", {V8}) == {
        "spec": {"rules": [{"timeouts": {"request": "1h"}, "backendRefs": [backend(V7, 95)]}]}
    }


@pytest.mark.parametrize("rest", [[], [backend(V7, 0)]], ids=["nothing", "a backend without weight"])
def test_traffic_is_blocked_when_nothing_is_left_to_take_it(rest: list[dict[str, Any]]) -> None:
    patch = route_without(route({"backendRefs": [*rest, backend(V8)]}), "chat", {V8})
    assert patch == {"spec": {"rules": [{"backendRefs": [BLOCKED]}]}}


def test_a_rule_by_header_goes_with_its_only_backend() -> None:
    by_header = {"matches": [{"headers": [{"name": "x", "value": "y"}]}], "backendRefs": [backend(V8)]}
    shares = {"backendRefs": [backend(V7, 100)]}
    assert route_without(route(by_header, shares), "chat", {V8}) == {"spec": {"rules": [shares]}}
    assert route_without(route(by_header), "chat", {V8}) == {"spec": {"rules": [{"backendRefs": [BLOCKED]}]}}


def test_a_route_that_does_not_list_the_revision_stays() -> None:
    assert route_without(route({"backendRefs": [backend(V7, 100), {"name": "other"}]}), "chat", {V8}) is None


def test_a_service_that_selects_the_revision_selects_nothing_afterwards() -> None:
    live = {"spec": {"selector": names.selector("chat", V8)}}
    assert service_without(live, "chat", {V8}) == {"spec": {"selector": names.selector("chat", names.BLOCKED)}}
    assert service_without(live, "chat", {V7}) is None


def test_a_service_that_selects_all_revisions_selects_nothing_afterwards() -> None:
    assert service_without({"spec": {"selector": {names.NAME_LABEL: "chat"}}}, "chat", {V8}) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(f"chat-{V8}"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["rules", "backendRefs", "matches", "name", "weight", "headers"]), inner)
    ),
    max_leaves=12,
)


@pytest.mark.hypothesis
@given(rules=JSON)
def test_whatever_a_route_contains_the_revision_is_gone_from_it(rules: Any) -> None:
    live = {"spec": {"rules": rules}}
    patch = route_without(live, "chat", {V8})
    assert V8 not in exposed_by_route(live | (patch or {}), "chat")


@pytest.mark.hypothesis
@given(selector=JSON)
def test_no_selector_is_an_error(selector: Any) -> None:
    service_without({"spec": {"selector": selector}}, "chat", {V8})
