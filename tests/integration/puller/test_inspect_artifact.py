"""Inspecting an artifact on a server: names and small files, verified as in a pull."""

import asyncio
from typing import Any

import pytest

from modelsync.api.model_ref import ModelRef
from modelsync.puller.errors import CorruptFileError, ManifestMismatchError, PullError
from modelsync.puller.inspect_artifact import MAX_FILE_BYTES, InspectedArtifact, Location, inspect
from modelsync.puller.locate_artifact import locate_artifact
from modelsync.registry.credential import Credential
from modelsync.registry.graphql import GraphQL
from wandb_standin import Admin, StandIn

FILES = {"adapter_config.json": b'{"r": 8}', "adapter_model.safetensors": b"x" * 5000, "docs/README.md": b"# Legal"}


def look(standin: StandIn, version: Any, *names: str, digest: str | None = None) -> InspectedArtifact:
    async def where() -> Location:
        async with GraphQL(standin.url, Credential(standin.api_key, source="the test")) as api:
            return await locate_artifact(
                api,
                artifact_id=version.artifact_id,
                digest=digest or version.digest,
                ref=ModelRef.parse(version.path),
                names=names,
            )

    return inspect(asyncio.run(where()), names=names, user_agent="the test")


@pytest.mark.parametrize("algorithm", ["MD5", "XXH128"])
def test_names_of_all_files_and_the_content_of_those_asked_for(
    standin: StandIn, admin: Admin, collection: str, algorithm: Any
) -> None:
    version = admin.log_artifact("acme", "llm", collection, FILES, algorithm=algorithm)
    seen = look(standin, version, "adapter_config.json", "not-there.json")
    assert seen.files == set(FILES)
    assert seen.contents == {"adapter_config.json": FILES["adapter_config.json"]}


def test_another_digest_than_asked_for_is_refused(standin: StandIn, admin: Admin, collection: str) -> None:
    version = admin.log_artifact("acme", "llm", collection, FILES)
    with pytest.raises(ManifestMismatchError):
        look(standin, version, digest="0" * 32)


def test_bytes_that_are_not_the_manifests_are_refused(standin: StandIn, admin: Admin, collection: str) -> None:
    version = admin.log_artifact("acme", "llm", collection, FILES)
    with (
        admin.fault("corrupt", file="adapter_config.json"),
        pytest.raises(CorruptFileError, match=r"adapter_config\.json"),
    ):
        look(standin, version, "adapter_config.json")


def test_a_file_that_is_too_large_is_reported(standin: StandIn, admin: Admin, collection: str) -> None:
    version = admin.log_artifact("acme", "llm", collection, {"adapter_config.json": b" " * (MAX_FILE_BYTES + 1)})
    with pytest.raises(PullError, match="larger than 1 MiB"):
        look(standin, version, "adapter_config.json")


def test_one_file_costs_one_question_however_many_files_there_are(
    standin: StandIn, admin: Admin, collection: str
) -> None:
    many = {f"checkpoints/{number}": b"x" for number in range(1200)}
    version = admin.log_artifact("acme", "llm", collection, {**many, **FILES})
    before = len(admin.requests())
    assert look(standin, version, "adapter_config.json").contents.keys() == {"adapter_config.json"}
    asked = [request for request in admin.requests()[before:] if request.path == "/graphql"]
    assert len(asked) == 2, "the artifact, and the one file"
