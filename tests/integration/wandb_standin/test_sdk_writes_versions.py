"""The real SDK logs, links, aliases, tags, uses and deletes versions; each is verified in another way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wandb_standin import Admin


@pytest.fixture
def run(wandb: Any) -> Iterator[Any]:
    with wandb.init(entity="acme-ml", project="llm", job_type="train") as started:
        yield started


@pytest.fixture
def log(wandb: Any, run: Any, collection: str) -> Callable[..., Any]:
    """Log files as a version of the test's collection."""

    def log_version(files: dict[str, str] | Path, aliases: list[str] | None = None, **settings: Any) -> Any:
        artifact = wandb.Artifact(collection, type="model", **settings)
        if isinstance(files, Path):
            artifact.add_dir(str(files))
        else:
            for name, text in files.items():
                with artifact.new_file(name) as file:
                    file.write(text)
        return run.log_artifact(artifact, aliases=aliases).wait()

    return log_version


def test_a_logged_version_downloads_as_it_was(
    log: Callable[..., Any], api: Any, collection: str, model_folder: Path, tmp_path: Path, contents: Any
) -> None:
    logged = log(model_folder, aliases=["best"], metadata={"eval": {"accuracy": 0.93}}, description="fine-tuned")

    found = api.artifact(f"acme-ml/llm/{collection}:best")
    root = Path(found.download(root=str(tmp_path / "down")))
    found.verify(root=str(root))

    assert (found.id, found.version) == (logged.id, "v0")
    assert found.metadata == {"eval": {"accuracy": 0.93}}
    assert found.description == "fine-tuned"
    assert found.file_count == 3
    assert contents(root) == contents(model_folder)


def test_the_same_content_is_the_same_version(log: Callable[..., Any]) -> None:
    assert log({"a": "same"}).id == log({"a": "same"}, aliases=["again"]).id


def test_a_next_version_takes_latest_and_uploads_only_what_is_new(
    log: Callable[..., Any], admin: Admin, collection: str
) -> None:
    log({"big": "unchanged" * 1000, "config": "1"})
    before = admin.last_request()
    log({"big": "unchanged" * 1000, "config": "2"})

    assert admin.show(f"acme-ml/llm/{collection}:latest").version == "v1"
    uploaded = {ref for r in admin.requests(since=before, operation="upload") for ref in r.refs}
    assert "big" not in uploaded
    assert "config" in uploaded


def test_an_xxh128_version_downloads_and_verifies(
    wandb: Any, run: Any, api: Any, admin: Admin, collection: str, model_folder: Path, tmp_path: Path
) -> None:
    admin.configure(xxhash_digests={"acme-ml": True})
    artifact = wandb.Artifact(collection, type="model", digest_algorithm="XXH128")
    artifact.add_dir(str(model_folder))
    run.log_artifact(artifact).wait()

    found = api.artifact(f"acme-ml/llm/{collection}:latest")
    found.verify(root=found.download(root=str(tmp_path / "down")))

    assert found.digest_algorithm.value == "MANIFEST_XXH128"
    assert found.digest == found.manifest.digest()


def test_a_link_makes_a_registry_version_with_its_own_aliases(
    log: Callable[..., Any], admin: Admin, run: Any, api: Any, collection: str
) -> None:
    admin.log_artifact("acme-ml", "llm", f"{collection}-0", {"a": collection.encode()})
    admin.link(f"acme-ml/llm/{collection}-0:v0", f"acme/wandb-registry-model/{collection} chat")
    source = log({"a": "linked"})

    linked = run.link_artifact(source, f"wandb-registry-model/{collection} chat", aliases=["staging"])

    assert linked.version == "v1"
    shown = admin.show(f"acme/wandb-registry-model/{collection} chat:staging")
    assert (shown.version, shown.artifact_id) == ("v1", source.id)
    assert set(shown.aliases) == {"v1", "latest", "staging"}
    assert admin.show(f"acme/wandb-registry-model/{collection} chat:v0").aliases == ("v0",)
    assert api.artifact(f"acme-ml/llm/{collection}:v0").aliases == ["latest"]


def test_an_alias_moves_to_the_version_it_is_given_to(
    log: Callable[..., Any], admin: Admin, api: Any, collection: str
) -> None:
    log({"a": "1"}, aliases=["production"])
    log({"a": "2"})
    newer = api.artifact(f"acme-ml/llm/{collection}:v1")

    newer.aliases.append("production")
    newer.save()

    assert admin.show(f"acme-ml/llm/{collection}:production").version == "v1"
    assert "production" not in admin.show(f"acme-ml/llm/{collection}:v0").aliases


def test_an_alias_can_be_taken_away(log: Callable[..., Any], admin: Admin, api: Any, collection: str) -> None:
    log({"a": "1"}, aliases=["production", "other"])
    version = api.artifact(f"acme-ml/llm/{collection}:production")

    version.aliases.remove("production")
    version.save()

    assert set(admin.show(version.source_qualified_name).aliases) == {"v0", "latest", "other"}


def test_a_tag_of_the_version_is_seen_through_every_link(
    log: Callable[..., Any], admin: Admin, api: Any, collection: str
) -> None:
    source = log({"a": "1"}, aliases=["best"])
    admin.link(f"acme-ml/llm/{collection}:v0", f"acme/wandb-registry-model/{collection}", aliases=["production"])

    linked = api.artifact(f"acme/wandb-registry-model/{collection}:production")
    linked.tags = ["regulatory-hold"]
    linked.save()
    assert api.artifact(f"acme-ml/llm/{collection}:best").tags == ["regulatory-hold"]

    again = api.artifact(source.qualified_name)
    again.tags = []
    again.save()
    assert api.artifact(f"acme/wandb-registry-model/{collection}:production").tags == []


