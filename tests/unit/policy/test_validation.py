"""Validation of a spec against the administrator's settings."""

from datetime import timedelta
from typing import Any

import pytest

from modelsync.api.hold import HoldAction, OnStale
from modelsync.api.registry import Registry
from modelsync.api.settings import HoldSettings, OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.policy import environment
from modelsync.policy.effective import hold_rules, registry_of
from modelsync.policy.validation import problems
from modelsync.policy.vllm_flags import MAX_HINTS

SETTINGS = OperatorSettings(allowed_registries=("https://wandb.example.com",))


def registry(**parts: Any) -> Registry:
    secret = {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}}
    return Registry.model_validate({"baseURL": "https://wandb.example.com", "auth": secret} | parts)


def found(minimal: dict[str, Any], settings: OperatorSettings = SETTINGS, **serving: Any) -> list[str]:
    spec = ModelDeploymentSpec.model_validate(minimal | {"serving": serving})
    return [str(problem) for problem in problems(spec, settings)]


def test_gpus_that_the_arguments_do_not_use_are_a_problem(minimal: dict[str, Any]) -> None:
    (problem,) = found(minimal, args=["--tensor-parallel-size=2"], resources={"limits": {"nvidia.com/gpu": 1}})
    assert problem.startswith("spec.serving.resources.limits[nvidia.com/gpu]: 1 in total, but vLLM would use 2")


def test_a_fine_spec_has_no_problems(minimal: dict[str, Any]) -> None:
    assert found(
        minimal,
        args=["--max-model-len=8192"],
        env=[{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}],
        resources={
            "limits": {"nvidia.com/gpu": 1, "memory": "16Gi"},
            "requests": {"memory": "8Gi", "nvidia.com/gpu": "1"},
        },
        podMetadata={"labels": {"team": "search", "acme.dev/cost": "1"}},
    ) == []  # fmt: skip


def test_a_registry_must_be_allowed(minimal: dict[str, Any]) -> None:
    assert found(minimal, OperatorSettings()) == [
        "spec.registry.baseURL: 'https://wandb.example.com' is not an allowed registry; allowed: https://api.wandb.ai; "
        "use one of them, or ask the administrator to add it to allowedRegistries"
    ]
    assert "allowed: none" in found(minimal, OperatorSettings(allowed_registries=()))[0]


def test_without_a_registry_the_administrators_default_is_taken_whole(minimal: dict[str, Any]) -> None:
    default = registry(baseURL="https://wandb.corp.example", pollInterval="5s")
    settings = OperatorSettings(registry=default)
    own = ModelDeploymentSpec.model_validate(minimal)
    left_out = ModelDeploymentSpec.model_validate({"modelRef": minimal["modelRef"]})
    assert registry_of(left_out, settings) == default
    assert registry_of(own, settings) == own.registry, "no field of the default is mixed in"
    assert problems(left_out, settings) == [], "the administrator's own default needs no permission"


def test_without_a_registry_and_a_default_the_message_has_what_to_write(minimal: dict[str, Any]) -> None:
    del minimal["registry"]
    assert found(minimal) == [
        "spec.registry: is not set, and the administrator has set no default; set baseURL and auth.secretKeyRef "
        "(allowed servers: https://wandb.example.com), or ask the administrator to set a default (the setting "
        "`registry`)"
    ]


def test_a_spec_may_name_the_default_server_too_and_no_other(minimal: dict[str, Any]) -> None:
    settings = OperatorSettings(allowed_registries=(), registry=registry())
    assert found(minimal, settings) == []
    (problem,) = found(minimal | {"registry": registry(baseURL="https://evil.example").wire()}, settings)
    assert "allowed: https://wandb.example.com;" in problem


@pytest.mark.parametrize("allowed", ["https://wandb.example.com/", "https://WANDB.example.com"])
def test_a_registry_is_the_same_in_any_case_and_with_a_slash(minimal: dict[str, Any], allowed: str) -> None:
    assert found(minimal, OperatorSettings(allowed_registries=(allowed,))) == []


