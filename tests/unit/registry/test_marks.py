"""Which marks the operator knows of, whoever saw them, and when one of them is shown gone."""

import time
from collections.abc import Iterable
from dataclasses import replace

import pytest

from modelsync.api.hold import HoldMark, HoldSource
from modelsync.api.model_ref import CollectionRef, ModelRef
from modelsync.registry.marks import MAX_REMEMBERED, OUTDATED, Key, MarkIndex
from modelsync.registry.model import (
    AliasedVersion,
    ArtifactRead,
    CollectionRead,
    Failure,
    HoldNames,
    Question,
    Resolved,
    ServedVersion,
)
from modelsync.registry.store import Store
from unit.registry.facts import CHAT, SOURCE, artifact, at, by_id, collection, link, missing, resolved, unreachable
from unit.registry.test_store import reading

SERVER = "https://wandb.example.com"
NAMES = HoldNames(tags=frozenset({"regulatory-hold"}), aliases=frozenset({"regulatory-hold", "regulatory-hold-*"}))
HOLD = ("regulatory-hold",)
A, B = ("prod", "a"), ("team", "b")
COPY = CollectionRef("team", "llms", "copy")
PRODUCTION, V7, COPIED = CHAT.at("production"), CHAT.at("v7"), COPY.at("production")
OUT = OUTDATED.total_seconds()


def mark(via: HoldSource, name: str = "regulatory-hold", *, home: CollectionRef = CHAT, digest: str = "d7") -> HoldMark:
    return HoldMark(digest, str(home), "v7", via, name)


TAGGED = mark(HoldSource.VERSION_TAG)
WHOLE = mark(HoldSource.COLLECTION_TAG)
ALIASED = mark(HoldSource.ALIAS)


class Scene:
    """An index, the pairs that report to it, and who was told."""

    def __init__(self) -> None:
        self.index = MarkIndex(NAMES)

    def pair(self, *refs: ModelRef, served: Iterable[ServedVersion] = (), server: str = SERVER, key: Key = A) -> Store:
        store = Store(self.index.showings(server))
        store.ask(key, Question(refs=frozenset(refs), served=frozenset(served), hold=NAMES))
        return store

    def told(self) -> set[Key]:
        return self.index.changes()

    def marks(self, digest: str = "d7", server: str = SERVER) -> set[HoldMark]:
        return set(self.index.marks(server, digest))

    def absence(self, gone: HoldMark) -> object:
        return self.index.absence(SERVER, gone)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def add(store: Store, *outcomes: Resolved | CollectionRead | ArtifactRead | Failure) -> None:
    store.add(reading(*outcomes))


def held(asked: float = 0, ref: ModelRef = PRODUCTION) -> Resolved:
    return resolved(ref, 7, content=artifact(7, tags=HOLD), asked=asked)


def carrier(digest: str = "d7", name: str = "regulatory-hold") -> AliasedVersion:
    return AliasedVersion(name, "v7", "artifact-7", digest)


# --- marks ---


def test_an_artifact_that_is_still_being_logged_marks_nobody_elses_bytes(scene: Scene) -> None:
    """Its digest is what its author says; no server has seen the bytes."""
    add(scene.pair(PRODUCTION), resolved(PRODUCTION, 7, content=artifact(7, tags=HOLD, state="PENDING")))
    assert scene.marks() == set()


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        pytest.param([held()], TAGGED, id="tag on the version"),
        pytest.param([resolved(PRODUCTION, 7, collection_tags=HOLD)], WHOLE, id="tag on the collection"),
        pytest.param(
            [resolved(PRODUCTION, 7, content=artifact(7, links=(link(SOURCE, "v7", tags=HOLD),)))],
            mark(HoldSource.COLLECTION_TAG, home=SOURCE),
            id="tag on a collection that links it",
        ),
        pytest.param([resolved(PRODUCTION, 7, aliases=HOLD)], ALIASED, id="alias of what was asked for"),
        pytest.param([collection(aliases=HOLD, carriers=[carrier()])], ALIASED, id="alias of another version"),
    ],
)
def test_a_mark_that_one_credential_sees_is_known_for_its_digest(
    scene: Scene, outcomes: list[Resolved | CollectionRead], expected: HoldMark
) -> None:
    add(scene.pair(PRODUCTION), *outcomes)
    assert dict(scene.index.marks(SERVER, "d7")) == {expected: at(0)}
    assert not scene.marks("d8")


