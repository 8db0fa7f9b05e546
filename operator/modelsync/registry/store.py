"""The answers of one server to one credential, and which keys a change concerns. No I/O.

Answers are shared between keys only here: one store belongs to one (server, credential) pair.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from modelsync.api.model_ref import CollectionRef, ModelRef
from modelsync.registry.holds import is_hold_alias
from modelsync.registry.marks import Key, Showings, Subject
from modelsync.registry.model import (
    Answers,
    ArtifactRead,
    CollectionRead,
    Failure,
    Kept,
    Link,
    Positive,
    Question,
    Reading,
    Resolved,
)

__all__ = ["Key", "Store", "answers_of", "keep"]


def keep(previous: Kept[Positive] | None, outcome: Positive | Failure) -> Kept[Positive]:
    """Add an answer to what is known. An answer to an older query than the known one is ignored.

    Answers can arrive out of order: a look does not wait for a poll in progress.
    """
    if previous is not None and outcome.asked < previous.latest.asked:
        return previous
    positive = outcome if isinstance(outcome, Resolved | CollectionRead | ArtifactRead) else None
    same = previous is not None and type(previous.latest) is type(outcome)
    return Kept(
        latest=outcome,
        positive=positive if positive is not None or previous is None else previous.positive,
        since=previous.since if previous is not None and same else outcome.answered_at,
    )


def answers_of(reading: Reading) -> Answers:
    """Convert a single read to answers."""
    return Answers(
        refs={ref: keep(None, outcome) for ref, outcome in reading.refs.items()},
        collections={home: keep(None, outcome) for home, outcome in reading.collections.items()},
        artifacts={artifact_id: keep(None, outcome) for artifact_id, outcome in reading.artifacts.items()},
    )


_ItemT = TypeVar("_ItemT", ModelRef, CollectionRef, str)


class Store:
    """The questions of one pair's keys, and the answers known for them. What is known is reported to `showings`."""

    def __init__(self, showings: Showings | None = None) -> None:
        self._showings = showings
        self._questions: dict[Key, Question] = {}
        self._askers: dict[Subject, set[Key]] = {}
        self._patterns: Counter[str] = Counter()
        self._refs: dict[ModelRef, Kept[Resolved]] = {}
        self._collections: dict[CollectionRef, Kept[CollectionRead]] = {}
        self._artifacts: dict[str, Kept[ArtifactRead]] = {}
        self._reported: dict[Key, tuple[object, ...]] = {}

    @property
    def hold_aliases(self) -> frozenset[str]:
        """The patterns of all keys: a read for one key must include what the other keys look for."""
        return frozenset(self._patterns)

    def ask(self, key: Key, question: Question) -> bool:
        """Set the question of `key`; return whether any part of it has no answer yet."""
        before = self._questions.get(key)
        if before != question:
            self._questions[key] = question
            self._move(key, _items(before), _items(question))
            self._patterns.update(question.hold.aliases)
            self._patterns -= Counter(before.hold.aliases if before else ())
        return any(item not in self._refs and item not in self._collections for item in _expected(question))

    def forget(self, key: Key) -> None:
        """Remove `key`, and every answer that no other key needs."""
        before = self._questions.pop(key, None)
        self._reported.pop(key, None)
        if before is not None:
            self._move(key, _items(before), frozenset())
            self._patterns -= Counter(before.hold.aliases)

    def questions(self, keys: Iterable[Key]) -> list[Question]:
        """The questions of those `keys` that are still in the store."""
        return [self._questions[key] for key in keys if key in self._questions]

    def add(self, reading: Reading) -> set[Key]:
        """Add the result of a read; return the keys for which something relevant has changed."""
        touched: set[Key] = set()
        touched |= self._add(self._refs, reading.refs)
        touched |= self._add(self._collections, reading.collections)
        touched |= self._add(self._artifacts, reading.artifacts)
        changed = set()
        for key in touched:
            view = self._view(self._questions[key])
            if self._reported.get(key) != view:
                self._reported[key] = view
                changed.add(key)
        return changed

    def answers(self, key: Key) -> Answers:
        """All that is known for `key`; empty if the key is not in the store."""
        question = self._questions.get(key)
        if question is None:
            return Answers({}, {}, {})
        return Answers(
            refs=_known(self._refs, question.all_refs),
            collections=_known(self._collections, question.collections),
            artifacts=_known(self._artifacts, {served.artifact_id for served in question.served}),
        )

    def is_answered(self, key: Key) -> bool:
        """Whether the newest answers cover the whole question of `key`, with lists that were read to their ends."""
        question = self._questions.get(key)
        if question is None:
            return False
        alias = all(_is_positive(self._refs.get(ref)) for ref in question.refs)
        around = all(_is_positive(self._collections.get(home)) for home in question.collections)
        served = all(
            _is_positive(self._refs.get(each.collection.at(each.version)))
            or _is_positive(self._artifacts.get(each.artifact_id))
            for each in question.served
        )
        return alias and around and served

    def concerned(self, matches: Callable[[CollectionRef], bool]) -> set[Key]:
        """The keys whose question contains a matching collection, or whose versions are linked to one."""
        keys: set[Key] = set()
        for item, askers in self._askers.items():
            if isinstance(item, ModelRef):
                kept = self._refs.get(item)
                places = [item.in_collection, *_places(kept.positive if kept else None)]
            else:
                places = [item] if isinstance(item, CollectionRef) else []
            if any(matches(place) for place in places):
                keys |= askers
        return keys

    def _add(self, known: dict[_ItemT, Kept[Positive]], outcomes: Mapping[_ItemT, Positive | Failure]) -> set[Key]:
        """Add answers of one kind; return the keys whose question contains a changed one."""
        touched: set[Key] = set()
        for item, outcome in outcomes.items():
            if (askers := self._askers.get(item)) is None:
                continue
            before = known.get(item)
            known[item] = after = keep(before, outcome)
            self._show(item, before, after)
            if before is None or before.latest != after.latest:
                touched |= askers
        return touched

    def _move(self, key: Key, before: frozenset[Subject], after: frozenset[Subject]) -> None:
        for item in after - before:
            self._askers.setdefault(item, set()).add(key)
        for item in before - after:
            self._askers[item].discard(key)
            if self._askers[item]:
                continue
            del self._askers[item]
            if isinstance(item, ModelRef):
                self._show(item, self._refs.pop(item, None), None)
            elif isinstance(item, CollectionRef):
                self._show(item, self._collections.pop(item, None), None)
            else:
                self._show(item, self._artifacts.pop(item, None), None)

    def _show(self, item: Subject, before: Kept[Positive] | None, after: Kept[Positive] | None) -> None:
        """Report that something else is known of `item` now."""
        known, found = (kept.positive if kept is not None else None for kept in (before, after))
        if self._showings is None or known is found:
            return
        homes = {
            Link(served.collection, served.version, frozenset(), frozenset())
            for key in (self._askers.get(item, ()) if isinstance(item, str) else ())
            for served in self._questions[key].served
            if served.artifact_id == item
        }
        self._showings.replace(item, known, found, homes)

    def _view(self, question: Question) -> tuple[object, ...]:
        """The part of the answers that is relevant to one question, for comparison with the previous one."""
        refs = _known(self._refs, sorted(question.all_refs))
        collections = _known(self._collections, sorted(question.collections))
        artifacts = _known(self._artifacts, sorted({served.artifact_id for served in question.served}))
        return (
            *((ref, kept.latest) for ref, kept in refs.items()),
            *((home, _what_matters(kept.latest, question)) for home, kept in collections.items()),
            *((artifact_id, kept.latest) for artifact_id, kept in artifacts.items()),
        )