@pytest.mark.parametrize(
    "allowed",
    [
        "http://wandb.example.com",
        "https://wandb.example.com:8443",
        "https://wandb.example.com/b",
        "https://wandb.example",
    ],
)
def test_a_registry_that_is_only_alike_is_not_allowed(minimal: dict[str, Any], allowed: str) -> None:
    assert len(found(minimal, OperatorSettings(allowed_registries=(allowed,)))) == 1


@pytest.mark.parametrize(
    "image",
    ["vllm/vllm-openai", "vllm/vllm-openai:v1", "docker.io/vllm/vllm-openai:latest", "vllm/vllm-openai@sha256:0123"],
)  # fmt: skip
def test_an_image_may_come_from_an_allowed_repository_in_any_spelling(minimal: dict[str, Any], image: str) -> None:
    assert found(minimal, image=image) == []


@pytest.mark.parametrize(
    "image", ["evil/vllm-openai:v1", "registry.evil.example/vllm/vllm-openai", "vllm/vllm-openai-evil"]
)
def test_an_image_from_elsewhere_is_refused(minimal: dict[str, Any], image: str) -> None:
    (problem,) = found(minimal, image=image)
    assert problem == (
        f"spec.serving.image: '{image}' is from a repository that is not allowed; allowed: vllm/vllm-openai; use one "
        "of them, or ask the administrator to add it to allowedImages"
    )


def test_an_image_of_a_vllm_that_cannot_drain_is_refused_with_the_least_version(minimal: dict[str, Any]) -> None:
    (problem,) = found(minimal, image="vllm/vllm-openai:v0.17.1")
    assert problem.startswith("spec.serving.image: 'vllm/vllm-openai:v0.17.1' has the tag v0.17.1")
    assert problem.endswith("use v0.18.0 or newer")
    assert found(minimal, image="vllm/vllm-openai:v0.18.0") == []


def test_the_administrators_default_image_needs_no_permission(minimal: dict[str, Any]) -> None:
    settings = OperatorSettings(
        allowed_registries=SETTINGS.allowed_registries, allowed_images=(), serving_image="corp/vllm:v0.32.0"
    )
    assert found(minimal, settings) == []
    assert found(minimal, settings, image="corp/vllm:v0.32.0") == []
    assert len(found(minimal, settings, image="corp/vllm:v0.31.0")) == 1


def test_a_refused_argument_names_its_place(minimal: dict[str, Any]) -> None:
    (problem,) = found(minimal, args=["--max-model-len=8192", "--trust-remote-code"])
    assert problem.startswith("spec.serving.args[1]: --trust-remote-code is not allowed")
    allowing = SETTINGS.model_copy(update={"allowed_args": ("--trust-remote-code",)})
    assert found(minimal, allowing, args=["--trust-remote-code"]) == []