def test_the_same_bytes_logged_twice_are_held_by_a_mark_on_one_of_them(scene: Scene) -> None:
    mine, other = scene.pair(COPIED, key=B), scene.pair(PRODUCTION)
    scene.index.watch(B, [(SERVER, "d7")])
    copy = replace(artifact(1, digest="d7"), source=COPY)
    add(mine, resolved(COPIED, 1, content=copy), collection(COPY))
    assert scene.told() == set()
    add(other, held(), collection())
    assert scene.marks() == {TAGGED}
    assert scene.told() == {B}


def test_a_mark_is_one_of_the_server_under_all_its_names_and_of_no_other(scene: Scene) -> None:
    add(scene.pair(PRODUCTION, server="https://API.wandb.ai/"), held())
    assert scene.marks(server="https://api.forge.coreweave.com") == {TAGGED}
    assert not scene.marks()


def test_only_the_administrator_s_names_cross_over(scene: Scene) -> None:
    store = Store(scene.index.showings(SERVER))
    own = HoldNames(tags=frozenset({"mine"}), aliases=frozenset({"mine"}))
    store.ask(A, Question(refs=frozenset({PRODUCTION}), hold=own))
    named = ("mine",)
    add(store, resolved(PRODUCTION, 7, aliases=named, collection_tags=named, content=artifact(7, tags=named)))
    add(store, collection(tags=named, aliases=named, carriers=[carrier(name="mine")]))
    assert not scene.marks()


def test_a_newer_read_without_the_mark_ends_it_and_one_that_fails_does_not(scene: Scene) -> None:
    store = scene.pair(PRODUCTION)
    add(store, held())
    for failed in (unreachable(PRODUCTION, asked=1), missing(PRODUCTION, asked=2)):
        add(store, failed)
        assert scene.marks() == {TAGGED}
    add(store, resolved(PRODUCTION, 7, asked=-1))
    assert scene.marks() == {TAGGED}, "an answer to an older query"
    add(store, resolved(PRODUCTION, 7, asked=3))
    assert not scene.marks()


def test_a_mark_stays_as_long_as_one_credential_shows_it(scene: Scene) -> None:
    first, second = scene.pair(PRODUCTION), scene.pair(PRODUCTION)
    add(first, held(1))
    add(second, held(2))
    assert scene.index.marks(SERVER, "d7")[TAGGED] == at(2)
    second.forget(A)
    assert scene.index.marks(SERVER, "d7")[TAGGED] == at(1)
    first.ask(A, Question(refs=frozenset({COPIED}), hold=NAMES))
    assert not scene.marks(), "nobody asks for it any more"


def test_one_that_died_while_it_saw_the_mark_does_not_keep_it_for_ever(scene: Scene) -> None:
    dead, alive = scene.pair(PRODUCTION), scene.pair(PRODUCTION, key=B)
    scene.index.watch(B, [(SERVER, "d7")])
    add(dead, held())
    add(alive, held())
    scene.told()
    add(alive, resolved(PRODUCTION, 7, asked=OUT - 1))
    assert scene.marks() == {TAGGED}, "it may be a replica that lags behind"
    assert scene.absence(TAGGED) is None
    assert scene.told() == set()
    add(alive, resolved(PRODUCTION, 7, asked=OUT))
    assert not scene.marks()
    assert scene.absence(TAGGED) == at(OUT)
    assert scene.told() == {B}
    add(dead, held(OUT + 1))
    assert scene.marks() == {TAGGED}, "seen again"
    assert scene.told() == {B}


def test_a_read_of_another_place_does_not_outdate_a_mark(scene: Scene) -> None:
    dead, alive = scene.pair(PRODUCTION), scene.pair(COPIED)
    add(dead, resolved(PRODUCTION, 7, collection_tags=HOLD), held(ref=V7))
    copy = replace(artifact(1, digest="d7"), source=COPY)
    add(alive, resolved(COPIED, 1, content=copy, asked=9 * OUT), collection(COPY, asked=9 * OUT))
    assert scene.marks() == {WHOLE}
    add(scene.pair(V7), resolved(V7, 7, asked=9 * OUT))
    assert scene.marks() == {WHOLE}, "of the version, not of its collection"


# --- absence ---


def test_a_tag_on_a_version_is_shown_gone_by_a_read_of_that_version_only(scene: Scene) -> None:
    store = scene.pair(V7)
    add(store, held(ref=V7))
    assert scene.absence(TAGGED) is None
    add(scene.pair(COPIED), resolved(COPIED, 1, content=replace(artifact(1, digest="d7"), source=COPY), asked=5))
    assert scene.absence(TAGGED) is None
    add(store, resolved(V7, 7, asked=6))
    assert scene.absence(TAGGED) == at(6)