_Name = TypeVar("_Name")
_Known = TypeVar("_Known")


def _known(table: Mapping[_Name, _Known], names: Iterable[_Name]) -> dict[_Name, _Known]:
    return {name: table[name] for name in names if name in table}


def _is_positive(kept: Kept[Positive] | None) -> bool:
    return kept is not None and kept.positive is kept.latest and kept.positive.whole


def _items(question: Question | None) -> frozenset[Subject]:
    if question is None:
        return frozenset()
    return _expected(question) | {served.artifact_id for served in question.served}


def _expected(question: Question) -> frozenset[Subject]:
    """What every read answers; a served version is only read by its id when its collection does not list it."""
    return frozenset((*question.all_refs, *question.collections))


def _places(positive: Resolved | None) -> Iterable[CollectionRef]:
    if positive is None:
        return ()
    return (positive.collection_ref, *(link.collection for link in positive.artifact.links))


def _what_matters(read: CollectionRead | Failure, question: Question) -> object:
    """A collection's aliases change with every logged version; only the hold aliases are relevant."""
    if not isinstance(read, CollectionRead):
        return read
    held = frozenset(alias for alias in read.aliases if is_hold_alias(alias, question.hold.aliases))
    carriers = frozenset(each for each in read.hold_aliases if each.alias in held)
    return (read.collection, read.tags, held, carriers, read.whole)
