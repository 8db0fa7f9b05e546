"""Which answers are kept, and which keys are notified."""

from dataclasses import replace
from typing import Any

from modelsync.api.model_ref import CollectionRef, ModelRef
from modelsync.registry.model import (
    AliasedVersion,
    ArtifactRead,
    CollectionRead,
    Failure,
    HoldNames,
    Question,
    Reading,
    Resolved,
    ServedVersion,
)
from modelsync.registry.store import Store, keep
from unit.registry.facts import CHAT, SOURCE, artifact, at, by_id, collection, link, missing, resolved, unreachable

A, B = ("prod", "a"), ("prod", "b")
HOLD = HoldNames(tags=frozenset({"regulatory-hold"}), aliases=frozenset({"regulatory-hold*"}))
PRODUCTION = CHAT.at("production")
QUESTION = Question(refs=frozenset({PRODUCTION}), hold=HOLD)


def reading(*outcomes: Resolved | CollectionRead | ArtifactRead | Failure) -> Reading:
    refs: dict[ModelRef, Any] = {}
    collections: dict[CollectionRef, Any] = {}
    artifacts: dict[str, Any] = {}
    for outcome in outcomes:
        match outcome:
            case Resolved(ref=ref):
                refs[ref] = outcome
            case CollectionRead(collection=home):
                collections[home] = outcome
            case ArtifactRead():
                artifacts[outcome.artifact.artifact_id] = outcome
            case _ if isinstance(outcome.subject, ModelRef):
                refs[outcome.subject] = outcome
            case _ if isinstance(outcome.subject, CollectionRef):
                collections[outcome.subject] = outcome
    return Reading(refs, collections, artifacts)


def test_an_answer_that_was_overtaken_by_a_newer_one_changes_nothing() -> None:
    newer = keep(None, resolved(PRODUCTION, 8, asked=5))
    assert keep(newer, resolved(PRODUCTION, 7, asked=4)) is newer
    assert keep(newer, unreachable(PRODUCTION, asked=4)) is newer


def test_the_last_positive_answer_stays_through_any_other() -> None:
    kept = keep(None, resolved(PRODUCTION, 7, asked=1))
    for outcome in (unreachable(PRODUCTION, asked=2), missing(PRODUCTION, asked=3)):
        kept = keep(kept, outcome)
        assert kept.positive is not None
        assert kept.positive.version == "v7"
    assert kept.latest == missing(PRODUCTION)


def test_an_outcome_is_as_old_as_the_first_of_its_kind_in_a_row() -> None:
    kept = keep(None, resolved(PRODUCTION, 7, asked=1))
    kept = keep(kept, unreachable(PRODUCTION, asked=10))
    kept = keep(kept, unreachable(PRODUCTION, asked=20))
    assert kept.since == at(10.1)
    assert keep(kept, resolved(PRODUCTION, 7, asked=30)).since == at(30.1)


def test_a_key_is_notified_once_and_then_only_of_changes() -> None:
    store = Store()
    assert store.ask(A, QUESTION)
    assert store.add(reading(resolved(PRODUCTION, 7), collection())) == {A}
    assert not store.ask(A, QUESTION)
    assert store.add(reading(resolved(PRODUCTION, 7, asked=9), collection(asked=9))) == set()
    assert store.add(reading(resolved(PRODUCTION, 8, asked=10), collection(asked=10))) == {A}


def test_a_version_logged_with_the_alias_latest_is_no_news() -> None:
    store = Store()
    store.ask(A, QUESTION)
    store.add(reading(resolved(PRODUCTION, 7), collection(aliases=("production",))))
    assert store.add(reading(collection(aliases=("production", "latest"), asked=1))) == set()
    assert store.add(reading(collection(aliases=("production", "regulatory-hold-1"), asked=2))) == {A}