@pytest.mark.parametrize(
    "name", ["VLLM_LOGGING_LEVEL", "NCCL_DEBUG", "VLLM_MAX_IMAGE_PIXELS", "PYTORCH_ALLOC_CONF", "TZ"]
)
def test_tuning_is_allowed_in_the_environment(minimal: dict[str, Any], name: str) -> None:
    assert found(minimal, env=[{"name": name, "value": "1"}]) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("LD_PRELOAD", "is never allowed"),
        ("PYTHONPATH", "is set by the operator; remove it"),
        ("PYTHONSTARTUP", "is never allowed"),
        ("PATH", "is never allowed"),
        ("MODELSYNC_REVISION", "is never allowed"),
        ("VLLM_SERVER_DEV_MODE", "is never allowed"),
        ("VLLM_PLUGINS", "is never allowed"),
        ("VLLM_USE_RUST_FRONTEND", "is never allowed, because vLLM's Rust front end does not load the middleware"),
        ("VLLM_RUST_FRONTEND_PATH", "is never allowed"),
        ("HF_HUB_OFFLINE", "is set by the operator; remove it"),
        ("VLLM_LOGGING_CONFIG_PATH", "is not on the list of allowed names"),
        ("VLLM_DEBUG_LOG_API_SERVER_RESPONSE", "is not on the list of allowed names"),
        ("HTTP_PROXY", "is not on the list of allowed names"),
        ("NCCL_DEBGU", "is not on the list of allowed names; did you mean NCCL_DEBUG?"),
        ("vllm_logging_level", "is not on the list of allowed names"),
    ],
)
def test_everything_else_is_refused_in_the_environment(minimal: dict[str, Any], name: str, why: str) -> None:
    (problem,) = found(minimal, env=[{"name": name, "value": "1"}])
    assert problem.startswith(f"spec.serving.env[0].name: '{name}' {why}")


def test_an_administrator_can_allow_more_but_not_everything(minimal: dict[str, Any]) -> None:
    settings = SETTINGS.model_copy(update={"allowed_env": ("*",)})
    assert found(minimal, settings, env=[{"name": "HTTP_PROXY", "value": "x"}]) == []
    for name in ("LD_PRELOAD", "PYTHONHOME", "HOME", "MODELSYNC_DIGEST", "VLLM_SERVER_DEV_MODE"):
        assert len(found(minimal, settings, env=[{"name": name, "value": "1"}])) == 1


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"limits": {"gpu": 1}}, "spec.serving.resources.limits[gpu]: 'gpu' is not a Kubernetes resource; write a "
        "device"),
        (
            {"limits": {"memroy": "1Gi"}},
            "spec.serving.resources.limits[memroy]: 'memroy' is not a Kubernetes resource; did you mean memory?",
        ),
        ({"limits": {"nvidia.com/gpu": "500m"}}, "spec.serving.resources.limits[nvidia.com/gpu]: '500m' is not a whole "
        "number"),
        ({"requests": {"nvidia.com/gpu": 1}}, "spec.serving.resources.requests[nvidia.com/gpu]: '1' must equal limits"),
        (
            {"requests": {"memory": "2Gi"}, "limits": {"memory": "2000M"}},
            "spec.serving.resources.requests[memory]: '2Gi' is more than the limit '2000M'",
        ),
    ],
)  # fmt: skip
def test_resources_that_no_pod_could_have_are_refused(
    minimal: dict[str, Any], resources: dict[str, Any], message: str
) -> None:
    (problem,) = found(minimal, resources=resources)
    assert problem.startswith(message)


@pytest.mark.parametrize(
    "key",
    [
        "modelsync.dev/name",
        "app.kubernetes.io/name",
        "kubernetes.io/x",
        "a.k8s.io/b",
        "x.modelsync.dev/y",
        "pod-template-hash",
    ],
)
@pytest.mark.parametrize("kind", ["labels", "annotations"])
def test_labels_that_the_operator_or_kubernetes_lives_by_are_refused(
    minimal: dict[str, Any], kind: str, key: str
) -> None:
    (problem,) = found(minimal, podMetadata={kind: {key: "mine"}})
    assert problem.startswith(f"spec.serving.podMetadata.{kind}[{key}]: '{key}' is reserved")


def test_a_reference_that_is_not_valid_is_reported(minimal: dict[str, Any]) -> None:
    minimal["modelRef"] = "acme/pro?ject/chat:production"
    (problem,) = found(minimal)
    assert problem.startswith("spec.modelRef: ")


def traffic_problems(
    minimal: dict[str, Any], *, steps: list[dict[str, Any]] | None = None, **traffic: Any
) -> list[str]:
    gateway = {"parentRefs": [{"name": "models"}]} | traffic.pop("gateway", {})
    rollout = {"steps": steps} if steps is not None else {}
    parts = {"traffic": {"gateway": gateway, **traffic}, "rollout": rollout}
    return [str(problem) for problem in problems(ModelDeploymentSpec.model_validate(minimal | parts), SETTINGS)]


