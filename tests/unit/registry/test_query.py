"""The GraphQL documents, and how queries are batched into requests."""

from collections.abc import Sequence
from importlib import resources

import pytest
from graphql import GraphQLSchema, build_schema, parse, validate

from modelsync.api.model_ref import CollectionRef, ModelRef
from modelsync.registry.exchange import BATCH, ServerTraits, batches
from modelsync.registry.query import (
    DIGEST_ALGORITHM,
    LINKS_FIRST,
    LINKS_PAGE_INFO,
    TAGS_FIRST,
    TAGS_PAGE_INFO,
    ArtifactById,
    CollectionPage,
    LinksPage,
    TagsPage,
    Unit,
    document,
    refused_parts,
)
from wandb_standin.graphql_endpoint import build

CHAT = CollectionRef("acme", "wandb-registry-model", "chat llm")
OTHER = CollectionRef("acme-ml", "llms", "chat")


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    return build_schema((resources.files("wandb_standin") / "schema.graphql").read_text())


@pytest.mark.parametrize(
    "units",
    [
        [CHAT.at("production")],
        [CollectionPage(CHAT)],
        [ArtifactById("QXJ0")],
        [CollectionPage(CHAT, after="YQ=="), ArtifactById("QXJ0")],
        [CHAT.at("production"), CHAT.at("v7"), CollectionPage(CHAT), OTHER.at("production"), ArtifactById("QXJ0")],
        [TagsPage(CHAT, "YQ==")],
        [LinksPage("QXJ0", "YQ==")],
        [TagsPage(CHAT, "YQ=="), LinksPage("QXJ0", "YQ=="), LinksPage("QXJ1", "YQ=="), CollectionPage(CHAT, "YQ==")],
    ],
)
@pytest.mark.parametrize("without", [(), (DIGEST_ALGORITHM,)])
def test_each_document_is_valid_against_the_schema(
    schema: GraphQLSchema, units: Sequence[Unit], without: Sequence[str]
) -> None:
    written = document(units, without=without)
    assert validate(schema, parse(written.query)) == []
    assert set(written.paths) == set(units)
    assert (DIGEST_ALGORITHM in written.query) == (
        not without and any(isinstance(u, ModelRef | ArtifactById) for u in units)
    )


PARTS = {
    TAGS_FIRST: "ArtifactCollection.tags(first)",
    TAGS_PAGE_INFO: "TagConnection.pageInfo",
    LINKS_FIRST: "Artifact.artifactMemberships(first)",
    LINKS_PAGE_INFO: "ArtifactCollectionMembershipConnection.pageInfo",
    DIGEST_ALGORITHM: "Artifact.digestAlgorithm",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_a_server_lacks_is_named_by_its_refusal_and_left_out_after_that(part: str) -> None:
    older = build(frozenset({PARTS[part]}))
    units: list[Unit] = [CHAT.at("production"), CollectionPage(CHAT)]
    refusal = [error.message for error in validate(older, parse(document(units).query))]
    assert refused_parts(refusal) == {part}
    assert validate(older, parse(document(units, without={part}).query)) == []


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ('Unknown argument "first" on field "artifactMemberships" of type "Artifact".', {LINKS_FIRST}),
        ('Unknown argument "first" on field "ArtifactSequence.tags".', {TAGS_FIRST}),
        ('Cannot query field "pageInfo" on type "TagConnection".', {TAGS_PAGE_INFO}),
        ('Cannot query field "pageInfo" on type "ArtifactMembershipConnection".', {LINKS_PAGE_INFO}),
        ("Field 'pageInfo' doesn't exist", {TAGS_PAGE_INFO, LINKS_PAGE_INFO}),
        ('Cannot query field "pageInfo" on type "ArtifactAliasConnection".', set()),
        ("query is too complex", set()),
    ],
)
def test_the_words_of_other_servers_for_the_same_are_understood(message: str, parts: set[str]) -> None:
    assert refused_parts([message]) == parts


def test_several_aliases_of_one_project_stand_under_one_project_field() -> None:
    written = document([CHAT.at("production"), CHAT.at("canary"), CollectionPage(CHAT)])
    assert written.query.count("project(entityName") == 1
    assert {path[0] for path in written.paths.values()} == {"p0"}


def test_a_name_from_a_reference_is_never_query_text() -> None:
    evil = ModelRef("acme", "llms", '") { id } evil: viewer { id } #', "production")
    written = document([evil, CollectionPage(evil.in_collection)])
    assert "evil" not in written.query
    assert f"{evil.collection}:production" in written.variables.values()


def test_twenty_references_and_their_collections_are_one_request() -> None:
    refs = [CollectionRef("acme", "llms", f"model-{n}").at("production") for n in range(BATCH)]
    assert len(batches([*refs, *(CollectionPage(ref.in_collection) for ref in refs)], BATCH)) == 1


def test_no_request_holds_more_than_the_limit_and_nothing_is_lost_or_asked_twice() -> None:
    refs = [CollectionRef("acme", f"p{n % 3}", f"model-{n % 7}").at(f"v{n}") for n in range(95)]
    units: list[Unit] = [*refs, *(CollectionPage(ref.in_collection) for ref in refs), ArtifactById("a")]
    chunks = batches(units, 20)
    flat = [unit for chunk in chunks for unit in chunk]
    assert len(flat) == len(set(flat))
    assert set(flat) == set(units)
    assert all(sum(isinstance(unit, ModelRef | ArtifactById) for unit in chunk) <= 20 for chunk in chunks)
    assert len(chunks) == 5


def test_a_batch_size_that_was_cut_down_grows_back_when_the_server_answers_again() -> None:
    traits = ServerTraits()
    traits.refused(20)
    assert traits.batch == 10
    traits.refused(10)
    assert traits.batch == 5
    for _ in range(100):
        traits.succeeded()
    assert traits.batch == BATCH