def test_the_same_aliases_matter_to_one_key_and_not_to_another() -> None:
    store = Store()
    store.ask(A, QUESTION)
    store.ask(B, Question(refs=frozenset({PRODUCTION}), hold=HoldNames(aliases=frozenset({"stop"}))))
    store.add(reading(resolved(PRODUCTION, 7), collection()))
    assert store.hold_aliases == {"regulatory-hold*", "stop"}
    stopped = AliasedVersion("stop", "v1", "artifact-1", "d1")
    assert store.add(reading(collection(aliases=("stop",), carriers=(stopped,), asked=1))) == {B}
    store.forget(B)
    assert store.hold_aliases == {"regulatory-hold*"}


def test_a_question_that_grows_has_no_answer_yet_and_one_that_shrinks_has() -> None:
    store = Store()
    store.ask(A, QUESTION)
    store.add(reading(resolved(PRODUCTION, 7), collection()))
    served = ServedVersion(CHAT, "v6", "artifact-6", "d6")
    assert store.ask(A, Question(refs=QUESTION.refs, served=frozenset({served}), hold=HOLD))
    assert not store.ask(A, QUESTION)


def test_what_nobody_asks_for_any_more_is_forgotten() -> None:
    store = Store()
    store.ask(A, QUESTION)
    store.ask(B, QUESTION)
    store.add(reading(resolved(PRODUCTION, 7), collection()))
    store.forget(A)
    assert store.answers(B).refs
    assert not store.answers(A).refs
    store.forget(B)
    assert store.ask(B, QUESTION)
    assert not store.answers(B).refs


def test_an_artifact_read_by_its_id_is_kept_for_whoever_serves_it() -> None:
    store = Store()
    served = ServedVersion(CHAT, "v6", "artifact-6", "d6")
    store.ask(A, Question(refs=frozenset(), served=frozenset({served}), hold=HOLD))
    assert store.add(reading(missing(CHAT.at("v6")), by_id(artifact(6)), collection())) == {A}
    assert store.add(reading(by_id(artifact(6, tags=("regulatory-hold",)), asked=5))) == {A}
    assert store.answers(A).artifacts.keys() == {"artifact-6"}


def test_a_webhook_about_the_source_concerns_whoever_follows_a_link_of_it() -> None:
    store = Store()
    store.ask(A, QUESTION)
    store.ask(B, Question(refs=frozenset({CollectionRef("other", "llms", "x").at("production")})))
    linked = artifact(7, links=(link(CHAT, "v7"), link(SOURCE, "v21")))
    store.add(reading(resolved(PRODUCTION, 7, content=linked), collection()))
    assert store.concerned(lambda place: place == SOURCE) == {A}
    assert store.concerned(lambda place: place == CHAT) == {A}
    assert store.concerned(lambda place: place.entity == "nobody") == set()


def test_a_key_is_answered_when_alias_collection_and_each_served_version_were_read() -> None:
    store = Store()
    served = ServedVersion(CHAT, "v6", "artifact-6", "d6")
    store.ask(A, Question(refs=frozenset({PRODUCTION}), served=frozenset({served}), hold=HOLD))
    store.add(reading(resolved(PRODUCTION, 7), collection()))
    assert not store.is_answered(A)
    store.add(reading(missing(CHAT.at("v6")), by_id(artifact(6))))
    assert store.is_answered(A), "a served version that its collection lost is read by its id"
    store.add(reading(unreachable(CHAT, asked=5)))
    assert not store.is_answered(A)
    store.add(reading(collection(asked=6), missing(PRODUCTION, asked=6)))
    assert not store.is_answered(A)
    assert not store.is_answered(B)


def test_lists_that_were_not_read_to_their_ends_answer_no_key_and_are_news_when_they_are() -> None:
    store = Store()
    store.ask(A, QUESTION)
    cut = replace(artifact(7), whole=False)
    assert store.add(reading(resolved(PRODUCTION, 7), replace(collection(), whole=False))) == {A}
    assert not store.is_answered(A)
    assert store.add(reading(collection(asked=1))) == {A}
    assert store.is_answered(A)
    assert store.add(reading(resolved(PRODUCTION, 7, content=cut, asked=2))) == {A}
    assert not store.is_answered(A)
    assert store.add(reading(resolved(PRODUCTION, 7, asked=3))) == {A}
    assert store.is_answered(A)