@pytest.mark.parametrize("path", ["/metrics", "/modelsync", "/modelsync/fuse"])
def test_what_is_for_the_cluster_is_not_published(minimal: dict[str, Any], path: str) -> None:
    (problem,) = traffic_problems(minimal, gateway={"paths": ["/v1", path]})
    assert problem.startswith(f"spec.traffic.gateway.paths[1]: '{path}' is for use inside the cluster")


def test_a_test_header_that_means_something_else_is_refused(minimal: dict[str, Any]) -> None:
    (problem,) = traffic_problems(minimal, testHeader="Host")
    assert problem.startswith("spec.traffic.testHeader: 'Host' already has a standard meaning")


def match(**value: str) -> list[dict[str, Any]]:
    return [{"match": [{"headerName": "x-group", "headerValue": value}]}]


def test_a_segment_by_the_test_header_is_refused(minimal: dict[str, Any]) -> None:
    (problem,) = traffic_problems(minimal, testHeader="X-Group", steps=match(exact="v7"))
    assert problem.startswith(
        "spec.rollout.steps[0].match[0].headerName: 'x-group' is already used as spec.traffic.testHeader"
    )


@pytest.mark.parametrize("regex", ["^(a$", "^(?=a)b$", r"^(a)\1$", "^(?<!a)b$", "^a++$", "^(?>a)$"])
def test_an_expression_that_gateways_cannot_read_is_refused(minimal: dict[str, Any], regex: str) -> None:
    (problem,) = traffic_problems(minimal, steps=match(regex=regex))
    assert problem.startswith("spec.rollout.steps[0].match[0].headerValue.regex: ")


@pytest.mark.parametrize("regex", ["^internal$", "^(a|b)-[0-9]+$", r"^a\++$", "^(?i:beta).*$", "^(?P<x>a)?$"])
def test_an_expression_that_gateways_read_is_taken(minimal: dict[str, Any], regex: str) -> None:
    assert traffic_problems(minimal, steps=match(regex=regex)) == []


def rules(minimal: dict[str, Any], hold: dict[str, Any], administrator: HoldSettings) -> Any:
    spec = ModelDeploymentSpec.model_validate(minimal | {"hold": hold})
    return hold_rules(spec, OperatorSettings(hold=administrator))


@pytest.mark.parametrize(
    ("mine", "theirs", "together"),
    [({}, "5m", 5), ({"maxStaleness": "2m"}, "5m", 2), ({"maxStaleness": "24h"}, "5m", 5)],
    ids=["the administrator's applies", "a shorter one is granted", "a longer one is not"],
)
def test_a_spec_can_only_ask_for_fresher_knowledge(
    minimal: dict[str, Any], mine: dict[str, Any], theirs: str, together: int
) -> None:
    administrator = HoldSettings.model_validate({"maxStaleness": theirs, "onStale": "Block"})
    both = rules(minimal, mine, administrator)
    assert both.max_staleness == timedelta(minutes=together)
    assert both.on_stale is OnStale.BLOCK


def test_the_registry_is_polled_often_enough_to_know_the_marks(minimal: dict[str, Any]) -> None:
    def interval(poll: str, **hold: str) -> float:
        asked = minimal | {"registry": minimal["registry"] | {"pollInterval": poll}, "hold": hold}
        found = registry_of(ModelDeploymentSpec.model_validate(asked), OperatorSettings())
        assert found is not None
        return found.poll_interval.total_seconds()

    assert interval("1h") == 100, "a third of the default of 5 minutes"
    assert interval("1h", maxStaleness="1m") == 20
    assert interval("5s") == 5


