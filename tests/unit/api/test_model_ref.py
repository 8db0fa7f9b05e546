"""`modelsync.api.model_ref`: references that users may write."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsync.api.model_ref import (
    REFERENCE_PATTERN,
    CollectionRef,
    InvalidReferenceError,
    ModelRef,
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("acme/llms/chat:production", ("acme", "llms", "chat", "production")),
        ("acme/wandb-registry-model/chat llm:production", ("acme", "wandb-registry-model", "chat llm", "production")),
        ("acme/wandb-registry-Golden Datasets/a b:v12", ("acme", "wandb-registry-Golden Datasets", "a b", "v12")),
        ("team/model-registry/coll:latest", ("team", "model-registry", "coll", "latest")),
        ("acme/llms/50% #1?:prod canary", ("acme", "llms", "50% #1?", "prod canary")),
    ],
)
def test_a_reference_is_read_into_its_four_names_and_written_back_the_same(text: str, parts: tuple[str, ...]) -> None:
    ref = ModelRef.parse(text)
    assert (ref.entity, ref.project, ref.collection, ref.alias) == parts
    assert str(ref) == text
    assert re.fullmatch(REFERENCE_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acme/llms/chat", "has no alias; add one, such as 'acme/llms/chat:production'"),
        ("acme/llms/chat:", "the alias is empty"),
        ("chat:production", "needs 3 names before the alias, but has 1"),
        ("acme/chat:production", "needs 3 names before the alias, but has 2"),
        ("a/b/c/d:production", "needs 3 names before the alias, but has 4"),
        ("wandb-registry-model/chat:production", "write the organization's entity name in front"),
        ("acme//chat:production", "the project is empty"),
        ("acme/ llms/chat:production", "starts or ends with whitespace"),
        ("acme/llms/chat:production ", "starts or ends with whitespace"),
        ("acme/l#ms/chat:production", "the project 'l#ms' contains a character that W&B does not allow"),
        ("acme/llms/chat:a:b", "the alias 'a:b' contains a character that W&B does not allow"),
        ("acme/llms/chat:a/b", "the alias 'a/b' contains a character that W&B does not allow"),
        ("acme/llms/chat\n:x", "the collection"),
        ("acme/llms/ch\nat:x", "the collection 'ch\\nat' contains a character that W&B does not allow"),
        ("acme/wandb-registry-/chat:x", "has no registry name"),
        (f"acme/llms/{'c' * 129}:x", "at most 128"),
        ("https://wandb.ai/acme/llms/chat:x", "is a URL"),
        ("wandb-artifact://acme/llms/chat:x", "is a URL"),
    ],
)
def test_a_bad_reference_is_refused_with_what_is_wrong_and_what_to_write(text: str, message: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        ModelRef.parse(text)
    assert message in str(caught.value)
    assert "production'" in str(caught.value) or "acme/wandb-registry-model/chat llm" in str(caught.value)


@given(st.text(alphabet="ab /:\\#?%\n\tv1é-", max_size=24))
def test_the_pattern_of_the_crd_accepts_what_the_parser_accepts(text: str) -> None:
    try:
        ref = ModelRef.parse(text)
    except InvalidReferenceError:
        assert not re.fullmatch(REFERENCE_PATTERN, text)
    else:
        assert re.fullmatch(REFERENCE_PATTERN, text)
        assert ModelRef.parse(str(ref)) == ref


@pytest.mark.parametrize(
    ("alias", "pins"),
    [("v12", True), ("v0", True), ("v", False), ("v01", False), ("v12-rc", False), ("V12", False), ("v٣", False)],
)
def test_a_version_name_pins_and_any_other_alias_does_not(alias: str, pins: bool) -> None:
    assert ModelRef("a", "b", "c", alias).is_pinned is pins


def test_a_collection_gives_references_to_its_versions() -> None:
    collection = CollectionRef.parse("acme/wandb-registry-model/chat llm")
    assert str(collection.at("v7")) == "acme/wandb-registry-model/chat llm:v7"
    assert collection.at("v7").in_collection == collection
    with pytest.raises(InvalidReferenceError, match="has an alias"):
        CollectionRef.parse("a/b/c:d")