def test_a_tag_that_an_earlier_process_saw_is_shown_gone_at_its_place(scene: Scene) -> None:
    assert scene.absence(TAGGED) is None
    add(scene.pair(COPIED), resolved(COPIED, 1, content=replace(artifact(1, digest="d7"), source=COPY)))
    assert scene.absence(TAGGED) is None, "other content of the same bytes"
    add(scene.pair(V7), resolved(V7, 7, content=artifact(9)))
    assert scene.absence(TAGGED) is None, "other bytes at the same place"
    add(scene.pair(PRODUCTION), resolved(PRODUCTION, 7, asked=3))
    assert scene.absence(TAGGED) == at(3)


def test_the_same_bytes_logged_again_at_the_place_do_not_show_the_tag_of_the_first_gone(scene: Scene) -> None:
    add(scene.pair(V7), held(ref=V7))
    again = replace(artifact(9, digest="d7"), source_version="v7")
    add(scene.pair(PRODUCTION, key=B), resolved(PRODUCTION, 7, content=again, asked=9 * OUT))
    assert scene.absence(TAGGED) is None
    assert scene.marks() == {TAGGED}


def test_an_artifact_that_was_unlinked_shows_its_own_tag_gone(scene: Scene) -> None:
    served = ServedVersion(CHAT, "v7", "artifact-7", "d7")
    store = scene.pair(served=[served])
    unlinked = replace(artifact(7, tags=HOLD), source=None, source_version=None)
    add(store, missing(V7), by_id(unlinked))
    assert scene.marks() == {TAGGED}, "named as it is served"
    add(store, missing(V7, asked=5), by_id(replace(unlinked, tags=frozenset()), asked=5))
    assert not scene.marks()
    assert scene.absence(TAGGED) == at(5)


def test_other_bytes_read_by_id_do_not_show_a_tag_gone(scene: Scene) -> None:
    """Whoever may write a record could name another artifact with the same bytes as the held version."""
    add(scene.pair(V7), held(ref=V7))
    forged = scene.pair(served=[ServedVersion(CHAT, "v7", "artifact-1", "d7")], key=B)
    add(forged, missing(V7), by_id(replace(artifact(1, digest="d7"), source=COPY), asked=9 * OUT))
    assert scene.absence(TAGGED) is None
    assert scene.marks() == {TAGGED}


def test_a_tag_on_a_collection_is_shown_gone_by_a_read_of_that_collection(scene: Scene) -> None:
    store = scene.pair(PRODUCTION)
    add(store, resolved(PRODUCTION, 7, collection_tags=HOLD), collection(tags=HOLD))
    assert scene.absence(WHOLE) is None
    add(store, resolved(PRODUCTION, 7, asked=1))
    assert scene.absence(WHOLE) is None, "the collection was last read with it"
    add(store, collection(asked=2))
    assert scene.absence(WHOLE) == at(2)


@pytest.mark.parametrize("gone", [WHOLE, ALIASED])
def test_a_collection_whose_lists_were_not_read_to_their_ends_shows_nothing_gone(scene: Scene, gone: HoldMark) -> None:
    store = scene.pair(PRODUCTION)
    add(store, resolved(PRODUCTION, 7, collection_tags=HOLD), collection(tags=HOLD, aliases=HOLD, carriers=[carrier()]))
    add(store, resolved(PRODUCTION, 7, asked=1), replace(collection(asked=OUT + 2), whole=False))
    assert scene.absence(gone) is None
    add(store, collection(asked=OUT + 3))
    assert scene.absence(gone) == at(OUT + 3)


def test_an_alias_is_gone_only_when_no_version_has_it(scene: Scene) -> None:
    store = scene.pair(PRODUCTION)
    add(store, collection(aliases=HOLD, carriers=[carrier()]))
    assert scene.absence(ALIASED) is None
    add(store, collection(aliases=HOLD, carriers=[carrier("d8")], asked=1))
    assert scene.marks("d8")
    assert not scene.marks()
    assert scene.absence(ALIASED) is None, "it moved to another version"
    add(store, collection(aliases=("Regulatory-Hold",), carriers=[carrier("d8", "Regulatory-Hold")], asked=2))
    assert scene.absence(ALIASED) is None, "it is written in another way"
    add(store, collection(aliases=("regulatory-hold-2",), asked=3))
    assert scene.absence(ALIASED) is None, "which version has the other one is not known"
    add(store, collection(aliases=("regulatory-hold-2",), carriers=[carrier("d8", "regulatory-hold-2")], asked=4))
    assert scene.absence(ALIASED) == at(4)


