"""Reading a family: whatever a tenant wrote, what serves and what holds is still read."""

from typing import Any

import pytest

from modelsync.observe import spec_status
from modelsync.observe.family import Family
from modelsync.observe.spec_status import read
from unit.observe.builders import KEY, SETTINGS, a_record, model_deployment, spec

HOLD = {
    "digest": "0123456789abcdef",
    "collection": "acme/wandb-registry-model/chat llm",
    "version": "v7",
    "via": "VersionTag",
    "name": "regulatory-hold",
    "since": "2026-11-21T08:30:00Z",
}
STEPS = [{"setWeight": 20}, {"pause": {}}]


def family(**parts: Any) -> Family:
    record, body = a_record()
    status = {"promoted": [record.revision], "holds": [HOLD]}
    return Family(KEY, model_deployment(spec=spec(**parts), status=status), {body["metadata"]["name"]: body})


def match(regex: str) -> dict[str, Any]:
    value = {"regex": regex}
    return {"steps": [{"match": [{"headerName": "x-user", "headerValue": value}]}, *STEPS]}


def registry(url: str) -> dict[str, Any]:
    return {"baseURL": url, "auth": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}}}


HOSTILE: dict[str, dict[str, Any]] = {
    "a URL that Python cannot split": {"registry": registry("http://[1]")},
    "a flag with deep JSON": {"serving": {"args": ["--limit-mm-per-prompt=" + "[" * 2000]}},
    "a flag with a number of many digits": {
        "serving": {"args": ['--limit-mm-per-prompt={"image":' + "9" * 1900 + "}"]}
    },
    "an expression with wide classes": {"rollout": match("(?i:[\u0000-\uffff])" * 50)},
    "an expression with a huge count": {"rollout": match("^a{4294967296}$")},
    "an expression with deep groups": {"rollout": match("(" * 500 + ")" * 500)},
    "a reference that only the operator refuses": {"modelRef": "acme/wandb-registry-/chat:production"},
}


@pytest.mark.parametrize("parts", HOSTILE.values(), ids=HOSTILE)
def test_what_a_spec_holds_hides_no_record_and_no_hold(parts: dict[str, Any]) -> None:
    found = read(family(**parts), SETTINGS)
    (record,) = found.records.values()
    assert [hold.mark.digest for hold in found.state.holds] == ["0123456789abcdef"]
    assert {served.digest for served in found.question.served} == set(record.digests)


def test_a_check_that_raises_is_reported_and_nothing_else_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(spec_status, "spec_problems", broken)
    found = read(family(), SETTINGS)
    assert [problem.message for problem in found.problems] == [
        "spec: could not be checked (RecursionError); this is a defect in modelsync: report it"
    ]
    assert found.registry is None, "an unchecked server never gets a key"
    assert found.state.holds
    assert found.records


def test_without_host_names_the_route_on_the_gateway_of_another_namespace_is_not_written() -> None:
    parents = {"parentRefs": [{"name": "models", "namespace": "gateways"}]}
    (problem,) = read(family(traffic={"gateway": parents}), SETTINGS).problems
    assert problem.blocks_route
    assert problem.reason == "InvalidSpec"
    assert problem.message.startswith(
        "spec.traffic.gateway.hostnames: is empty, and parentRefs[0] is Gateway gateways/"
    )
    own = {"parentRefs": [{"name": "models"}]}
    assert read(family(traffic={"gateway": own}), SETTINGS).problems == ()
