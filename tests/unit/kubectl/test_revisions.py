"""`diff` and `trace` read the revision records: the differences, and what produced an answer."""

import json
from datetime import timedelta
from typing import Any

import pytest

from modelsync.api.spec import ModelDeploymentSpec
from modelsync.registry.origin import Origin
from modelsync.resources.record import record
from modelsync.resources.revision import Artifact, inputs_of
from unit.kubectl.conftest import Golden, Shell
from unit.observe.builders import OWNER, SETTINGS, artifact, live, spec

RECORDS = "/apis/apps/v1/namespaces/prod/controllerrevisions"


def a_record(version: str, digest: str, others: dict[str, Artifact] | None = None, **parts: Any) -> dict[str, Any]:
    """A live ControllerRevision."""
    wanted = ModelDeploymentSpec.model_validate(spec(**parts))
    model = artifact(version, digest)
    inputs = inputs_of(OWNER.name, wanted, model, SETTINGS, [], others=others or {})
    return live(record(OWNER, inputs, model, wanted, SETTINGS, fuse_sha256="ab" * 32, others=others or {}))


def revision(item: dict[str, Any]) -> str:
    return str(item["metadata"]["labels"]["modelsync.dev/revision"])


@pytest.fixture
def two(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """v7 is the stable, v8 with an adapter and other arguments the canary."""
    ref = "acme/wandb-registry-model/legal:production"
    old = a_record("v7", "0123456789abcdef", serving={"args": ["--max-model-len=8192", "--seed=1"]})
    adapter = artifact("v2", "aaaabbbbccccdddd").model_copy(update={"collection": "legal"})
    new = a_record(
        "v8",
        "fedcba9876543210",
        {"adapter/legal": adapter},
        serving={
            "args": ["--max-model-len=4096", "--enable-prefix-caching"],
            "adapters": [{"name": "legal", "modelRef": ref}],
            "exposeBase": True,
            "env": [{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}],
            "resources": {"limits": {"nvidia.com/gpu": 1}},
        },
        traffic={**spec()["traffic"], "settle": "20s"},
    )
    shell.cluster.others[RECORDS] = {"items": [old, new]}
    shell.cluster.others["/apis/apps/v1/controllerrevisions"] = {"items": [old, new]}
    base = shell.cluster.model_deployment()
    started = shell.world.now.isoformat()
    base["status"] |= {
        "observedGeneration": 1,
        "promoted": [revision(old)],
        "canary": {"revision": revision(new), "step": 1, "weight": 10, "startedAt": started, "steps": []},
        "traffic": [{"revision": revision(old), "weight": 90}, {"revision": revision(new), "weight": 10}],
        "history": [
            {
                "revision": revision(old),
                "from": started,
                "outcome": "Promoted",
                "reason": "First",
                "trigger": "Alias",
            }
        ],
    }
    shell.cluster.instead = base
    shell.world.now += timedelta(minutes=3)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    return shell


def names_of(shell: Shell) -> tuple[str, str]:
    old, new = shell.cluster.others[RECORDS]["items"]
    return revision(old), revision(new)


def test_the_changes_of_a_canary_are_listed_by_part_and_field(two: Shell, golden: Golden) -> None:
    golden("diff", two("diff chat"))


def test_the_tree_shows_the_parts_of_a_revision(two: Shell, golden: Golden) -> None:
    golden("get-tree-parts", two("get chat"))


def test_any_two_revisions_can_be_compared_by_their_versions(two: Shell) -> None:
    old, new = names_of(two)
    data = json.loads(two("diff chat v8 v7 -o json"))
    assert (data["from"], data["to"]) == (new, old)
    assert {
        "what": "adapter legal",
        "before": "acme/wandb-registry-model/legal:v2 (digest aaaabbbbcccc)",
        "after": None,
    } in (data["changes"])


def test_revisions_that_cannot_be_compared_are_reported_with_alternatives(two: Shell) -> None:
    old, new = names_of(two)
    assert f"chat has no revision v9; its revisions: {old}, {new}" in two("diff chat v9", code=1)
    assert "give at most two revisions" in two("diff chat v7 v8 v9", code=2)
    del two.cluster.model_deployment()["status"]["canary"]
    assert f"nothing to compare: {old} is the stable" in two("diff chat", code=1)
    two.cluster.refused.add("controllerrevisions")
    assert "you lack `list` on controllerrevisions.apps in prod" in two("diff chat", code=1)
    assert "; Kubernetes' role `view` grants this" in two(f"trace {new}", code=1)


@pytest.mark.parametrize("how", ["chat@{}", "{}", "legal@{}"])
def test_an_answer_leads_to_all_that_made_it(two: Shell, golden: Golden, how: str) -> None:
    _, new = names_of(two)
    golden("trace", two(f"trace {how.format(new)}"))


def test_an_answer_is_found_by_its_other_headers(two: Shell) -> None:
    old, _ = names_of(two)
    for what in ("0123456789abcdef", "chat%20llm:v7"):
        data = json.loads(two(f"trace {what} -o json"))
        assert data["revision"] == old
    assert data["weight"] == 90
    assert data["parts"]["model"]["ref"] == "acme/wandb-registry-model/chat llm:v7"
    assert data["loggedBy"] is None


def test_an_unknown_answer_is_reported(two: Shell) -> None:
    _, new = names_of(two)
    assert "no revision matches 'v9-99999999' in namespace prod (--all-namespaces searches all)" in two(
        "trace v9-99999999", code=1
    )
    assert "no revision matches" in two(f"trace other@{new}", code=1)
    assert "has no revision after the @" in two("trace chat@latest", code=1)
    assert "write it as v7-3fa9c1d2" in two("trace hello", code=1)


def test_the_key_is_sent_only_to_the_server_that_it_is_for(two: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def origin(api: Any, artifact_id: str) -> Origin:
        asked.append((api.base_url, artifact_id))
        return Origin(run="acme/train/abc", title="sunny-1", url="https://wandb.example.com/acme/train/runs/abc")

    monkeypatch.setattr("modelsync.kubectl.commands.trace.origin", origin)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    output = two(f"trace {names_of(two)[0]}")
    refused = "not queried: WANDB_API_KEY is for https://api.wandb.ai; set WANDB_BASE_URL=https://wandb.example.com"
    assert refused in output
    assert asked == []
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.com/")
    assert "acme/train/abc (sunny-1)  https://wandb.example.com" in two(f"trace {names_of(two)[0]}")
    assert asked == [("https://wandb.example.com", "id-v7")]