def test_a_read_before_the_newest_that_showed_the_mark_does_not_show_it_gone(scene: Scene) -> None:
    scene.index.watch(B, [(SERVER, "d7")])
    early, late = scene.pair(PRODUCTION), scene.pair(PRODUCTION)
    add(early, collection(asked=1))
    add(late, resolved(PRODUCTION, 7, collection_tags=HOLD, asked=2))
    late.forget(A)
    assert not scene.marks()
    assert scene.absence(WHOLE) is None
    scene.told()
    add(early, collection(asked=3))
    assert scene.absence(WHOLE) == at(3)
    assert scene.told() == {B}


# --- who is told ---


def test_who_watches_is_told_once_of_a_change_and_not_of_each_credential(scene: Scene) -> None:
    for key in (A, B):
        scene.index.watch(key, [(SERVER, "d7"), (SERVER, "d8")])
    scene.index.watch(("other", "c"), [(SERVER, "d9"), ("https://other.example.com", "d7")])
    pairs = [scene.pair(PRODUCTION) for _ in range(3)]
    told = []
    for asked in (1, 2):
        for pair in pairs:
            add(pair, held(asked))
            told.append(scene.told())
    assert told == [{A, B}, *[set()] * 5]
    told.clear()
    for pair in pairs:
        add(pair, resolved(PRODUCTION, 7, asked=3))
        told.append(scene.told())
    assert told == [set(), set(), {A, B}]


def test_who_no_longer_watches_is_not_told(scene: Scene) -> None:
    store = scene.pair(PRODUCTION)
    scene.index.watch(A, [(SERVER, "d7")])
    scene.index.watch(B, [(SERVER, "d7")])
    scene.index.watch(A, [(SERVER, "d8")])
    add(store, held())
    assert scene.told() == {B}
    scene.index.watch(B, ())
    add(store, resolved(PRODUCTION, 7, asked=1))
    assert scene.told() == set()


def test_who_waits_for_the_absence_of_a_mark_is_told(scene: Scene) -> None:
    scene.index.watch(A, [(SERVER, "d7")])
    store = scene.pair(PRODUCTION)
    assert scene.absence(WHOLE) is None, "seen by an earlier process"
    add(store, collection(tags=HOLD))
    assert scene.told() == set()
    add(store, collection(asked=1))
    assert scene.told() == {A}
    add(store, collection(asked=2))
    assert scene.told() == set()


def test_who_was_told_of_a_mark_that_nobody_shows_any_more_is_told_when_it_is_gone(scene: Scene) -> None:
    scene.index.watch(A, [(SERVER, "d7")])
    store = scene.pair(PRODUCTION)
    add(store, held(), collection())
    assert scene.told() == {A}
    store.forget(A)
    assert scene.told() == {A}
    assert scene.absence(TAGGED) is None
    add(scene.pair(PRODUCTION), resolved(PRODUCTION, 7, asked=2))
    assert scene.told() == {A}
    assert scene.absence(TAGGED) == at(2)


# --- limits ---


def test_nothing_stays_of_marks_that_nobody_shows_or_waits_for(scene: Scene) -> None:
    scene.index.watch(A, [(SERVER, "d7")])
    for number in range(2 * MAX_REMEMBERED):
        name = f"regulatory-hold-{number}"
        store = scene.pair(PRODUCTION)
        add(store, collection(aliases=(name,), carriers=[carrier(name=name)]))
        store.forget(A)
        scene.absence(mark(HoldSource.ALIAS, f"{name}-unseen"))
    assert 1 < len(scene.index) <= MAX_REMEMBERED
    scene.index.watch(A, ())
    assert len(scene.index) == 0


def test_a_thousand_credentials_that_show_one_mark_cost_little_each(scene: Scene) -> None:
    def seconds(count: int) -> float:
        pairs = [scene.pair(PRODUCTION, key=("team", str(number))) for number in range(count)]
        for number in range(count):
            scene.index.watch(("team", str(number)), [(SERVER, "d7")])
        scene.told()
        best = 1e9
        for attempt in range(3):
            started = time.process_time()
            for tags in (HOLD, ()):
                for number, pair in enumerate(reversed(pairs)):
                    asked = attempt * 10 + number / count + (5 if tags else 0)
                    add(pair, resolved(PRODUCTION, 7, content=artifact(7, tags=tags), asked=asked))
                    scene.told()
            best = min(best, time.process_time() - started)
        for number, pair in enumerate(pairs):
            pair.forget(("team", str(number)))
        return best

    few, many = seconds(100), seconds(1000)
    assert many < 40 * few, "ten times as many: about ten times as long, and not a hundred times"
