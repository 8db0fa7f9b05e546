"""wandb's own client returns the same answers from the same server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from integration.registry.conftest import Project
from modelsync.api.model_ref import ModelRef
from modelsync.registry.credential import Credential
from modelsync.registry.graphql import GraphQL
from modelsync.registry.model import Missing, Outcome, Question, Resolved
from modelsync.registry.resolver import Resolver
from wandb_standin import Admin, StandIn

# In a separate process: the SDK starts a child, reads the environment and keeps process-wide state.
SDK = """
import json, sys, wandb
api = wandb.Api()
answers = {}
for path in sys.argv[1:]:
    try:
        a = api.artifact(path)
    except Exception as error:
        answers[path] = {"error": str(error)}
        continue
    answers[path] = dict(
        entity=a.entity, project=a.project, collection=a.collection.name, version=a.version,
        source=a.source_qualified_name, source_version=a.source_version, id=a.id, digest=a.digest, size=a.size,
        files=a.file_count, type=a.type, state=a.state, tags=sorted(a.tags), aliases=sorted(a.aliases),
        collection_tags=sorted(a.collection.tags), metadata=a.metadata, created=a.created_at,
    )
print(json.dumps(answers))
wandb.teardown()
"""


def ask_sdk(standin: StandIn, home: Path, refs: list[ModelRef]) -> dict[str, Any]:
    folders = {
        name: str(home) for name in ("HOME", "WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR")
    }
    wanted = {"PATH", "TMPDIR", "SYSTEMROOT", "LANG"}
    environment = {name: value for name, value in os.environ.items() if name in wanted} | folders
    environment |= {"WANDB_BASE_URL": standin.url, "WANDB_API_KEY": standin.api_key, "WANDB_SILENT": "true"}
    done = subprocess.run(
        [sys.executable, "-c", SDK, *map(str, refs)],
        env=environment | {"WANDB_ERROR_REPORTING": "false"},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answers


def as_sdk(found: Resolved) -> dict[str, Any]:
    return {
        "entity": found.entity,
        "project": found.project,
        "collection": found.collection,
        "version": found.version,
        "source": f"{found.artifact.source}:{found.source_version}",
        "source_version": found.source_version,
        "id": found.artifact_id,
        "digest": found.digest,
        "size": found.size,
        "files": found.file_count,
        "type": found.type,
        "state": found.state,
        "tags": sorted(found.tags),
        "aliases": sorted(found.aliases),
        "collection_tags": sorted(found.collection_tags),
        "metadata": json.loads(found.metadata or "{}"),
        "created": found.created_at,
    }


async def test_plain_and_registry_references_resolve_as_wandb_resolves_them(
    standin: StandIn, admin: Admin, project: Project, registry: str, tmp_path: Path
) -> None:
    project.log(aliases=["old"])
    source = project.log(aliases=["production", "näher"], tags=["approved"], metadata={"eval": {"accuracy": 0.93}})
    admin.link(source, f"{registry}/chat llm", aliases=["production", "eu west"])
    admin.add_collection_tag(f"{registry}/chat llm", "gold", "regulatory-hold v7")
    admin.set_alias(f"acme-ml/{project.name}/chat:v0", "latest")
    name = registry.partition("/")[2]
    refs = [
        project.ref("production"),
        project.ref("v0"),
        project.ref("latest"),
        project.ref("näher"),
        ModelRef.parse(f"{registry}/chat llm:production"),
        ModelRef.parse(f"{registry}/chat llm:eu west"),
        ModelRef.parse(f"{registry}/chat llm:v0"),
        ModelRef.parse(f"Acme/{name}/chat llm:production"),
        project.ref("none"),
        project.ref("v77"),
        project.ref("production", "none"),
        ModelRef.parse(f"acme-ml/{project.name}-none/chat:production"),
    ]
    expected = ask_sdk(standin, tmp_path, refs)
    async with GraphQL(standin.url, Credential(standin.api_key)) as api:
        found: dict[ModelRef, Outcome] = dict((await Resolver().read(api, [Question(refs=frozenset(refs))])).refs)
    assert sum("error" in answer for answer in expected.values()) == 4
    for ref in refs:
        outcome, sdk = found[ref], expected[str(ref)]
        if "error" in sdk:
            assert isinstance(outcome, Missing), f"{ref}: {sdk['error']}"
        else:
            assert isinstance(outcome, Resolved), f"{ref}: {outcome}"
            assert as_sdk(outcome) == sdk


@pytest.mark.parametrize("text", ["a/b", "acme/llms/chat"])
def test_what_wandb_would_complete_by_itself_has_to_be_written_out(text: str) -> None:
    with pytest.raises(ValueError, match="add one, such as"):
        ModelRef.parse(text)
