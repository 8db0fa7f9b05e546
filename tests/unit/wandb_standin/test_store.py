"""Versions, aliases, links and tags in the server's store."""

from __future__ import annotations

from pathlib import Path

import pytest

from wandb_standin.blobs import Blobs
from wandb_standin.errors import RefusedError
from wandb_standin.model import Membership, Role
from wandb_standin.store import Event, Store


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def store(tmp_path: Path, events: list[Event]) -> Store:
    made = Store(Blobs(tmp_path), events.append)
    organization = made.add_organization("Acme", "acme")
    made.add_team("acme-ml", organization)
    made.ensure_project("acme", "wandb-registry-model")
    return made


def log(store: Store, content: str, name: str = "chat", aliases: tuple[str, ...] = ()) -> Membership:
    blob = store.blobs.put_bytes(f"test/{content}", content.encode())
    return store.log_artifact("acme-ml", "llm", name, {"a": blob}, aliases=aliases)


def aliases(membership: Membership) -> list[str]:
    return [a.alias for a in membership.aliases]


def test_versions_are_counted_and_latest_is_the_last(store: Store) -> None:
    first, second = log(store, "1"), log(store, "2")

    assert (first.version_index, second.version_index) == (0, 1)
    assert (aliases(first), aliases(second)) == (["v0"], ["v1", "latest"])


def test_linked_versions_are_counted_by_their_links(store: Store) -> None:
    registry = store.ensure_project("acme", "wandb-registry-model")
    log(store, "1")
    second = log(store, "2")

    linked = store.link_artifact(second.artifact, registry, "chat llm", ["production"])
    again = store.link_artifact(second.artifact, registry, "chat llm", ["staging"])

    assert again is linked
    assert (linked.version_index, second.version_index) == (0, 1)
    assert aliases(linked) == ["v0", "latest", "production", "staging"]


def test_an_alias_belongs_to_one_version_of_its_collection_only(store: Store) -> None:
    registry = store.ensure_project("acme", "wandb-registry-model")
    one, two, other = log(store, "1", aliases=("best",)), log(store, "2"), log(store, "3", "other", ("best",))
    linked = store.link_artifact(one.artifact, registry, "chat", ["best"])

    store.set_aliases(two, ["best"])

    assert "best" not in aliases(one)
    assert "best" in aliases(two)
    assert "best" in aliases(linked)
    assert "best" in aliases(other)


@pytest.mark.parametrize("name", ["v0", "a/b", "a:b", "", "x" * 129])
def test_an_alias_that_cannot_be_is_refused(store: Store, name: str) -> None:
    one, two = log(store, "1"), log(store, "2")

    with pytest.raises(RefusedError, match="alias"):
        store.set_aliases(two, [name])
    assert aliases(one) == ["v0"]


def test_the_version_alias_cannot_be_taken_away(store: Store) -> None:
    with pytest.raises(RefusedError, match="the server gives and keeps it"):
        store.remove_alias(log(store, "1"), "v0")


@pytest.mark.parametrize("tag", ["", " a", "a ", "a/b", "x" * 129])
def test_a_tag_that_cannot_be_is_refused(store: Store, tag: str) -> None:
    with pytest.raises(RefusedError, match="invalid tag"):
        store.change_tags(log(store, "1").artifact, add=[tag])


def test_a_tag_may_hold_spaces_and_any_letters(store: Store) -> None:
    version = log(store, "1")
    store.change_tags(version.artifact, add=["regulatory-hold v7", "größe_1"])

    assert [t.name for t in version.artifact.tags] == ["regulatory-hold v7", "größe_1"]


def test_events_are_emitted_only_for_changes(store: Store, events: list[Event]) -> None:
    version = log(store, "1", aliases=("best",))
    store.change_tags(version.artifact, add=["hold"])
    store.change_tags(version.artifact, add=["hold"])
    store.change_tags(version.artifact, remove=["hold", "never there"])
    store.remove_alias(version, "best")

    assert [(e.type, e.alias or e.tag) for e in events] == [
        ("CREATE_ARTIFACT", None),
        ("ADD_ARTIFACT_ALIAS", "latest"),
        ("ADD_ARTIFACT_ALIAS", "best"),
        ("ADD_ARTIFACT_TAG", "hold"),
        ("REMOVE_ARTIFACT_TAG", "hold"),
    ]


def test_a_file_that_an_earlier_version_has_is_not_stored_again(store: Store) -> None:
    big = store.blobs.put_bytes("test/big", b"big")
    for content in (b"1", b"2"):
        small = store.blobs.put_bytes(f"test/{content!r}", content)
        version = store.log_artifact("acme-ml", "llm", "chat", {"big": big, "small": small}).artifact

    first = version.artifact_sequence.memberships[0].artifact
    assert version.entries["big"].birth_artifact_id == first.id
    assert version.entries["small"].birth_artifact_id == version.id


def test_a_version_cannot_be_logged_into_a_registry_or_a_portfolio(store: Store) -> None:
    registry = store.ensure_project("acme", "wandb-registry-model")
    with pytest.raises(RefusedError, match="link a version of a project"):
        store.log_artifact("acme", "wandb-registry-model", "chat", {})
    store.link_artifact(log(store, "1").artifact, store.ensure_project("acme-ml", "llm"), "shelf", [])
    with pytest.raises(RefusedError, match="is an ArtifactPortfolio"):
        log(store, "2", "shelf")
    with pytest.raises(RefusedError, match="is of type 'model', not 'dataset'"):
        store.log_artifact("acme-ml", "llm", "chat", {}, type_name="dataset")
    assert registry.collections == {}


def test_a_registry_may_take_only_some_types(store: Store) -> None:
    registry = store.ensure_project("acme", "wandb-registry-model")
    registry.allow_all_artifact_types_in_registry = False
    store.ensure_type(registry, "dataset")

    with pytest.raises(RefusedError, match=r"takes types \['dataset'\], not 'model'"):
        store.link_artifact(log(store, "1").artifact, registry, "chat", [])


def test_the_most_special_role_holds(store: Store) -> None:
    user = store.add_user("reader", "r" * 40, roles={"*": Role.MEMBER, "acme": Role.VIEWER, "acme/secret": Role.NONE})

    assert user.role_in(store.ensure_project("acme-ml", "llm")) is Role.MEMBER
    assert user.role_in(store.ensure_project("acme", "wandb-registry-model")) is Role.VIEWER
    assert user.role_in(store.ensure_project("acme", "secret")) is Role.NONE
