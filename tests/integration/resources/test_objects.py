"""A real API server accepts every rendered object and returns it in a comparable form."""

from collections.abc import Callable
from typing import Any

import pytest

from apiserver import ApiServer, RefusedError
from modelsync.api import names
from modelsync.api.routing import HeaderMatch, Routing, Rule, RuleKind
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.api.traffic import SessionAffinity, Traffic
from modelsync.resources.children import (
    blocked_service,
    deployment,
    disruption_budget,
    fuse_secret,
    plain_service,
    revision_service,
    selected_revision,
)
from modelsync.resources.objects import Object, Owner
from modelsync.resources.record import Record
from modelsync.resources.route import http_route, read_route

MakeRecord = Callable[[str], Object]

PATHS = {
    "ControllerRevision": "/apis/apps/v1/namespaces/{}/controllerrevisions",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Service": "/api/v1/namespaces/{}/services",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "HTTPRoute": "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes",
    "Pod": "/api/v1/namespaces/{}/pods",
}


def path(obj: Object) -> str:
    return f"{PATHS[obj['kind']].format(obj['metadata']['namespace'])}/{obj['metadata']['name']}"


def applied(api: ApiServer, obj: Object) -> Any:
    """Apply like the operator, with strict field validation."""
    return api.apply(path(obj), obj)


def children(owner: Owner, record: Record) -> list[Object]:
    """Every rendered child of a ModelDeployment except the record and the route."""
    return [
        deployment(record, 2),
        revision_service(owner, record.revision),
        plain_service(owner, record.revision),
        blocked_service(owner),
        disruption_budget(owner, record.revision),
        fuse_secret(owner, record.revision, "a-token"),
    ]


def lost(given: Any, live: Any, at: str = "") -> list[str]:
    """Paths where `live` differs from what was given."""
    if isinstance(given, dict) and isinstance(live, dict):
        return [item for key, value in given.items() for item in lost(value, live.get(key), f"{at}.{key}")]
    if isinstance(given, list) and isinstance(live, list) and len(given) == len(live):
        return [
            item
            for index, (one, other) in enumerate(zip(given, live, strict=True))
            for item in lost(one, other, f"{at}[{index}]")
        ]
    return [] if given == live else [f"{at}: {given!r} became {live!r}"]


@pytest.fixture
def record(api: ApiServer, make_record: MakeRecord) -> Record:
    """The stored record of v7."""
    return Record.parse(applied(api, make_record("v7")))


def test_every_object_is_stored_as_it_was_rendered(api: ApiServer, owner: Owner, record: Record) -> None:
    for obj in children(owner, record):
        assert lost(obj, applied(api, obj)) == []


def test_applying_the_same_again_writes_nothing(api: ApiServer, owner: Owner, record: Record) -> None:
    for obj in (revision_service(owner, record.revision), disruption_budget(owner, record.revision)):
        first = applied(api, obj)
        assert applied(api, obj)["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_a_record_is_read_back_from_the_apiserver_and_cannot_be_changed(
    api: ApiServer, make_record: MakeRecord
) -> None:
    written = make_record("v8")
    live = applied(api, written)
    assert live["data"] == written["data"]
    assert Record.parse(live).revision.startswith("v8-")
    live["data"]["preStop"] = "1s"
    with pytest.raises(RefusedError, match="immutable"):
        api.call("PUT", path(written), live)


def test_pod_security_restricted_takes_the_pod(api: ApiServer, namespace: str, record: Record) -> None:
    template = deployment(record, 1)["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": template["metadata"] | {"name": "probe", "namespace": namespace},
        "spec": template["spec"],
    }
    api.call("POST", PATHS["Pod"].format(namespace), pod, query={"dryRun": "All", "fieldValidation": "Strict"})
    # Pod Security is enforced: the same pod as root is rejected.
    pod["spec"] = pod["spec"] | {"securityContext": pod["spec"]["securityContext"] | {"runAsUser": 0}}
    with pytest.raises(RefusedError, match="violates PodSecurity"):
        api.call("POST", PATHS["Pod"].format(namespace), pod, query={"dryRun": "All"})


def test_the_plain_service_moves_from_a_revision_to_nothing_and_back(api: ApiServer, owner: Owner) -> None:
    for selected in ("v7-3fa9c1d2", names.BLOCKED, "v7-3fa9c1d2"):
        live = applied(api, plain_service(owner, selected))
        assert selected_revision(live) == selected
        assert live["spec"]["selector"] == names.selector("chat", selected)


def test_a_live_route_equals_what_was_rendered_with_every_default(
    api: ApiServer, owner: Owner, spec: ModelDeploymentSpec
) -> None:
    for weights in ((("v7-3fa9c1d2", 100),), (("v7-3fa9c1d2", 95), ("v8-00c0ffee", 5)), ((names.BLOCKED, 1),)):
        rendered = http_route(owner, spec.traffic, Routing(weights))
        live = applied(api, rendered)
        assert live["spec"] == rendered["spec"]
        found = read_route(live, owner, spec.traffic)
        assert (found.routing.weights, found.drifted, found.accepted) == (weights, False, None)


def test_every_rule_before_the_shares_is_taken_as_it_was_rendered(
    api: ApiServer, owner: Owner, spec: ModelDeploymentSpec
) -> None:
    gateway = spec.traffic.gateway
    assert gateway is not None
    paths = [f"/v{number}" for number in range(6)]
    traffic = Traffic(
        gateway=gateway.model_copy(update={"paths": paths}),
        test_header="X-Model-Revision",
        session_affinity=SessionAffinity(),
    )
    stable, canary, warm = "v7-3fa9c1d2", "v8-00c0ffee", "v6-deadbeef"
    match = tuple(HeaderMatch(f"x-{number}", "^(a|b)-.*$", regex=True) for number in range(8))
    rules = (
        *(Rule(revision, RuleKind.TEST) for revision in (stable, canary, warm)),
        Rule(canary, RuleKind.SEGMENT, match),
        *(Rule(revision, RuleKind.SESSION) for revision in (stable, canary)),
    )
    routing = Routing(((stable, 95), (canary, 5), (warm, 0)), rules)
    rendered = http_route(owner, traffic, routing)
    live = applied(api, rendered)
    assert live["spec"] == rendered["spec"]
    found = read_route(live, owner, traffic)
    assert (found.routing, found.drifted) == (routing, False)


def test_a_hold_comes_and_goes_on_the_route_and_others_annotations_stay(
    api: ApiServer, owner: Owner, spec: ModelDeploymentSpec
) -> None:
    route = http_route(owner, spec.traffic, Routing(((names.BLOCKED, 1),)), hold="regulatory-hold on v7")
    applied(api, route)
    note = {"metadata": {"annotations": {"someone.else/note": "kept"}}}
    api.call("PATCH", path(route), note, content_type="application/merge-patch+json")
    held = applied(api, route)["metadata"]["annotations"]
    assert held == {"modelsync.dev/hold": "regulatory-hold on v7", "someone.else/note": "kept"}
    lifted = applied(api, http_route(owner, spec.traffic, Routing((("v7-3fa9c1d2", 100),))))["metadata"]["annotations"]
    assert lifted == {"someone.else/note": "kept"}
