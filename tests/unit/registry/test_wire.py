"""Responses are validated once, and an error names the part that does not match the schema."""

from datetime import UTC, datetime
from typing import Any

import pytest

from modelsync.api.model_ref import CollectionRef, ModelRef
from modelsync.registry import wire

REF = ModelRef("acme", "wandb-registry-model", "chat llm", "production")
AT = datetime(2026, 11, 21, 8, tzinfo=UTC)


def home(name: str, project: str | None = "llms", tags: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "__typename": "ArtifactPortfolio",
        "name": name,
        "project": project and {"name": project, "entity": {"name": "acme"}},
        "tags": {"edges": [{"node": {"name": tag}} for tag in tags]},
    }


def membership(**changes: Any) -> dict[str, Any]:
    artifact = {
        "id": "QXJ0",
        "state": "COMMITTED",
        "digest": "d1",
        "digestAlgorithm": "MANIFEST_MD5",
        "size": 12,
        "fileCount": 2,
        "metadata": '{"a": 1}',
        "versionIndex": 7,
        "createdAt": "2026-11-01T00:00:00Z",
        "updatedAt": None,
        "tags": [{"name": "approved"}],
        "artifactType": {"name": "model"},
        "artifactSequence": {"name": "chat", "project": {"name": "llms", "entity": {"name": "acme"}}},
        "artifactMemberships": {
            "edges": [
                {"node": {"versionIndex": 7, "aliases": [{"alias": "v7"}], "artifactCollection": home("chat")}},
                {"node": {"versionIndex": 1, "aliases": [], "artifactCollection": home("secret", project=None)}},
                {"node": None},
            ]
        },
    }
    artifact.update(changes.pop("artifact", {}))
    whole = {
        "versionIndex": 3,
        "aliases": [{"alias": "production"}, {"alias": "v3"}],
        "artifactCollection": home("chat llm", "wandb-registry-model", ("gold",)),
        "artifact": artifact,
    }
    return whole | changes


def test_a_membership_reads_as_the_version_it_names() -> None:
    read = wire.resolved(membership(), REF, AT, AT)
    assert (read.version, read.source_version, read.digest, read.size, read.file_count) == ("v3", "v7", "d1", 12, 2)
    assert read.aliases == {"production"}
    assert read.tags == {"approved"}
    assert read.collection_tags == {"gold"}
    assert read.artifact.source == CollectionRef("acme", "llms", "chat")


def test_places_that_the_key_may_not_see_are_left_out() -> None:
    links = wire.resolved(membership(), REF, AT, AT).artifact.links
    assert [str(link.collection) for link in links] == ["acme/llms/chat"]


def test_a_reader_of_the_registry_alone_sees_no_source() -> None:
    read = wire.resolved(
        membership(artifact={"artifactSequence": {"name": "chat", "project": None}, "digestAlgorithm": None}),
        REF,
        AT,
        AT,
    )
    assert read.artifact.source is None
    assert read.digest_algorithm is None


def test_a_migrated_path_is_reported_under_its_new_name() -> None:
    read = wire.resolved(membership(artifactCollection=home("chat llm", "wandb-registry-new")), REF, AT, AT)
    assert (read.entity, read.project, read.collection, read.alias) == (
        "acme",
        "wandb-registry-new",
        "chat llm",
        "production",
    )
    assert read.ref == REF


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (membership(artifact={"digest": None}), "artifact.digest"),
        (membership(artifact={"size": "many"}), "artifact.size"),
        (membership(versionIndex=None), "versionIndex"),
        (membership(aliases=None), "aliases"),
        ([], "the response"),
    ],
)
def test_an_answer_of_another_shape_is_named_by_its_part(data: Any, where: str) -> None:
    with pytest.raises(wire.UnexpectedShapeError, match=f"^{where}: "):
        wire.resolved(data, REF, AT, AT)


def test_a_next_page_without_a_cursor_is_not_taken_for_the_last() -> None:
    end = {"pageInfo": {"hasNextPage": True, "endCursor": None}, "edges": []}
    page = wire.aliases_page(home("chat") | {"aliases": end, "tags": end})
    assert page.rest == page.tags_rest == wire.Rest(after=None)
    assert not wire.resolved(membership(artifact={"artifactMemberships": end}), REF, AT, AT).artifact.whole


def test_links_that_the_server_left_out_with_an_error_are_not_whole() -> None:
    read = wire.resolved(membership(artifact={"artifactMemberships": None}), REF, AT, AT)
    assert not read.artifact.whole
    assert wire.cut_of_membership(membership(artifact={"artifactMemberships": None}), REF) == wire.Cut(
        links={"QXJ0": wire.Rest(after=None)}
    )


@pytest.mark.parametrize(
    ("length", "whole"),
    [(0, True), (19, True), (20, False), (32, False), (49, True), (50, False), (51, True)],
)
def test_without_page_info_a_list_is_whole_unless_it_is_as_long_as_a_page(length: int, whole: bool) -> None:
    tags = tuple(f"tag-{number}" for number in range(length))
    read = wire.resolved(membership(artifactCollection=home("chat llm", tags=tags)), REF, AT, AT)
    assert read.artifact.whole is whole
