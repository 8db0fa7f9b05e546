"""The pod of a spec: what it pulls, what it runs, and what no tenant can change."""

import json
import re
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import pytest

from modelsync import middleware
from modelsync.api import pod_contract as contract
from modelsync.api.settings import OperatorSettings
from modelsync.policy import environment
from modelsync.policy.vllm_flags import OWNED
from modelsync.resources.adapter_config import AdapterRefusedError
from modelsync.resources.lora import max_rank
from modelsync.resources.objects import Object
from modelsync.resources.record import Record

Make = Callable[..., Object]


def container(template: Object, name: str) -> Object:
    (found,) = [
        each
        for kind in ("initContainers", "containers")
        for each in template["spec"][kind]
        if each["name"] == name
    ]  # fmt: skip
    assert isinstance(found, dict)
    return found


def variables(found: Object) -> dict[str, Any]:
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in found["env"]}


def test_the_init_container_pulls_exactly_this_version_and_proves_its_digest(make_pod: Make) -> None:
    pull = container(make_pod(), "pull")
    assert pull["image"] == "modelsync:1"
    assert pull["args"] == [
        "pull",
        "--artifact-id=QXJ0aWZhY3Q6MQ==",
        "--digest=d41d8cd98f00b204e9800998ecf8427e",
        "--ref=acme/wandb-registry-model/chat llm:v7",
        "--middleware-dir=/modelsync",
        "--result=/dev/termination-log",
        "--repair",
        "--weights=*.safetensors",
        "/models/d41d8cd98f00b204e9800998ecf8427e",
    ]
    assert variables(pull) == {
        "WANDB_BASE_URL": "https://wandb.example.com",
        "WANDB_API_KEY": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}},
        "HOME": "/tmp",  # noqa: S108
        "MODELSYNC_POD_UID": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}},
    }
    assert pull["terminationMessagePath"] == "/dev/termination-log"


def test_a_private_authority_is_given_to_the_puller_only(make_pod: Make) -> None:
    registry = {
        "baseURL": "https://wandb.example.com",
        "auth": {"secretKeyRef": {"name": "wandb", "key": "KEY"}},
        "caBundle": {"configMapKeyRef": {"name": "corp-ca", "key": "bundle.pem"}},
    }
    template = make_pod(registry=registry)
    pull = container(template, "pull")
    assert "--ca-file=/etc/modelsync/ca/ca.crt" in pull["args"]
    assert {"name": "ca", "mountPath": "/etc/modelsync/ca", "readOnly": True} in pull["volumeMounts"]
    volume = {"name": "corp-ca", "items": [{"key": "bundle.pem", "path": "ca.crt"}]}
    assert {"name": "ca", "configMap": volume} in template["spec"]["volumes"]
    assert "ca" not in [mount["name"] for mount in container(template, "vllm")["volumeMounts"]]


def test_vllm_serves_the_verified_folder_under_the_revisions_name_first(make_record: Make) -> None:
    record = Record.parse(make_record())
    serve = container(record.template["spec"]["template"], "vllm")
    assert serve["command"] == ["vllm", "serve", "/models/d41d8cd98f00b204e9800998ecf8427e"]
    assert serve["args"] == [
        "--host=0.0.0.0",
        "--port=8000",
        "--served-model-name",
        f"chat@{record.revision}",
        "chat",
        "--middleware=modelsync_middleware.VersionHeader",
        "--shutdown-timeout=60",
        "--fingerprint-mode=custom",
        f"--fingerprint-value={record.revision}",
    ]


def test_a_vllm_that_has_no_fingerprint_is_not_asked_for_one(make_record: Make) -> None:
    for image, asked in (
        ("vllm/vllm-openai:v0.20.2", False),
        ("vllm/vllm-openai:v0.21.0", True),
        ("corp/llm:prod", True),
    ):
        record = Record.parse(make_record(serving={"image": image}))
        args = container(record.template["spec"]["template"], "vllm")["args"]
        assert any(arg.startswith("--fingerprint") for arg in args) is asked, image


