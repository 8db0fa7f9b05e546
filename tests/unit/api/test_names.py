"""Names of children, and the selectors that depend on them."""

import pytest

from modelsync.api import names

LONGEST = "m" * names.MAX_NAME_LENGTH
REVISION = "v999999-3fa9c1d2"


def test_the_longest_names_still_fit_a_dns_label() -> None:
    assert len(names.child(LONGEST, REVISION)) <= 63
    assert len(names.fuse_secret(LONGEST, REVISION)) <= 63
    assert len(names.child(LONGEST, names.BLOCKED)) <= 63


@pytest.mark.parametrize("revision", ["v0-00000000", REVISION, names.BLOCKED])
def test_a_childs_name_contains_its_revision(revision: str) -> None:
    assert names.revision_of("chat", names.child("chat", revision)) == revision


@pytest.mark.parametrize(
    "other",
    [
        "chat",
        "chat-",
        "chat-v7",
        "chat-v7-3fa9c1d2-fuse",
        "chat-v7-3FA9C1D2",
        "chats-v7-3fa9c1d2",
        "chat-blocked-2",
        "",
    ],
)
def test_a_name_that_is_no_child_has_no_revision(other: str) -> None:
    assert names.revision_of("chat", other) is None


def test_the_children_of_one_are_not_taken_for_those_of_a_longer_name() -> None:
    assert names.revision_of("chat", names.child("chat-de", "v7-3fa9c1d2")) is None


def test_no_selector_is_ever_empty() -> None:
    assert names.selector("chat", names.BLOCKED) == {
        "modelsync.dev/name": "chat",
        "modelsync.dev/revision": "blocked",
    }


def test_labels_of_a_revision_say_its_version() -> None:
    assert names.labels("chat", "v7-3fa9c1d2")["app.kubernetes.io/version"] == "v7"
    assert "modelsync.dev/revision" not in names.labels("chat")
