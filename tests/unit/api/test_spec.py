"""Reading the spec: defaults, and messages for mistakes that name the field and what to write."""

from datetime import timedelta
from typing import Any

import pytest

from modelsync.api.hold import HoldAction
from modelsync.api.problems import SpecError
from modelsync.api.rollout import DEFAULT_STEPS
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.policy.validation import read_spec

GATEWAY = {"gateway": {"parentRefs": [{"name": "models"}]}}
SEGMENT = [{"headerName": "x-user-group", "headerValue": {"exact": "internal"}}]


def spoilt(spec: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`spec` with `value` at the dotted `path`."""
    *parents, last = path.split(".")
    at = spec
    for part in parents:
        at = at.setdefault(part, {})
    at[last] = value
    return spec


def messages(spec: dict[str, Any]) -> list[str]:
    try:
        read_spec({"spec": spec})
    except SpecError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_what_is_left_out_has_the_documented_default(minimal: dict[str, Any]) -> None:
    spec = ModelDeploymentSpec.model_validate(minimal)
    assert (spec.replicas, spec.suspend, spec.revision_history_limit) == (1, False, 10)
    assert spec.registry is not None
    assert spec.registry.poll_interval == timedelta(seconds=30)
    assert (spec.hold.tags, spec.hold.aliases, spec.hold.action) == ([], [], HoldAction.FALLBACK)
    assert spec.serving.image is None
    assert spec.serving.shutdown_timeout == timedelta(seconds=60)
    assert (spec.serving.shared_memory, spec.serving.storage.type) == ("2Gi", "EmptyDir")
    assert spec.rollout.progress_deadline == timedelta(minutes=30)
    assert (spec.rollout.keep_previous.replicas, spec.rollout.keep_previous.duration) == (1, timedelta(hours=1))
    assert (spec.traffic.gateway, spec.traffic.settle) == (None, timedelta(seconds=5))


def test_the_default_steps_are_there_only_with_a_gateway(minimal: dict[str, Any]) -> None:
    assert ModelDeploymentSpec.model_validate(minimal).steps == ()
    steps = ModelDeploymentSpec.model_validate(minimal | {"traffic": GATEWAY}).steps
    assert steps == DEFAULT_STEPS
    assert [step.wire() for step in steps] == [
        {"setWeight": 5},
        {"pause": {"duration": "10m"}},
        {"setWeight": 50},
        {"pause": {"duration": "10m"}},
    ]


def test_given_steps_replace_the_default_even_when_there_are_none(minimal: dict[str, Any]) -> None:
    spec = minimal | {"traffic": GATEWAY, "rollout": {"steps": []}}
    assert ModelDeploymentSpec.model_validate(spec).steps == ()


def test_steps_without_a_gateway_are_refused_with_the_two_ways_out(minimal: dict[str, Any]) -> None:
    assert messages(spoilt(minimal, "rollout.steps", [{"setWeight": 5}])) == [
        "spec: steps need traffic.gateway; set spec.traffic.gateway, or remove spec.rollout.steps to switch without "
        "steps"
    ]


def test_all_mistakes_are_reported_at_once(minimal: dict[str, Any]) -> None:
    minimal["modelRef"] = "acme/models/chat"
    minimal["registry"] = {"baseURL": "wandb.example.com", "auth": {}}
    assert messages(minimal) == [
        "spec.modelRef: 'acme/models/chat' has no alias; write entity/project/collection:alias, for example "
        "acme/wandb-registry-model/chat:production (:v12 pins a version)",
        "spec.registry.baseURL: 'wandb.example.com' must be the URL of a W&B server without user, query and fragment, "
        "such as https://api.wandb.ai",
        "spec.registry.auth.secretKeyRef: is required; set it",
    ]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("gates", {}, "spec.gates: is not a known field; remove it or check its spelling"),
        ("serving.storage", {"type": "NodeCache"}, "spec.serving.storage.type: 'NodeCache' is not valid: input should"),
        ("replicas", -1, "spec.replicas: -1 is not valid: input should be greater than or equal to 0"),
        ("serving.sharedMemory", "2GB", "spec.serving.sharedMemory: '2GB' is not a Kubernetes quantity; write"),
        (
            "serving.env",
            [{"name": "A", "value": ""}, {"name": "A", "value": "2"}],
            "spec.serving.env: 'A' is listed twice",
        ),
        ("hold.tags", ["a", "a"], "spec.hold.tags: 'a' is listed twice; list each entry once"),
        ("hold.aliases", ["held[1]"], "spec.hold.aliases[0]: 'held[1]' is not a valid W&B alias"),
        ("serving.servedModelName", "chat@v1", "spec.serving.servedModelName: 'chat@v1' is not a valid model name"),
        ("serving.shutdownTimeout", "500ms", "spec.serving.shutdownTimeout: 500ms must be a duration in whole"),
        ("serving.scheduling.tolerations", [{}], "spec.serving.scheduling.tolerations[0]: a toleration without key"),
        (
            "serving.podMetadata.labels",
            {"my label": "x"},
            "spec.serving.podMetadata.labels[my label]: 'my label' is not a valid Kubernetes key",
        ),
        (
            "serving.podMetadata.labels",
            {"a": "b c"},
            "spec.serving.podMetadata.labels.a: 'b c' is not a valid label value; use",
        ),
        (
            "serving.serviceAccountName",
            "Chat",
            "spec.serving.serviceAccountName: 'Chat' is not a valid Kubernetes object name",
        ),
        ("serving.image", "a: b", "spec.serving.image: 'a: b' is not a valid image; write it without spaces"),
        (
            "serving.resources.limits",
            {"cpu": "1 core"},
            "spec.serving.resources.limits.cpu: '1 core' is not a Kubernetes",
        ),
        ("registry.baseURL", "https://user:pw@wandb.example.com", "spec.registry.baseURL: "),
        ("registry.baseURL", "https://wandb.example.com/?a=b", "spec.registry.baseURL: "),
        ("registry.baseURL", "https://wandb.example.com\n", "spec.registry.baseURL: "),
    ],
)
def test_a_mistake_names_its_field_and_the_way_out(
    minimal: dict[str, Any], path: str, value: Any, message: str
) -> None:
    found = messages(spoilt(minimal, path, value))
    assert len(found) == 1
    assert found[0].startswith(message)


@pytest.mark.parametrize("step", [{}, {"setWeight": 5, "pause": {}}, {"match": SEGMENT, "setWeight": 5}])
def test_a_step_is_exactly_one_thing(minimal: dict[str, Any], step: dict[str, Any]) -> None:
    assert messages(minimal | {"traffic": GATEWAY, "rollout": {"steps": [step]}}) == [
        "spec.rollout.steps[0]: a step must have exactly one of match, setWeight and pause; write each as a separate "
        "item"
    ]


@pytest.mark.parametrize(
    "url",
    ["https://api.wandb.ai", "http://10.250.0.1:8080", "https://wandb.corp/base/", "https://[fd00::1]:8443"],
)
def test_takes_the_servers_that_people_have(minimal: dict[str, Any], url: str) -> None:
    assert messages(spoilt(minimal, "registry.baseURL", url)) == []


def test_a_spec_reads_back_what_it_writes(minimal: dict[str, Any]) -> None:
    spec = ModelDeploymentSpec.model_validate(minimal | {"traffic": GATEWAY, "rollout": {"steps": [{"pause": {}}]}})
    assert ModelDeploymentSpec.model_validate(spec.wire()) == spec


def test_a_missing_spec_is_refused_with_what_is_required() -> None:
    with pytest.raises(SpecError) as error:
        read_spec({"metadata": {"name": "chat"}})
    assert [problem.field for problem in error.value.problems] == ["spec.modelRef"]


def with_step(minimal: dict[str, Any], name: str, **value: str) -> list[str]:
    step = {"match": [{"headerName": name, "headerValue": value}]}
    return messages(minimal | {"traffic": GATEWAY, "rollout": {"steps": [step]}})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("x group", {"exact": "a"}, "'x group' is not a valid header name"),
        ("x", {}, "a header value must have exactly one of exact and regex"),
        ("x", {"exact": "a", "regex": "^a$"}, "a header value must have exactly one of exact and regex"),
        ("x", {"exact": "a`) || Path(`/"}, "is not a valid header value; use printable ASCII without backticks"),
        ("x", {"exact": " a"}, "without leading or trailing spaces"),
        ("x", {"regex": "internal"}, "must start with ^, end with $"),
        ("x", {"regex": "^a`$"}, "without backticks"),
        ("x", {"prefix": "a"}, "prefix"),
    ],
)
def test_a_segment_is_something_that_gateways_can_do(
    minimal: dict[str, Any], name: str, value: dict[str, str], message: str
) -> None:
    found = with_step(minimal, name, **value)
    assert len(found) >= 1
    assert message in found[0]


def test_a_segment_needs_a_gateway_and_so_does_the_test_header(minimal: dict[str, Any]) -> None:
    (problem,) = messages(minimal | {"traffic": {"testHeader": "x-model"}})
    assert "testHeader needs traffic.gateway; set spec.traffic.gateway" in problem
    (problem,) = messages(minimal | {"rollout": {"steps": [{"match": SEGMENT}]}})
    assert "steps need traffic.gateway" in problem


@pytest.mark.parametrize("path", ["/", "v1", "/v1/", "/a b", "//", "/v1?x"])
def test_a_path_is_written_from_its_root(minimal: dict[str, Any], path: str) -> None:
    gateway = {"parentRefs": [{"name": "models"}], "paths": [path]}
    (problem,) = messages(minimal | {"traffic": {"gateway": gateway}})
    assert problem.startswith("spec.traffic.gateway.paths[0]: ")


LEGAL = {"name": "legal", "modelRef": "acme/wandb-registry-model/legal:production"}


@pytest.mark.parametrize("name", ["chat", "chat-base"])
def test_an_adapter_has_another_name_than_the_model_and_its_base(minimal: dict[str, Any], name: str) -> None:
    serving = {"servedModelName": "chat", "adapters": [LEGAL | {"name": name}]}
    (problem,) = messages(minimal | {"serving": serving})
    assert "the name of an adapter must not be servedModelName" in problem
    assert messages(minimal | {"serving": {**serving, "servedModelName": "other"}}) == []


def test_two_adapters_have_two_names_without_an_at(minimal: dict[str, Any]) -> None:
    assert "twice" in messages(minimal | {"serving": {"adapters": [LEGAL, LEGAL]}})[0]
    assert (
        "@ is reserved for the revision"
        in messages(minimal | {"serving": {"adapters": [LEGAL | {"name": "legal@v7"}]}})[0]
    )


def test_a_base_is_exposed_only_where_there_is_one(minimal: dict[str, Any]) -> None:
    (problem,) = messages(minimal | {"serving": {"exposeBase": True}})
    assert "set adapters or baseModelRef" in problem
    assert messages(minimal | {"serving": {"exposeBase": True, "baseModelRef": LEGAL["modelRef"]}}) == []
    assert messages(minimal | {"serving": {"exposeBase": False}}) == []