def test_tags_of_a_collection_are_added_and_removed(
    log: Callable[..., Any], admin: Admin, api: Any, collection: str
) -> None:
    log({"a": "1"})
    found = api.artifact_collection("model", f"acme-ml/llm/{collection}")

    found.tags = ["regulatory-hold v0", "approved"]
    found.save()
    assert sorted(api.artifact_collection("model", f"acme-ml/llm/{collection}").tags) == [
        "approved",
        "regulatory-hold v0",
    ]

    found.tags = ["approved"]
    found.save()
    assert api.artifact_collection("model", f"acme-ml/llm/{collection}").tags == ["approved"]


def test_a_run_that_uses_a_version_is_in_its_lineage(
    log: Callable[..., Any], run: Any, wandb: Any, api: Any, collection: str
) -> None:
    log({"a": "1"}, aliases=["best"])
    run.finish()
    with wandb.init(entity="acme-ml", project="deployments", job_type="deploy", id=f"d-{collection}") as deploy:
        deploy.use_artifact(f"acme-ml/llm/{collection}:best")
        deploy.summary["phase"] = "Healthy"

    version = api.artifact(f"acme-ml/llm/{collection}:best")
    assert [r.id for r in version.used_by()] == [f"d-{collection}"]
    assert version.logged_by().id == run.id
    used = api.run(f"acme-ml/deployments/d-{collection}")
    assert used.state == "finished"
    assert used.summary["phase"] == "Healthy"
    assert [a.id for a in used.used_artifacts()] == [version.id]


def test_a_run_without_a_child_process_records_its_use(
    log: Callable[..., Any], wandb: Any, api: Any, collection: str
) -> None:
    log({"a": "1"})
    version = api.artifact(f"acme-ml/llm/{collection}:latest")
    api.create_run(run_id=f"r-{collection}", project="deployments", entity="acme-ml").use_artifact(version)

    assert [r.id for r in version.used_by()] == [f"r-{collection}"]


def test_unlink_takes_the_version_out_of_the_registry_only(
    log: Callable[..., Any], admin: Admin, api: Any, wandb: Any, collection: str
) -> None:
    log({"a": "1"})
    admin.link(f"acme-ml/llm/{collection}:v0", f"acme/wandb-registry-model/{collection}", aliases=["production"])

    api.artifact(f"acme/wandb-registry-model/{collection}:production").unlink()

    with pytest.raises(wandb.errors.CommError, match="not found"):
        api.artifact(f"acme/wandb-registry-model/{collection}:production")
    assert api.artifact(f"acme-ml/llm/{collection}:v0").state == "COMMITTED"


def test_a_deleted_version_is_gone_from_its_collection(
    log: Callable[..., Any], api: Any, wandb: Any, collection: str
) -> None:
    log({"a": "1"}, aliases=["best"])
    version = api.artifact(f"acme-ml/llm/{collection}:v0")
    with pytest.raises(wandb.errors.CommError, match="aliases"):
        version.delete()

    version.delete(delete_aliases=True)

    with pytest.raises(wandb.errors.CommError, match="not found"):
        api.artifact(f"acme-ml/llm/{collection}:v0")


def test_references_keep_their_uris(wandb: Any, run: Any, api: Any, collection: str) -> None:
    artifact = wandb.Artifact(collection, type="model")
    artifact.add_reference("https://models.example.com/model.safetensors", name="model.safetensors", checksum=False)
    run.log_artifact(artifact).wait()

    entry = api.artifact(f"acme-ml/llm/{collection}:latest").manifest.entries["model.safetensors"]

    assert entry.ref == "https://models.example.com/model.safetensors"


def test_the_registry_can_be_searched_by_alias_and_tag(
    log: Callable[..., Any], admin: Admin, api: Any, collection: str
) -> None:
    log({"a": collection})
    admin.link(
        f"acme-ml/llm/{collection}:v0", f"acme/wandb-registry-model/{collection}", aliases=[f"prod-{collection}"]
    )
    admin.add_collection_tag(f"acme/wandb-registry-model/{collection}", f"team-{collection}")

    registries = api.registries(organization="Acme", filter={"name": "model"})

    assert [r.name for r in registries] == ["model"]
    assert [v.name for v in registries.versions(filter={"alias": f"prod-{collection}"})] == [f"{collection}:v0"]
    assert [c.name for c in registries.collections(filter={"tag": f"team-{collection}"})] == [collection]


def test_the_files_of_a_version_are_listed_with_their_addresses(
    log: Callable[..., Any], api: Any, collection: str, model_folder: Path
) -> None:
    log(model_folder)
    files = api.artifact(f"acme-ml/llm/{collection}:latest").files(per_page=2)

    assert sorted(f.name for f in files) == ["config.json", "model.safetensors", "original/empty.txt"]
    assert {f.name: f.size for f in files}["model.safetensors"] == 256 * 700


def test_all_versions_of_a_collection_are_listed_newest_first(
    log: Callable[..., Any], api: Any, collection: str
) -> None:
    for number in range(3):
        log({"a": str(number)})

    assert [v.version for v in api.artifacts("model", f"acme-ml/llm/{collection}", per_page=2)] == ["v2", "v1", "v0"]
