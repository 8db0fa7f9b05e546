"""The definition in a real API server."""

from typing import Any

import pytest

from apiserver import DEFINITIONS, ApiServer, RefusedError, collection, wait_for
from modelsync.api import names

MINIMAL: dict[str, Any] = {
    "modelRef": "acme/models/chat:production",
    "registry": {
        "baseURL": "https://wandb.example.com",
        "auth": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}},
    },
}
STATUS = {
    "observedGeneration": 1,
    "phase": "Canary",
    "promoted": ["v5-aaaaaaaa", "v6-bbbbbbbb"],
    "canary": {
        "revision": "v7-cccccccc",
        "step": 0,
        "weight": 5,
        "steps": [{"setWeight": 5}],
        "startedAt": "2026-11-21T08:00:00.123456Z",
    },
    "resolved": {
        "alias": "production",
        "collection": "acme/models/chat",
        "version": "v7",
        "artifactID": "1",
        "digest": "d41d8cd98f00b204e9800998ecf8427e",
        "size": 5_000_000_000,
        "firstSeen": "2026-11-21T08:00:00Z",
        "revision": "v7-cccccccc",
        "content": "0011223344556677",
    },
    "holds": [
        {
            "digest": "0cc175b9c0f1b6a831c399e269772661",
            "collection": "acme/models/chat",
            "version": "v4",
            "via": "VersionTag",
            "name": "regulatory-hold",
            "since": "2026-11-21T08:00:00Z",
        }
    ],
    "fallback": {"revision": "v5-aaaaaaaa", "ready": True, "reason": "the newest that is not held"},
    "replicas": 3,
    "readyReplicas": 3,
    "selector": "modelsync.dev/name=chat",
    "conditions": [
        {
            "type": "Ready",
            "status": "Unknown",
            "reason": "Canary",
            "message": "5 % on v7",
            "lastTransitionTime": "2026-11-21T08:00:00Z",
            "observedGeneration": 1,
        }
    ],
}