def test_the_tenants_arguments_come_last_and_its_name_is_used(make_record: Make) -> None:
    record = Record.parse(make_record(serving={"args": ["--max-model-len=8192"], "servedModelName": "acme/chat"}))
    args = container(record.template["spec"]["template"], "vllm")["args"]
    assert args[3:5] == [f"acme/chat@{record.revision}", "acme/chat"]
    assert args[-1] == "--max-model-len=8192"


def test_each_answer_can_name_its_version(make_record: Make) -> None:
    record = Record.parse(make_record())
    environ = variables(container(record.template["spec"]["template"], "vllm"))
    assert environ["MODELSYNC_REVISION"] == record.revision
    assert environ["MODELSYNC_VERSION"] == "chat llm:v7"
    assert environ["MODELSYNC_DIGEST"] == "d41d8cd98f00b204e9800998ecf8427e"
    assert environ["MODELSYNC_SERVED_NAMES"] == f"chat@{record.revision},chat"
    assert environ["MODELSYNC_FUSE_SHA256"] == "5f" * 32
    assert environ["MODELSYNC_MODEL_DIR"] == "/models/d41d8cd98f00b204e9800998ecf8427e"


def test_vllm_gets_no_credential_no_token_and_no_network_use_of_its_own(make_pod: Make) -> None:
    template = make_pod()
    environ = variables(container(template, "vllm"))
    assert not any("WANDB" in name for name in environ)
    assert all(isinstance(value, str) for value in environ.values())
    assert template["spec"]["automountServiceAccountToken"] is False
    assert template["spec"]["enableServiceLinks"] is False
    offline = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK")
    assert [environ[name] for name in offline] == ["1"] * 4


def test_what_is_set_for_vllm_is_what_a_tenant_may_not_set(make_pod: Make) -> None:
    environ = variables(container(make_pod(), "vllm"))
    assert {name for name in environ if not name.startswith("MODELSYNC_")} == environment.OPERATOR_SETS
    assert [name for name in environ if environment.refusal(name, ["*"]) is None] == []


def test_what_is_given_as_an_argument_is_what_a_tenant_may_not_give(make_pod: Make) -> None:
    args = container(make_pod(), "vllm")["args"]
    flags = {arg.partition("=")[0] for arg in args if arg.startswith("--")}
    assert flags <= OWNED.keys()


def test_the_names_shared_with_the_middleware_agree() -> None:
    """The middleware runs without this package and has a copy of its part of the contract."""
    source = b"\n".join(middleware.files().values()).decode()
    package, _, application = contract.MIDDLEWARE.partition(".")
    assert package == middleware.PACKAGE
    assert f"class {application}:" in source
    for path in ("READY", "DRAIN", "FUSE", "EXAM", "METRICS"):
        assert f'{path}_PATH = "{getattr(contract, f"{path}_PATH")}"' in source
    variables = {value for name, value in vars(contract).items() if name.endswith("_VARIABLE")}
    assert set(re.findall(r"MODELSYNC_[A-Z0-9_]+", source)) == variables - {contract.POD_UID_VARIABLE}


def test_nothing_of_a_tenants_is_expanded_by_kubernetes(make_pod: Make) -> None:
    given = {
        "args": ["--chat-template-content-format=$(MODELSYNC_DIGEST)"],
        "env": [{"name": "TZ", "value": "$(HOME) $$ 5$"}],
    }
    serve = container(make_pod(serving=given), "vllm")
    assert serve["args"][-1] == "--chat-template-content-format=$$(MODELSYNC_DIGEST)"
    assert variables(serve)["TZ"] == "$$(HOME) $$$$ 5$$"


def test_the_model_is_writable_for_the_puller_and_read_only_for_vllm(make_pod: Make) -> None:
    template = make_pod()
    by_container = {
        name: {mount["name"]: mount.get("readOnly", False) for mount in container(template, name)["volumeMounts"]}
        for name in ("pull", "vllm")
    }
    assert (by_container["pull"]["model"], by_container["vllm"]["model"]) == (False, True)
    assert (by_container["pull"]["middleware"], by_container["vllm"]["middleware"]) == (False, True)


