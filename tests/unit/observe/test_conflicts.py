"""If two claim the same host and path, the older one wins; between namespaces, also if one is below the other."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsync.api.kinds import HTTP_ROUTE
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.api.traffic import Gateway
from modelsync.observe.claims import Claim, Parent, Path
from modelsync.observe.conflicts import conflict, overlap, taken_by, without_hostnames
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
        {"rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/v1/files"}}]}]},
    ],
    ids=["another host", "another gateway", "a gateway of its own namespace", "a longer path"],
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


# --- overlaps between namespaces -------------------------------------------------------------------------------------


def gateway(**parts: Any) -> Gateway:
    return Gateway.model_validate({"parentRefs": [{"name": "models", "namespace": "gateways"}], **parts})


def prefix(value: str) -> dict[str, Any]:
    return {"rules": [{"matches": [{"path": {"type": "PathPrefix", "value": value}}]}]}


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ({"paths": ["/v1/chat"]}, prefix("/v1"), "uses /v1 of chat.example.com, which includes /v1/chat of chat"),
        ({"paths": ["/v1"]}, prefix("/"), "uses / of chat.example.com, which includes /v1 of"),
        ({}, {"rules": [{}]}, "uses / of chat.example.com"),
        ({}, {"rules": None}, "uses / of chat.example.com"),
        ({}, {"hostnames": ["*.example.com"]}, "uses /v1 of *.example.com, which includes /v1 of chat.example.com"),
        ({}, {"hostnames": ["*.com"], **prefix("/v1/chat")}, "uses /v1/chat of *.com"),
        ({"hostnames": ["*.eu.example.com"]}, {"hostnames": ["*.example.com"]}, "of *.example.com"),
        ({}, {"hostnames": ["CHAT.Example.COM."]}, "uses /v1 of chat.example.com;"),
        ({"hostnames": ["xn--bcher-kva.example"]}, {"hostnames": ["bücher.example"]}, "of xn--bcher-kva.example;"),
        ({}, {"rules": [{"matches": [{"path": {"type": "RegularExpression", "value": "/v[0-9]"}}]}]}, "uses / of"),
    ],
)
def test_a_younger_claim_below_that_of_another_namespace_is_refused(
    ours: dict[str, Any], theirs: dict[str, Any], said: str
) -> None:
    wanted = gateway(**{"hostnames": ["chat.example.com"], **ours})
    message = conflict(family(rival_routes=(their_route(OLD, **theirs),)), wanted)
    assert message is not None
    assert said in message


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"paths": ["/v1"]}, prefix("/v1x")),
        ({"paths": ["/v1x"]}, prefix("/v1")),
        ({"paths": ["/v1"]}, prefix("/v1/chat")),
        ({"hostnames": ["*.example.com"]}, {}),
        ({"hostnames": ["example.com"]}, {"hostnames": ["*.example.com"]}),
        ({"hostnames": ["chat.example.community"]}, {"hostnames": ["*.example.com"]}),
        ({}, {"hostnames": ["*.chat.example.com"]}),
        ({}, {"parentRefs": [{"name": "models", "namespace": "gateways", "kind": "Service"}]}),
    ],
)
def test_what_the_gateway_leaves_to_the_older_claim_is_no_conflict(
    ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    wanted = gateway(**{"hostnames": ["chat.example.com"], **ours})
    assert conflict(family(rival_routes=(their_route(OLD, **theirs),)), wanted) is None


@pytest.mark.parametrize("parts", [prefix("/"), prefix("/v1/chat"), {"hostnames": ["*.example.com"]}])
def test_a_namespace_shares_its_host_names_between_its_own_routes(parts: dict[str, Any]) -> None:
    own = their_route(OLD, **parts)
    own["metadata"]["namespace"] = "prod"
    assert conflict(family(rival_routes=(own,)), gateway(hostnames=["chat.example.com"])) is None


def test_who_adds_a_host_name_to_an_old_route_is_not_older_for_it() -> None:
    record = a_record()
    hosts = ["chat.example.com", "victim.example.com"]
    before_theirs = family(record, weights=((record[0].revision, 100),), rival_routes=(their_route(NEW),))
    assert conflict(before_theirs, gateway(hostnames=["chat.example.com"])) is None
    victim = family(
        record, weights=((record[0].revision, 100),), rival_routes=(their_route(NEW, hostnames=[hosts[1]]),)
    )
    message = conflict(victim, gateway(hostnames=hosts))
    assert message is not None
    assert "already uses /v1 of victim.example.com;" in message


def test_a_route_without_host_names_locks_nobody_out() -> None:
    fallback = their_route(OLD, hostnames=None, **prefix("/"))
    assert conflict(family(rival_routes=(fallback,)), gateway(hostnames=["chat.example.com"])) is None
    platform = their_route(OLD, hostnames=[], **prefix("/"))
    platform["metadata"]["namespace"] = "gateways"
    assert conflict(family(rival_routes=(platform,)), gateway(hostnames=["chat.example.com"])) is None


def test_a_model_deployment_without_host_names_has_all_of_its_namespaces_own_gateway() -> None:
    parent = {"name": "models"}
    older = model_deployment(
        "older", "shop", creationTimestamp=OLD, spec=spec(traffic={"gateway": {"parentRefs": [parent]}})
    )
    wanted = gateway(parentRefs=[{"name": "models", "namespace": "shop"}], hostnames=["chat.example.com"])
    message = conflict(family(rival_owners=(older,)), wanted)
    assert message is not None
    assert "ModelDeployment shop/older is older and already uses /v1 of all host names of its Gateway" in message


def test_without_host_names_the_gateway_of_another_namespace_is_refused() -> None:
    problem = without_hostnames("prod", gateway())
    assert problem is not None
    assert problem.field == "spec.traffic.gateway.hostnames"
    assert "parentRefs[0] is Gateway gateways/models of another namespace" in problem.message
    assert without_hostnames("gateways", gateway()) is None
    assert without_hostnames("prod", gateway(parentRefs=[{"name": "models"}])) is None
    assert without_hostnames("prod", gateway(hostnames=["chat.example.com"])) is None


def test_many_names_are_not_all_shown() -> None:
    hosts = [f"h{number}.example.com" for number in range(16)]
    message = conflict(family(rival_routes=(their_route(OLD, hostnames=hosts),)), gateway(hostnames=hosts))
    assert message is not None
    assert "h0.example.com, h1.example.com, h10.example.com and 13 more" in message


@pytest.mark.parametrize(
    "broken",
    [
        {"spec": None},
        {"spec": []},
        {"spec": {"parentRefs": "x", "hostnames": {"a": 1}, "rules": "y"}},
        {
            "spec": {
                "parentRefs": [1, None],
                "hostnames": [None, 7, "a" * 300, "ü" * 70],
                "rules": [1, {"matches": [2, {"path": 3}]}],
            }
        },
    ],
)
def test_a_route_of_any_shape_is_read(broken: dict[str, Any]) -> None:
    route = their_route(OLD) | broken
    assert conflict(family(rival_routes=(route,)), gateway(hostnames=["chat.example.com"])) is None


# --- a small model of the Gateway API: which of two routes gets a request ---------------------------------------------

LISTENERS = [(name, section, port) for name in ("models", "web") for section in ("http", "https") for port in (80, 443)]
REQUEST_HOSTS = [".".join(labels) for size in (1, 2, 3, 4) for labels in product("abq", repeat=size)]
REQUEST_PATHS = [
    f"/{'/'.join(elements)}{slash}"
    for size in (0, 1, 2, 3)
    for elements in product(("v1", "v1x", "chat"), repeat=size)
    for slash in (("", "/") if size else ("",))
]


def serves(host: str, asked: str) -> bool:
    return host in ("*", asked) or (host[:2] == "*." and len(asked) > len(host) - 1 and asked.endswith(host[1:]))


def matches(path: Path, asked: str) -> bool:
    if path.exact:
        return path.value == asked
    wanted = [element for element in path.value.split("/") if element]
    return [element for element in asked.split("/") if element][: len(wanted)] == wanted


def listens(parent: Parent, listener: tuple[str, str, int]) -> bool:
    return parent.name == listener[0] and parent.section in ("", listener[1]) and parent.port in (None, listener[2])


def priority(claim: Claim, host: str, path: str) -> tuple[Any, ...] | None:
    """How specifically `claim` matches the request; None if it does not."""
    hosts = [(each[:1] != "*", len(each)) for each in claim.hosts if serves(each, host)]
    paths = [(each.exact, len(each.value)) for each in claim.paths if matches(each, path)]
    return (max(hosts), max(paths)) if hosts and paths else None


NAMED = st.sampled_from(["a", "b", "b.a", "a.b.a", "*.a", "*.b", "*.b.a", "*.a.b.a"])
PREFIXES = st.sampled_from([Path(""), Path("/v1"), Path("/v1x"), Path("/chat"), Path("/v1/chat"), Path("/v1/chat/v1")])
EXACT = st.sampled_from([Path(value, exact=True) for value in ("/", "/v1", "/v1/", "/v1/chat", "/chat/chat")])
PARENTS = st.builds(
    Parent, st.just("gateways"), st.sampled_from(["models", "web"]), st.sampled_from(["", "http", "https"]),
    st.sampled_from([None, 80, 443]),
)  # fmt: skip


def claims(namespace: str, created: str, hosts: Any = NAMED, paths: Any = PREFIXES, parents: Any = PARENTS) -> Any:
    def some(values: Any) -> Any:
        return st.lists(values, min_size=1, max_size=3, unique=True).map(tuple)

    return st.builds(
        Claim,
        kind=st.just(HTTP_ROUTE),
        namespace=st.just(namespace),
        name=st.just("x"),
        owner_uid=st.just(f"uid-{namespace}"),
        of_model=st.just(True),
        created=st.just(created),
        parents=some(parents),
        hosts=some(hosts),
        paths=some(paths),
    )


EVERYTHING = {"hosts": st.one_of(NAMED, st.just("*")), "paths": st.one_of(PREFIXES, EXACT)}
ONE_GATEWAY = {"parents": st.just(Parent("gateways", "models"))}


@given(claims("shop", OLD, **EVERYTHING), claims("prod", NEW, **EVERYTHING))
def test_two_claims_overlap_exactly_if_one_request_matches_both(one: Claim, other: Claim) -> None:
    shared = (
        any(any(listens(p, at) for p in one.parents) and any(listens(p, at) for p in other.parents) for at in LISTENERS)
        and any(all(any(serves(h, asked) for h in each.hosts) for each in (one, other)) for asked in REQUEST_HOSTS)
        and any(all(any(matches(p, asked) for p in each.paths) for each in (one, other)) for asked in REQUEST_PATHS)
    )
    assert overlap(one, other) is shared
    assert overlap(other, one) is shared


@settings(max_examples=200, deadline=None)
@given(claims("shop", OLD, **ONE_GATEWAY), claims("prod", NEW, **ONE_GATEWAY))
def test_a_younger_claim_is_refused_exactly_if_it_would_get_a_request_of_the_older(
    older: Claim, younger: Claim
) -> None:
    wins = any(
        (mine := priority(younger, host, path)) and (theirs := priority(older, host, path)) and mine >= theirs
        for host in REQUEST_HOSTS
        for path in REQUEST_PATHS
    )
    assert (taken_by(younger, None, older) is not None) is wins
    assert taken_by(older, None, younger) is None


@settings(max_examples=200, deadline=None)
@given(claims("shop", OLD, paths=st.one_of(PREFIXES, EXACT), **ONE_GATEWAY), claims("prod", NEW, **ONE_GATEWAY))
def test_what_is_not_refused_gets_no_request_of_an_older_exact_path(older: Claim, younger: Claim) -> None:
    if taken_by(younger, None, older) is None:
        for host in REQUEST_HOSTS:
            for path in REQUEST_PATHS:
                mine, theirs = priority(younger, host, path), priority(older, host, path)
                assert mine is None or theirs is None or mine < theirs