def model_deployment(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": MINIMAL | spec}


@pytest.fixture
def made(api: ApiServer, definition: dict[str, Any], namespace: str, request: pytest.FixtureRequest) -> str:
    """The path of this test's own ModelDeployment."""
    name = f"t{abs(hash(request.node.name)) % 10**8}"
    api.create_owner(namespace, name, MINIMAL)
    return f"{collection(namespace)}/{name}"


def write_status(api: ApiServer, path: str, status: dict[str, Any]) -> Any:
    live = api.call("GET", path)
    return api.call("PUT", f"{path}/status", live | {"status": status}, query={"fieldValidation": "Strict"})


def test_it_is_structural_and_its_names_are_free(definition: dict[str, Any]) -> None:
    conditions = {item["type"]: item["status"] for item in definition["status"]["conditions"]}
    assert conditions.get("NonStructuralSchema") is None
    assert conditions["NamesAccepted"] == conditions["Established"] == "True"


def test_the_apiserver_would_take_it_anew_with_every_rule_within_its_budget(api: ApiServer) -> None:
    """The API server checks CEL cost limits when a definition is created; a dry run with an unused name does that."""
    fresh = api.call("GET", f"{DEFINITIONS}/{names.CRD_NAME}")
    spec = fresh["spec"] | {"group": "dry-run.modelsync.dev"}
    metadata = {"name": f"{names.PLURAL}.dry-run.modelsync.dev"}
    body = {"apiVersion": fresh["apiVersion"], "kind": fresh["kind"], "metadata": metadata, "spec": spec}
    api.call("POST", DEFINITIONS, body, query={"dryRun": "All", "fieldValidation": "Strict"})


def test_only_replicas_is_filled_in(api: ApiServer, made: str) -> None:
    assert api.call("GET", made)["spec"] == MINIMAL | {"replicas": 1}


def test_the_longest_allowed_name_is_taken(api: ApiServer, definition: dict[str, Any], namespace: str) -> None:
    api.create(namespace, model_deployment("n" * names.MAX_NAME_LENGTH), dry_run=True)
    with pytest.raises(RefusedError, match=r"metadata\.name must have at most 40 characters"):
        api.create(namespace, model_deployment("n" * (names.MAX_NAME_LENGTH + 1)), dry_run=True)


def test_a_whole_status_is_stored_and_is_no_new_generation(api: ApiServer, made: str) -> None:
    generation = api.call("GET", made)["metadata"]["generation"]
    written = write_status(api, made, STATUS)
    assert written["status"] == STATUS
    assert written["metadata"]["generation"] == generation


def test_the_spec_cannot_be_changed_through_the_status(api: ApiServer, made: str) -> None:
    live = api.call("GET", made)
    api.call("PUT", f"{made}/status", live | {"spec": live["spec"] | {"replicas": 9}, "status": STATUS})
    assert api.call("GET", made)["spec"]["replicas"] == 1


def test_an_autoscaler_finds_what_it_needs(api: ApiServer, made: str) -> None:
    write_status(api, made, STATUS)
    scale = api.call("GET", f"{made}/scale")
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"] == {"replicas": 3, "selector": "modelsync.dev/name=chat"}
    api.call("PUT", f"{made}/scale", scale | {"spec": {"replicas": 7}})
    assert api.call("GET", made)["spec"]["replicas"] == 7


def test_scaling_to_nothing_is_idle_and_below_it_is_refused(api: ApiServer, made: str) -> None:
    scale = api.call("GET", f"{made}/scale")
    with pytest.raises(RefusedError, match="replicas"):
        api.call("PUT", f"{made}/scale", scale | {"spec": {"replicas": -1}})
    api.call("PUT", f"{made}/scale", scale | {"spec": {"replicas": 0}})
    assert api.call("GET", made)["spec"]["replicas"] == 0


def test_a_table_shows_what_a_pager_reader_looks_for(api: ApiServer, made: str) -> None:
    write_status(api, made, STATUS)
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    table = api.call("GET", made, accept=accept)
    (row,) = table["rows"]
    shown = dict(zip([column["name"] for column in table["columnDefinitions"]], row["cells"], strict=True))
    assert (shown["Ready"], shown["Phase"], shown["Alias"]) == ("Unknown", "Canary", "production")
    assert (shown["Version"], shown["Target"], shown["Weight"]) == ("v6-bbbbbbbb", "v7-cccccccc", 5)
    assert (shown["Fallback"], shown["Hold"]) == ("v5-aaaaaaaa", "regulatory-hold")
    assert (shown["Digest"], shown["Replicas"]) == ("d41d8cd98f00b204e9800998ecf8427e", 3)
    assert shown["Status"] == "5 % on v7"


def test_it_is_found_under_its_short_name_and_in_kubectl_get_all(api: ApiServer, definition: dict[str, Any]) -> None:
    def served() -> Any:
        found = api.call("GET", f"/apis/{names.API_VERSION}")["resources"]
        return next((each for each in found if each["name"] == names.PLURAL), None)

    resource = wait_for("discovery to list it", served)
    assert resource["shortNames"] == ["mdep"]
    assert set(resource["categories"]) == {"all", "modelsync"}
    assert resource["namespaced"] is True


def test_a_second_writer_of_one_item_does_not_take_the_others(api: ApiServer, made: str) -> None:
    """The environment is a list with the key name, so two appliers each own their entries."""

    def apply(manager: str, variable: str) -> None:
        body: dict[str, Any] = {"apiVersion": names.API_VERSION, "kind": names.KIND}
        body |= {"spec": {"serving": {"env": [{"name": variable, "value": "1"}]}}}
        query = {"fieldManager": manager}
        api.call("PATCH", made, body, query=query, content_type="application/apply-patch+yaml")

    apply("one", "NCCL_DEBUG")
    apply("other", "TZ")
    env = api.call("GET", made)["spec"]["serving"]["env"]
    assert {variable["name"] for variable in env} == {"NCCL_DEBUG", "TZ"}