def test_what_the_middleware_keeps_outlives_containers_and_goes_with_the_pod(make_pod: Make) -> None:
    template = make_pod()
    serve = container(template, "vllm")
    assert {"name": "state", "mountPath": variables(serve)["MODELSYNC_STATE_DIR"]} in serve["volumeMounts"]
    assert {"name": "state", "emptyDir": {"sizeLimit": "16Mi"}} in template["spec"]["volumes"]


def test_every_cache_and_home_lies_where_vllm_can_write(make_pod: Make) -> None:
    serve = container(make_pod(), "vllm")
    writable = tuple(mount["mountPath"] for mount in serve["volumeMounts"] if not mount.get("readOnly"))
    environ = variables(serve)
    for name in (
        "HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME", "VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT",
        "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR",
    ):  # fmt: skip
        assert environ[name].startswith(writable)


@pytest.mark.parametrize("name", ["pull", "vllm"])
def test_each_container_is_as_restricted_as_pod_security_demands(make_pod: Make, name: str) -> None:
    assert container(make_pod(), name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def test_the_pod_runs_as_vllms_own_user_who_owns_the_volumes(make_pod: Make) -> None:
    security = make_pod()["spec"]["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (2000, 2000, 2000)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}


def test_the_cluster_may_say_who_the_user_is(make_record: Make) -> None:
    def security(**settings: Any) -> Any:
        record = Record.parse(make_record(OperatorSettings(puller_image="modelsync:1", **settings)))
        return record.template["spec"]["template"]["spec"]["securityContext"]

    restricted = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert security(run_as_user=None) == restricted
    assert security(run_as_user=1234) == restricted | {
        "runAsUser": 1234,
        "runAsGroup": 1234,
        "fsGroup": 1234,
        "fsGroupChangePolicy": "OnRootMismatch",
    }


def test_the_user_of_the_pods_is_not_part_of_the_revision(make_record: Make) -> None:
    names = {
        Record.parse(make_record(OperatorSettings(puller_image="modelsync:1", run_as_user=user))).revision
        for user in (2000, 1234, None)
    }
    assert len(names) == 1


@pytest.mark.parametrize(
    ("resource", "read_only"), [("nvidia.com/gpu", False), ("nvidia.com/mig-1g.5gb", False), ("amd.com/gpu", True)]
)
def test_nvidias_driver_needs_a_root_that_it_can_write_to(make_pod: Make, resource: str, read_only: bool) -> None:
    template = make_pod(serving={"resources": {"limits": {resource: 1}}})
    assert container(template, "vllm")["securityContext"]["readOnlyRootFilesystem"] is read_only
    assert container(template, "pull")["securityContext"]["readOnlyRootFilesystem"] is True


CLAIM = {"type": "PersistentVolumeClaim", "claimName": "models"}


def test_on_a_claim_the_puller_writes_and_vllm_reads(make_pod: Make) -> None:
    template = make_pod(serving={"storage": CLAIM})
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert volumes["model"] == {"name": "model", "persistentVolumeClaim": {"claimName": "models"}}
    assert [name for name, volume in volumes.items() if "emptyDir" not in volume] == ["model"]
    assert {"name": "model", "mountPath": "/models"} in container(template, "pull")["volumeMounts"]
    mounts = [mount for mount in container(template, "vllm")["volumeMounts"] if mount["name"] == "model"]
    assert mounts == [{"name": "model", "mountPath": "/models", "readOnly": True}]


def test_what_vllm_compiles_is_kept_on_a_claim_where_that_is_asked_for(make_pod: Make) -> None:
    template = make_pod(serving={"storage": CLAIM | {"compileCache": True}})
    (cache,) = [each for each in container(template, "vllm")["volumeMounts"] if each["mountPath"] == "/compile-cache"]
    assert not cache.get("readOnly")
    assert f"--make-dir=/models/{cache['subPath']}" in container(template, "pull")["args"]
    environ = variables(container(template, "vllm"))
    caches = [environ[name] for name in ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")]
    assert caches == ["/compile-cache/vllm", "/compile-cache/torchinductor", "/compile-cache/triton"]
    assert (environ["HOME"], environ["XDG_CACHE_HOME"]) == ("/scratch", "/scratch/.cache")


def test_servers_that_differ_share_no_compile_cache(make_pod: Make) -> None:
    def folder(**serving: Any) -> str:
        template = make_pod(serving={"storage": CLAIM | {"compileCache": True}} | serving)
        (cache,) = [each for each in container(template, "vllm")["volumeMounts"] if "subPath" in each]
        return str(cache["subPath"])

    assert folder() == folder(servedModelName="other", scheduling={"nodeSelector": {"a": "b"}})
    others = {
        folder(image="vllm/vllm-openai:v0.33.0"),
        folder(args=["--max-model-len=8192"]),
        folder(env=[{"name": "TZ", "value": "UTC"}]),
        folder(resources={"limits": {"nvidia.com/gpu": 1}}),
    }
    assert len(others | {folder()}) == 5


def test_ready_means_that_the_model_has_answered(make_pod: Make) -> None:
    probe = container(make_pod(), "vllm")["readinessProbe"]
    assert probe["httpGet"]["path"] == "/modelsync/ready"
    assert probe["periodSeconds"] == 1


def test_a_slow_load_is_not_killed(make_pod: Make) -> None:
    serve = container(make_pod(), "vllm")
    startup = serve["startupProbe"]
    assert startup["httpGet"]["path"] == "/health"
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 3 * 3600
    # Kubernetes starts the liveness probe after the startup probe has succeeded, so it must have no initial delay.
    assert "initialDelaySeconds" not in serve["livenessProbe"]


@pytest.mark.parametrize(
    ("settle", "shutdown", "pre_stop"),
    [("5s", "60s", 5), ("0s", "1s", 5), ("30s", "5m", 30), ("5s1ms", "60s", 6)],
)
def test_a_pod_outlives_the_gateways_knowledge_of_it_and_then_drains(
    make_pod: Make, settle: str, shutdown: str, pre_stop: int
) -> None:
    template = make_pod(traffic={"settle": settle}, serving={"shutdownTimeout": shutdown})
    serve = container(template, "vllm")
    assert serve["lifecycle"]["preStop"]["httpGet"]["path"] == contract.DRAIN_PATH
    assert variables(serve)["MODELSYNC_SETTLE_SECONDS"] == str(pre_stop)
    drain = int(next(arg for arg in serve["args"] if "--shutdown-timeout" in arg).partition("=")[2])
    assert variables(serve)["MODELSYNC_DRAIN_SECONDS"] == str(drain)
    assert template["spec"]["terminationGracePeriodSeconds"] > pre_stop + drain


def test_scheduling_resources_and_metadata_arrive_in_the_pod(make_pod: Make) -> None:
    template = make_pod(
        serving={
            "resources": {"limits": {"nvidia.com/gpu": 1}},
            "scheduling": {
                "nodeSelector": {"gpu": "h100"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                "runtimeClassName": "nvidia",
            },
            "podMetadata": {"labels": {"team": "search"}, "annotations": {"acme.dev/note": "x"}},
            "serviceAccountName": "chat",
            "imagePullSecrets": [{"name": "corp"}],
            "sharedMemory": "16Gi",
            "storage": {"type": "EmptyDir", "size": "200Gi"},
        }
    )
    spec = template["spec"]
    assert container(template, "vllm")["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert spec["nodeSelector"] == {"gpu": "h100"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert (spec["runtimeClassName"], spec["serviceAccountName"]) == ("nvidia", "chat")
    assert spec["imagePullSecrets"] == [{"name": "corp"}]
    assert template["metadata"]["labels"]["team"] == "search"
    assert template["metadata"]["annotations"] == {"acme.dev/note": "x"}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    assert volumes["model"]["emptyDir"] == {"sizeLimit": "200Gi"}


def test_no_label_of_a_tenant_takes_the_pod_out_of_its_services(make_pod: Make) -> None:
    # Validation rejects such a label; even if it did not, the selectors must match.
    labels = make_pod(serving={"podMetadata": {"labels": {"modelsync.dev/name": "other"}}})["metadata"]["labels"]
    assert labels["modelsync.dev/name"] == "chat"


def test_the_pullers_image_is_not_part_of_the_revision(make_record: Make) -> None:
    one = Record.parse(make_record(OperatorSettings(puller_image="modelsync:1")))
    other = Record.parse(make_record(OperatorSettings(puller_image="modelsync:2")))
    assert one.revision == other.revision
    assert container(other.template["spec"]["template"], "pull")["image"] == "modelsync:2"


# --- side artifacts --------------------------------------------------------------------------------------------------

PROMPTS = {"name": "prompts", "modelRef": "acme/prompt-library/support:production"}


def test_each_side_artifact_is_pulled_by_a_container_of_its_own_and_the_middleware_placed_once(make_pod: Make) -> None:
    template = make_pod(serving={"artifacts": [PROMPTS]})
    model, prompts = template["spec"]["initContainers"]
    assert (model["name"], prompts["name"]) == ("pull", "pull-1")
    digest = next(arg for arg in prompts["args"] if arg.startswith("--digest=")).removeprefix("--digest=")
    assert prompts["args"] == [
        "pull",
        "--artifact-id=id of acme/prompt-library/support:production",
        f"--digest={digest}",
        "--ref=acme/prompt-library/support:v2",
        "--result=/dev/termination-log",
        "--repair",
        f"/models/{digest}",
    ]
    assert "--middleware-dir=/modelsync" in model["args"]
    assert {"name": "middleware", "mountPath": "/modelsync"} not in prompts["volumeMounts"]


def test_a_side_artifact_is_mounted_read_only_under_its_name(make_pod: Make) -> None:
    template = make_pod(serving={"artifacts": [PROMPTS]})
    pulled = container(template, "pull-1")["args"][-1]
    (mount,) = [
        mount for mount in container(template, "vllm")["volumeMounts"] if mount["mountPath"].startswith("/artifacts")
    ]
    assert mount == {
        "name": "model",
        "mountPath": "/artifacts/prompts",
        "subPath": pulled.removeprefix("/models/"),
        "readOnly": True,
    }


def test_the_same_content_is_pulled_once_and_mounted_under_each_name(make_pod: Make) -> None:
    template = make_pod(serving={"artifacts": [PROMPTS, PROMPTS | {"name": "again"}]})
    assert [each["name"] for each in template["spec"]["initContainers"]] == ["pull", "pull-1"]
    mounts = [mount["mountPath"] for mount in container(template, "vllm")["volumeMounts"]]
    assert {"/artifacts/prompts", "/artifacts/again"} <= set(mounts)


# --- adapters --------------------------------------------------------------------------------------------------------

LEGAL = {"name": "legal", "modelRef": "acme/wandb-registry-model/legal-lora:production"}
BASE = "acme/wandb-registry-model/base:production"


def modules(args: list[str]) -> list[dict[str, str]]:
    start = args.index("--lora-modules") + 1
    return [json.loads(arg) for arg in takewhile(lambda arg: arg.startswith("{"), args[start:])]


def test_an_adapter_is_loaded_from_its_own_verified_folder_under_a_name_with_the_revision(make_record: Make) -> None:
    record = Record.parse(make_record(serving={"adapters": [LEGAL]}))
    server = container(record.template["spec"]["template"], "vllm")
    digest = record.others["adapter/legal"].digest
    assert server["command"] == ["vllm", "serve", "/models/d41d8cd98f00b204e9800998ecf8427e"]
    assert {"--enable-lora", "--max-loras=1", "--max-cpu-loras=1", "--max-lora-rank=32"} <= set(server["args"])
    assert modules(server["args"]) == [
        {"name": f"legal@{record.revision}", "path": f"/models/{digest}", "base_model_name": f"chat@{record.revision}"}
    ]
    environ = variables(server)
    assert environ["MODELSYNC_ADAPTER_NAMES"] == f"legal@{record.revision}"
    assert environ["MODELSYNC_BASE_NAMES"] == environ["MODELSYNC_SERVED_NAMES"] == f"chat@{record.revision},chat"
    assert environ["MODELSYNC_EXPOSE_BASE"] == "false"
    assert "MODELSYNC_DEFAULT_NAME" not in environ, "a request without a model name must not get an adapter by accident"


def test_with_a_base_the_model_itself_is_an_adapter_and_the_base_has_a_name_of_its_own(make_record: Make) -> None:
    record = Record.parse(make_record(serving={"baseModelRef": BASE, "adapters": [LEGAL], "exposeBase": True}))
    server = container(record.template["spec"]["template"], "vllm")
    assert server["command"][-1] == f"/models/{record.others['base'].digest}"
    names = server["args"].index("--served-model-name")
    assert server["args"][names + 1 : names + 3] == [f"chat-base@{record.revision}", "chat-base"]
    assert [module["name"] for module in modules(server["args"])] == [
        f"chat@{record.revision}",
        f"legal@{record.revision}",
    ]
    assert modules(server["args"])[0]["path"] == "/models/d41d8cd98f00b204e9800998ecf8427e"
    environ = variables(server)
    assert environ["MODELSYNC_DEFAULT_NAME"] == f"chat@{record.revision}"
    assert environ["MODELSYNC_EXPOSE_BASE"] == "true"


def test_without_adapters_no_lora_argument_is_set(make_pod: Make) -> None:
    server = container(make_pod(), "vllm")
    assert not [arg for arg in server["args"] if "lora" in arg]
    assert not {name for name in variables(server) if name.startswith(("MODELSYNC_ADAPTER", "MODELSYNC_BASE"))}


@pytest.mark.parametrize(("ranks", "wanted"), [([1], 1), ([7], 8), ([16, 24], 32), ([512], 512)])
def test_the_rank_is_the_smallest_that_vllm_offers_and_all_adapters_fit(ranks: list[int], wanted: int) -> None:
    assert max_rank(ranks, "vllm/vllm-openai:v0.32.0") == wanted


def test_a_rank_above_what_that_vllm_allows_is_refused() -> None:
    with pytest.raises(AdapterRefusedError, match="its rank is 513, but vLLM accepts at most 512"):
        max_rank([8, 513], "vllm/vllm-openai:v0.32.0")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], ["--weights=*.safetensors"]),
        (["--load-format=auto"], ["--weights=*.safetensors"]),
        (["--load-format=fastsafetensors"], ["--weights=*.safetensors"]),
        (["--load-format=mistral"], ["--weights=consolidated*.safetensors"]),
        (["--load-format=pt"], []),
    ],
)
def test_pickled_weights_are_refused_unless_the_administrator_allowed_the_loader(
    make_pod: Make, args: list[str], expected: list[str]
) -> None:
    pull = container(make_pod(serving={"args": args}), "pull")
    assert [arg for arg in pull["args"] if arg.startswith("--weights")] == expected


def test_side_artifacts_may_contain_anything_but_base_and_adapters_may_not(make_pod: Make) -> None:
    prompts = {"name": "prompts", "modelRef": "acme/wandb-registry-model/prompts:production"}
    serving = {"baseModelRef": BASE, "adapters": [LEGAL], "artifacts": [prompts], "args": ["--load-format=mistral"]}
    pulls = make_pod(serving=serving)["spec"]["initContainers"]
    patterns = {
        next(arg for arg in each["args"] if arg.startswith("--ref=")): [
            arg for arg in each["args"] if arg.startswith("--weights=")
        ]
        for each in pulls
    }
    assert patterns == {
        "--ref=acme/wandb-registry-model/chat llm:v7": ["--weights=*.safetensors"],
        "--ref=acme/wandb-registry-model/prompts:v2": [],
        f"--ref={BASE.rpartition(':')[0]}:v2": ["--weights=consolidated*.safetensors"],
        f"--ref={LEGAL['modelRef'].rpartition(':')[0]}:v2": ["--weights=*.safetensors"],
    }
