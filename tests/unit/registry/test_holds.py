"""Which digests are held, and when that is known."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from modelsync.api.hold import HoldMark, HoldSource
from modelsync.registry.holds import HoldRead, hold_reads
from modelsync.registry.model import AliasedVersion, Answers, Artifact, HoldNames, Question, ServedVersion
from unit.registry.facts import (
    CHAT,
    SOURCE,
    artifact,
    at,
    by_id,
    collection,
    known,
    link,
    missing,
    resolved,
    unreachable,
)

NAMES = HoldNames(
    tags=frozenset({"regulatory-hold"}), aliases=frozenset({"regulatory-hold", "regulatory-hold-*", "stop-??"})
)
PRODUCTION = CHAT.at("production")
V7 = CHAT.at("v7")
SERVED = ServedVersion(CHAT, "v7", "artifact-7", "d7")
PLACE = "acme/wandb-registry-model/chat llm"


def asked(latched: Iterable[HoldMark] = (), served: Iterable[ServedVersion] = (SERVED,)) -> Question:
    return Question(refs=frozenset({PRODUCTION}), served=frozenset(served), hold=NAMES, latched=frozenset(latched))


def read(answers: Answers, digest: str = "d7", *, latched: Iterable[HoldMark] = ()) -> HoldRead | None:
    return hold_reads(answers, asked(latched)).get(digest)


def mark(via: HoldSource, name: str, *, digest: str = "d7", place: str = PLACE, version: str = "v7") -> HoldMark:
    return HoldMark(digest, place, version, via, name)


@pytest.mark.parametrize(
    ("tags", "collection_tags", "aliases", "expected"),
    [
        pytest.param((), (), (), set(), id="nothing"),
        pytest.param(("approved",), ("gold",), ("production",), set(), id="other names"),
        pytest.param(
            ("regulatory-hold",), (), (), {(HoldSource.VERSION_TAG, "regulatory-hold")}, id="tag on the version"
        ),
        pytest.param((), ("regulatory-hold",), (), {(HoldSource.COLLECTION_TAG, "regulatory-hold")}, id="on all of it"),
        pytest.param(
            (), ("regulatory-hold v7",), (), {(HoldSource.COLLECTION_TAG, "regulatory-hold v7")}, id="on v7 of it"
        ),
        pytest.param(
            (), ("regulatory-hold  v7",), (), {(HoldSource.COLLECTION_TAG, "regulatory-hold  v7")}, id="two spaces"
        ),
        pytest.param((), ("regulatory-hold v6",), (), set(), id="on another version of it"),
        pytest.param((), ("regulatory-hold v77",), (), set(), id="on a version with a like name"),
        pytest.param((), ("regulatory-hold is due",), (), set(), id="a tag that only begins so"),
        pytest.param((), (), ("regulatory-hold",), {(HoldSource.ALIAS, "regulatory-hold")}, id="by alias"),
        pytest.param(
            (), (), ("regulatory-hold-eu",), {(HoldSource.ALIAS, "regulatory-hold-eu")}, id="by an alias pattern"
        ),
        pytest.param((), (), ("stop-42", "stop-4"), {(HoldSource.ALIAS, "stop-42")}, id="by a pattern of ?"),
        pytest.param(
            (), (), ("Regulatory-HOLD-eu",), {(HoldSource.ALIAS, "Regulatory-HOLD-eu")}, id="by an alias in capitals"
        ),
        pytest.param(
            ("Regulatory-Hold",), (), (), {(HoldSource.VERSION_TAG, "Regulatory-Hold")}, id="a tag in capitals"
        ),
        pytest.param(
            (), ("REGULATORY-HOLD",), (), {(HoldSource.COLLECTION_TAG, "REGULATORY-HOLD")}, id="all of it in capitals"
        ),
        pytest.param(
            (), ("Regulatory-hold V7",), (), {(HoldSource.COLLECTION_TAG, "Regulatory-hold V7")}, id="V7 of it"
        ),
        pytest.param(("regulatory-hold-eu",), (), (), set(), id="patterns are for aliases only"),
    ],
)
def test_a_mark_holds_by_where_it_stands_and_how_it_is_called(
    tags: tuple[str, ...],
    collection_tags: tuple[str, ...],
    aliases: tuple[str, ...],
    expected: set[tuple[HoldSource, str]],
) -> None:
    answers = known(
        resolved(V7, 7, aliases=aliases, collection_tags=collection_tags, content=artifact(7, tags=tags)),
        collection(tags=collection_tags, aliases=aliases),
    )
    found = read(answers)
    assert found is not None
    assert found.marks == {mark(via, name) for via, name in expected}


def test_a_mark_where_the_artifact_was_linked_too_holds_it_here() -> None:
    links = (
        link(SOURCE, "v21", aliases=("regulatory-hold",)),
        link(CHAT, "v7"),
        link(SOURCE.parse("acme/wandb-registry-eu/chat"), "v2", tags=("regulatory-hold v2",)),
    )
    answers = known(resolved(V7, 7, content=artifact(7, links=links)), collection())
    found = read(answers)
    assert found is not None
    assert found.marks == {
        mark(HoldSource.ALIAS, "regulatory-hold", place="acme/llms/chat", version="v21"),
        mark(HoldSource.COLLECTION_TAG, "regulatory-hold v2", place="acme/wandb-registry-eu/chat", version="v2"),
    }


def test_a_mark_on_another_artifact_with_the_same_bytes_holds_too() -> None:
    answers = known(
        resolved(V7, 7),
        resolved(PRODUCTION, 8, content=artifact(8, digest="d7", tags=("regulatory-hold",))),
        collection(),
    )
    found = read(answers)
    assert found is not None
    assert found.marks == {mark(HoldSource.VERSION_TAG, "regulatory-hold", version="v8")}


def test_what_serves_is_judged_after_its_alias_has_moved_on() -> None:
    answers = known(
        resolved(PRODUCTION, 8), resolved(V7, 7, content=artifact(7, tags=("regulatory-hold",))), collection()
    )
    reads = hold_reads(answers, asked())
    assert reads["d7"].marks == {mark(HoldSource.VERSION_TAG, "regulatory-hold")}
    assert reads["d8"].marks == frozenset()


def test_a_digest_is_unknown_until_its_version_and_its_collection_were_read() -> None:
    assert read(known()) is None
    assert read(known(resolved(V7, 7))) is None
    assert read(known(collection())) is None
    assert read(known(resolved(V7, 7), unreachable(CHAT))) is None
    assert read(known(resolved(V7, 7), collection())) is not None


def test_knowledge_is_as_old_as_its_oldest_part() -> None:
    found = read(known(resolved(V7, 7, asked=50), collection(asked=20), resolved(PRODUCTION, 9, asked=90)))
    assert found is not None
    assert found.asked_at == at(20)


def test_silence_leaves_the_last_read_as_old_as_it_is() -> None:
    answers = known(
        resolved(V7, 7, asked=1, content=artifact(7, tags=("regulatory-hold",))),
        collection(asked=1),
        unreachable(V7, asked=60),
        unreachable(CHAT, asked=60),
    )
    found = read(answers)
    assert found is not None
    assert found.asked_at == at(1)
    assert found.marks == {mark(HoldSource.VERSION_TAG, "regulatory-hold")}


def test_a_newer_read_of_the_same_artifact_counts_and_not_an_older_one_through_another_alias() -> None:
    held = artifact(7, tags=("regulatory-hold",))
    answers = known(resolved(PRODUCTION, 7, asked=1, content=held), resolved(V7, 7, asked=5), collection(asked=5))
    found = read(answers)
    assert found is not None
    assert found.marks == frozenset()


def test_a_version_that_its_collection_no_longer_shows_is_judged_by_its_id() -> None:
    answers = known(
        resolved(V7, 7, asked=1),
        missing(V7, asked=9),
        by_id(artifact(7, tags=("regulatory-hold",)), asked=9),
        collection(asked=9),
    )
    found = read(answers)
    assert found is not None
    assert found.marks == {mark(HoldSource.VERSION_TAG, "regulatory-hold")}
    assert found.asked_at == at(9)


def test_other_content_under_the_same_id_as_of_another_server_says_nothing_of_what_serves() -> None:
    latched = mark(HoldSource.VERSION_TAG, "regulatory-hold")
    elsewhere = artifact(7, digest="e0")
    assert read(known(resolved(V7, 7, content=elsewhere), collection()), latched=[latched]) is None
    assert read(known(missing(V7), by_id(elsewhere), collection()), latched=[latched]) is None


def test_the_same_content_in_the_same_place_is_judged_whatever_its_id() -> None:
    moved = replace(artifact(7, tags=("regulatory-hold",)), artifact_id="artifact-of-another-server")
    held = read(known(resolved(V7, 7, content=moved, asked=3), collection(asked=9)))
    assert held is not None
    assert (held.marks, held.asked_at) == (frozenset({mark(HoldSource.VERSION_TAG, "regulatory-hold")}), at(3))

    lifted = read(known(resolved(V7, 7, content=replace(moved, tags=frozenset())), collection()), latched=held.marks)
    assert lifted is not None
    assert lifted.marks == frozenset()


def test_a_tag_is_seen_though_the_collection_cannot_be_read_and_then_nothing_latched_ends() -> None:
    latched = mark(HoldSource.ALIAS, "regulatory-hold")
    answers = known(by_id(artifact(7, tags=("regulatory-hold",)), asked=9), missing(V7), missing(CHAT))
    found = read(answers, latched=[latched])
    assert found is not None
    assert found.marks == {mark(HoldSource.VERSION_TAG, "regulatory-hold"), latched}


@pytest.mark.parametrize("via", [HoldSource.COLLECTION_TAG, HoldSource.ALIAS])
def test_a_mark_in_a_place_that_nobody_can_be_asked_about_stands(via: HoldSource) -> None:
    latched = mark(via, "regulatory-hold", place="no reference: at all")
    assert asked([latched]).collections == {CHAT}
    found = read(known(resolved(V7, 7), collection()), latched=[latched])
    assert found is not None
    assert found.marks == {latched}


def test_an_alias_that_moved_to_another_version_is_reported_as_a_mark_elsewhere() -> None:
    moved = AliasedVersion("regulatory-hold", "v8", "artifact-8", "d8")
    answers = known(resolved(V7, 7), collection(aliases=("regulatory-hold", "production"), carriers=(moved,)))
    found = read(answers, latched=[mark(HoldSource.ALIAS, "regulatory-hold")])
    assert found is not None
    assert found.marks == frozenset()
    assert found.alias_mark_elsewhere


def test_an_alias_that_is_gone_from_the_collection_stands_nowhere() -> None:
    found = read(
        known(resolved(V7, 7), collection(aliases=("production",))), latched=[mark(HoldSource.ALIAS, "regulatory-hold")]
    )
    assert found is not None
    assert found.marks == frozenset()
    assert not found.alias_mark_elsewhere


def test_an_alias_of_which_it_is_not_known_where_it_is_counts_as_elsewhere() -> None:
    found = read(known(resolved(V7, 7), collection(aliases=("regulatory-hold",))))
    assert found is not None
    assert found.alias_mark_elsewhere


def test_an_alias_on_this_digest_alone_is_not_elsewhere() -> None:
    here = AliasedVersion("regulatory-hold", "v7", "artifact-7", "d7")
    answers = known(
        resolved(V7, 7, aliases=("regulatory-hold",)), collection(aliases=("regulatory-hold",), carriers=(here,))
    )
    found = read(answers)
    assert found is not None
    assert found.marks == {mark(HoldSource.ALIAS, "regulatory-hold")}
    assert not found.alias_mark_elsewhere


ELSEWHERE = SOURCE.parse("acme/wandb-registry-eu/chat")


@pytest.mark.parametrize(
    ("there", "stands"),
    [
        pytest.param(collection(ELSEWHERE, tags=("regulatory-hold v2",)), True, id="the tag is still there"),
        pytest.param(collection(ELSEWHERE, tags=("gold",)), False, id="the tag is gone"),
        pytest.param(unreachable(ELSEWHERE), True, id="nothing was read there"),
        pytest.param(missing(ELSEWHERE), True, id="the collection is not to be seen"),
    ],
)
def test_a_latched_mark_in_a_collection_that_the_artifact_no_longer_shows_ends_by_a_read_of_it_only(
    there: object, stands: bool
) -> None:
    latched = mark(HoldSource.COLLECTION_TAG, "regulatory-hold v2", place=str(ELSEWHERE), version="v2")
    found = read(known(resolved(V7, 7), collection(), there), latched=[latched])  # type: ignore[arg-type]
    assert found is not None
    assert found.marks == ({latched} if stands else frozenset())


def test_a_mark_whose_name_is_no_hold_any_more_is_not_found() -> None:
    answers = known(resolved(V7, 7, content=artifact(7, tags=("regulatory-hold",))), collection())
    question = Question(refs=frozenset(), served=frozenset({SERVED}), hold=HoldNames(tags=frozenset({"frozen"})))
    assert hold_reads(answers, question)["d7"].marks == frozenset()


def cut(tags: Iterable[str] = ()) -> Artifact:
    return replace(artifact(7, tags=tags), whole=False)


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(known(resolved(V7, 7, content=cut()), collection()), id="links"),
        pytest.param(known(resolved(V7, 7), replace(collection(), whole=False)), id="tags or aliases"),
        pytest.param(
            known(resolved(V7, 7), collection(), resolved(PRODUCTION, 7, content=cut(), asked=1)), id="by an alias"
        ),
        pytest.param(
            known(missing(V7), collection(), by_id(cut(), asked=1)), id="an artifact that its collection does not show"
        ),
    ],
)
def test_a_list_that_was_not_read_to_its_end_leaves_the_digest_unknown(answers: Answers) -> None:
    assert read(answers) is None


def test_a_version_that_an_alias_names_is_unknown_too_and_so_is_a_copy_of_what_serves() -> None:
    answers = known(resolved(PRODUCTION, 7, content=cut()), collection())
    assert hold_reads(answers, asked(served=())) == {}
    copied = replace(SERVED, artifact_id="artifact-of-another-server")
    answers = known(resolved(V7, 7, content=cut()), collection())
    assert hold_reads(answers, asked(served=[copied])) == {}


def test_a_mark_on_what_was_read_of_a_list_counts_and_nothing_latched_ends() -> None:
    latched = mark(HoldSource.COLLECTION_TAG, "regulatory-hold", place="acme/llms/chat", version="v21")
    answers = known(resolved(V7, 7, content=cut(tags=("regulatory-hold",))), collection())
    found = read(answers, latched=[latched])
    assert found is not None
    assert found.marks == {latched, mark(HoldSource.VERSION_TAG, "regulatory-hold")}


@pytest.mark.parametrize("via", [HoldSource.COLLECTION_TAG, HoldSource.ALIAS])
def test_a_latched_mark_in_a_collection_that_was_not_read_to_its_end_stands(via: HoldSource) -> None:
    latched = mark(via, "regulatory-hold", place=str(SOURCE), version="v21")
    answers = known(resolved(V7, 7), collection(), replace(collection(SOURCE), whole=False))
    found = read(answers, latched=[latched])
    assert found is not None
    assert found.marks == {latched}
    answers = known(resolved(V7, 7), collection(), collection(SOURCE))
    found = read(answers, latched=[latched])
    assert found is not None
    assert found.marks == frozenset()


def test_the_newest_read_counts_although_the_clock_was_set_back() -> None:
    """Both of one artifact, by the alias and by its own name."""
    before = resolved(PRODUCTION, 7, content=artifact(7), asked=600)
    after = replace(resolved(V7, 7, content=artifact(7, tags=("regulatory-hold",)), asked=0), asked=601.0)
    found = read(known(before, after, replace(collection(asked=0), asked=602.0)))
    assert found is not None
    assert found.marks
    assert (found.asked, found.asked_at) == (600, at(600)), "of the oldest query behind it"