def test_holds_are_the_union_of_both(minimal: dict[str, Any]) -> None:
    both = rules(
        minimal,
        {"tags": ["mine", "shared"], "aliases": ["mine-*"]},
        HoldSettings(tags=("theirs", "shared"), aliases=("theirs",)),
    )
    assert both.tags == ("theirs", "shared", "mine")
    assert both.aliases == ("theirs", "mine-*")


@pytest.mark.parametrize(
    ("mine", "theirs", "together"),
    [
        (HoldAction.FALLBACK, HoldAction.FALLBACK, HoldAction.FALLBACK),
        (HoldAction.BLOCK, HoldAction.FALLBACK, HoldAction.BLOCK),
        (HoldAction.FALLBACK, HoldAction.BLOCK, HoldAction.BLOCK),
        (HoldAction.BLOCK, HoldAction.BLOCK, HoldAction.BLOCK),
    ],
)
def test_the_stronger_action_counts(
    minimal: dict[str, Any], mine: HoldAction, theirs: HoldAction, together: HoldAction
) -> None:
    assert rules(minimal, {"action": mine}, HoldSettings(action=theirs)).action == together


def test_a_spec_without_holds_has_the_administrators(minimal: dict[str, Any]) -> None:
    assert rules(minimal, {}, HoldSettings()).tags == ("regulatory-hold",)


LEGAL = {"name": "legal", "modelRef": "acme/wandb-registry-model/legal:production"}


@pytest.mark.parametrize("flag", ["--max-loras=4", "--max-lora-rank=64", "--max-cpu-loras=8", "--enable-lora"])
def test_flags_that_follow_from_the_adapters_are_the_operators(minimal: dict[str, Any], flag: str) -> None:
    (problem,) = found(minimal, args=[flag], adapters=[LEGAL])
    assert (
        problem == f"spec.serving.args[0]: {flag.partition('=')[0]} is set by the operator from the adapters; remove it"
    )
    assert found(minimal, args=[flag]) == [], "without adapters they are passed to vLLM"


def test_a_problem_of_a_reference_names_its_field(minimal: dict[str, Any]) -> None:
    bad = "acme/two  words /x:production"
    problems = found(
        minimal,
        adapters=[LEGAL | {"modelRef": bad}],
        baseModelRef=bad,
        artifacts=[{"name": "prompts", "modelRef": bad}],
    )
    assert [problem.partition(": ")[0] for problem in problems] == [
        "spec.serving.baseModelRef",
        "spec.serving.adapters[legal].modelRef",
        "spec.serving.artifacts[prompts].modelRef",
    ]


def test_a_chat_template_must_be_a_file_of_a_side_artifact(minimal: dict[str, Any]) -> None:
    args = ["--chat-template=/artifacts/prompts/chat.jinja"]
    prompts = {"name": "prompts", "modelRef": "acme/prompts/support:production"}
    assert found(minimal, args=args, artifacts=[prompts]) == []
    assert "spec.serving.artifacts has no 'prompts'" in found(minimal, args=args)[0]


@pytest.mark.parametrize("arg", ["--trust-remote-code", "--data-parallel-address=192.0.2.7", "--port=1", "--oops"])
def test_an_image_by_digest_does_not_skip_the_check_of_the_flags(minimal: dict[str, Any], arg: str) -> None:
    image = f"vllm/vllm-openai@sha256:{'0' * 64}"
    (problem,) = found(minimal, image=image, args=[arg])
    assert problem.startswith("spec.serving.args[0]: ")


def test_similar_variables_are_searched_for_the_first_problems_only(
    minimal: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []

    def counted(word: str, *_: Any, **__: Any) -> list[str]:
        searched.append(word)
        return []

    monkeypatch.setattr(environment, "get_close_matches", counted)
    assert len(found(minimal, env=[{"name": f"VLLM_LOGGING_{number}", "value": ""} for number in range(64)])) == 64
    assert len(searched) == MAX_HINTS
