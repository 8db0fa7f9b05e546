"""The real SDK reads versions that the admin API created like its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wandb_standin import Admin, StandIn


def test_a_seeded_version_resolves_by_alias_version_and_latest(admin: Admin, api: Any, collection: str) -> None:
    admin.log_artifact("acme-ml", "llm", collection, {"a": b"1"})
    second = admin.log_artifact("acme-ml", "llm", collection, {"a": b"2"}, aliases=["best"], metadata={"eval": 0.9})

    for name in ("best", "v1", "latest"):
        found = api.artifact(f"acme-ml/llm/{collection}:{name}")
        assert (found.version, found.digest, found.id) == ("v1", second.digest, second.artifact_id)
    assert sorted(found.aliases) == ["best", "latest"]
    assert found.metadata == {"eval": 0.9}
    assert found.type == "model"
    assert found.state == "COMMITTED"
    assert found.size == 1


def test_a_linked_version_resolves_by_its_registry_path_with_spaces(admin: Admin, api: Any, collection: str) -> None:
    source = admin.log_artifact("acme-ml", "llm", collection, {"a": b"link"}, tags=["approved"])
    target = f"acme/wandb-registry-model/{collection} in production"
    admin.link(source, target, aliases=["production"])

    found = api.artifact(f"{target}:production")

    assert found.is_link
    assert (found.qualified_name, found.version) == (f"{target}:production", "v0")
    assert found.source_qualified_name == source.path
    assert sorted(found.aliases) == ["latest", "production"]
    assert found.tags == ["approved"]


def test_the_organization_may_be_named_by_its_display_name(admin: Admin, api: Any, collection: str) -> None:
    source = admin.log_artifact("acme-ml", "llm", collection, {"a": b"org"})
    admin.link(source, f"acme/wandb-registry-model/{collection}")

    assert api.artifact(f"Acme/wandb-registry-model/{collection}:latest").digest == source.digest


@pytest.mark.parametrize("algorithm", ["MD5", "XXH128"])
def test_a_download_is_whole_and_verifies(
    admin: Admin, api: Any, collection: str, model_folder: Path, tmp_path: Path, contents: Any, algorithm: Any
) -> None:
    seeded = admin.log_artifact("acme-ml", "llm", collection, model_folder, algorithm=algorithm)
    version = api.artifact(f"acme-ml/llm/{collection}:latest")

    root = Path(version.download(root=str(tmp_path / "down")))
    version.verify(root=str(root))

    assert contents(root) == contents(model_folder)
    assert version.manifest.digest() == version.digest == seeded.digest


def test_an_alias_that_is_gone_is_a_missing_membership(admin: Admin, api: Any, wandb: Any, collection: str) -> None:
    admin.log_artifact("acme-ml", "llm", collection, {"a": b"3"}, aliases=["production"])
    admin.remove_alias(f"acme-ml/llm/{collection}", "production")

    with pytest.raises(wandb.errors.CommError, match=f"membership '{collection}:production' not found"):
        api.artifact(f"acme-ml/llm/{collection}:production")


def test_an_unknown_project_is_not_found(api: Any, wandb: Any) -> None:
    with pytest.raises(wandb.errors.CommError, match="project 'nowhere' not found under entity 'acme-ml'"):
        api.artifact("acme-ml/nowhere/x:latest")


def test_a_wrong_key_is_refused_at_login(standin: StandIn, wandb: Any) -> None:
    with pytest.raises(wandb.errors.AuthenticationError, match="user is not logged in"):
        wandb.Api(overrides={"base_url": standin.url}, api_key="f" * 40)
