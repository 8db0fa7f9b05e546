"""Decides from the registry's answers which digests are held. Pure.

A hold applies to a digest: a mark anywhere the artifact is linked covers it, so linking the same bytes elsewhere does
not evade it. A failed read must never end a hold.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase

from modelsync.api.hold import HoldMark, HoldSource
from modelsync.api.model_ref import CollectionRef
from modelsync.registry.model import (
    Answered,
    Answers,
    Artifact,
    CollectionRead,
    HoldNames,
    Link,
    Question,
    ServedVersion,
)


@dataclass(frozen=True, slots=True)
class HoldRead:
    """A positive read of all hold marks on one digest."""

    digest: str
    marks: frozenset[HoldMark]
    alias_mark_elsewhere: bool
    """Another version of a relevant collection carries a hold alias: a latched hold by alias continues."""
    asked_at: datetime
    """When the oldest query behind this read was sent."""
    asked: float = field(default=0.0, compare=False)
    """`asked_at` in seconds of `graphql.clock`; orders reads."""


def hold_reads(answers: Answers, question: Question) -> Mapping[str, HoldRead]:
    """Return the hold marks on each digest that `question` covers. A digest missing from the result is unknown.

    A digest is known when its artifact and its collection were both read, with all their links, tags and aliases. If
    only a part could be read and it shows a mark, the digest is in the result too, with every latched mark kept.
    """
    found = _marks_found(answers, question)
    reads = {}
    for digest, views in _views(answers, question).items():
        latched = {mark for mark in question.latched if mark.digest == digest}
        homes = {view.collection for view in views} | {home for mark in latched if (home := mark.home) is not None}
        collections = {home: kept.positive for home in homes if (kept := answers.collections.get(home))}
        marks = {mark for mark, _ in found[digest]}
        homes_read = all((read := collections.get(view.collection)) and read.whole for view in views)
        if homes_read and all(view.read for view in views):
            marks |= {mark for mark in latched if _still_stands(mark, collections, question.hold)}
            behind = [view.read for view in views if view.read] + [read for read in collections.values() if read]
        elif marks:
            marks |= latched
            behind = [read for _, read in found[digest]]
        else:
            continue
        oldest = min(behind, key=lambda read: read.asked)
        reads[digest] = HoldRead(
            digest=digest,
            marks=frozenset(marks),
            alias_mark_elsewhere=any(_marks_another(read, digest, question.hold) for read in collections.values()),
            asked_at=oldest.asked_at,
            asked=oldest.asked,
        )
    return reads


def marks_on(artifact: Artifact, home: Link, names: HoldNames) -> frozenset[HoldMark]:
    """Return the marks on one artifact: tags on the version, and tags and aliases in the collections it is linked to.

    `home` is the link under which it was queried; marks on the version itself are reported for that link. A collection
    tag marks the whole collection (`regulatory-hold`) or one version of it (`regulatory-hold v7`).
    """
    digest, place = artifact.digest, str(home.collection)
    marks = {
        HoldMark(digest, place, home.version, HoldSource.VERSION_TAG, tag)
        for tag in artifact.tags
        if tag.lower() in names.tags
    }
    for link in {home, *artifact.links}:
        place = str(link.collection)
        marks |= {
            HoldMark(digest, place, link.version, HoldSource.COLLECTION_TAG, tag)
            for tag in link.collection_tags
            if _marks_version(tag, link.version, names)
        }
        marks |= {
            HoldMark(digest, place, link.version, HoldSource.ALIAS, alias)
            for alias in link.aliases
            if is_hold_alias(alias, names.aliases)
        }
    return frozenset(marks)


def is_hold_alias(alias: str, patterns: Collection[str]) -> bool:
    """Whether `alias`, in any case, matches a shell pattern (`regulatory-hold-*`). `patterns` are in lower case."""
    name = alias.lower()
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class _View:
    """One reason why a digest is relevant: a collection that it is served from, or in which an alias names it."""

    collection: CollectionRef
    read: Answered | None
    """The answer about the artifact; None when it has not been read, or not wholly."""


def _views(answers: Answers, question: Question) -> Mapping[str, list[_View]]:
    views: dict[str, list[_View]] = defaultdict(list)
    newest = _newest(answers, question)
    for served in sorted(question.served):
        views[served.digest].append(_View(served.collection, _read_of(served, answers, newest)))
    for ref in sorted(question.refs):
        kept = answers.refs.get(ref)
        if kept and kept.positive:
            read = kept.positive if kept.positive.whole else None
            views[kept.positive.digest].append(_View(ref.in_collection, read))
    return views


def _read_of(
    served: ServedVersion, answers: Answers, newest: Mapping[str, tuple[Artifact, Link, Answered]]
) -> Answered | None:
    """The answer about the content of `served`; None when it has not been read, or not wholly.

    Ids are local to a server. After a move to another server the same id may belong to different content, which is not
    a read of this digest; and the same digest under the same name counts as read, whatever its id.
    """
    if (seen := newest.get(served.artifact_id)) is not None and seen[0].digest == served.digest:
        return seen[2] if seen[0].whole else None
    place = answers.refs.get(served.collection.at(served.version))
    if place is not None and place.positive is not None and place.positive.digest == served.digest:
        return place.positive if place.positive.whole else None
    return None


def _marks_found(answers: Answers, question: Question) -> Mapping[str, list[tuple[HoldMark, Answered]]]:
    """Every mark that was read, by digest, including marks on other artifacts or aliases with the same digest."""
    found: dict[str, list[tuple[HoldMark, Answered]]] = defaultdict(list)
    for artifact, home, by in _newest(answers, question).values():
        for mark in marks_on(artifact, home, question.hold):
            found[mark.digest].append((mark, by))
    for kept in answers.collections.values():
        if (read := kept.positive) is None:
            continue
        for carrier in read.hold_aliases:
            if is_hold_alias(carrier.alias, question.hold.aliases):
                mark = HoldMark(carrier.digest, str(read.collection), carrier.version, HoldSource.ALIAS, carrier.alias)
                found[carrier.digest].append((mark, read))
    return found


def _newest(answers: Answers, question: Question) -> Mapping[str, tuple[Artifact, Link, Answered]]:
    """The newest read of each artifact, by id: an older one may show marks that have been removed since."""
    newest: dict[str, tuple[Artifact, Link, Answered]] = {}
    for artifact, home, by in _all_reads(answers, question):
        if artifact.artifact_id not in newest or by.asked > newest[artifact.artifact_id][2].asked:
            newest[artifact.artifact_id] = (artifact, home, by)
    return newest


def _all_reads(answers: Answers, question: Question) -> Iterator[tuple[Artifact, Link, Answered]]:
    for ref in sorted(answers.refs):
        if one := answers.refs[ref].positive:
            yield one.artifact, Link(one.collection_ref, one.version, one.aliases, one.collection_tags), one
    for served in sorted(question.served):
        kept = answers.artifacts.get(served.artifact_id)
        if kept and (read := kept.positive):
            gone = Link(served.collection, served.version, frozenset(), frozenset())
            yield read.artifact, gone, read


def _still_stands(mark: HoldMark, collections: Mapping[CollectionRef, CollectionRead | None], names: HoldNames) -> bool:
    """Whether a latched mark that the artifact itself no longer shows is, or may still be, on its collection.

    The artifact lists only links that the credential can see, and none that it was unlinked from. A mark on a
    collection that cannot be queried stays until its digest is no longer served, or a user removes it from the status.
    """
    if mark.via is HoldSource.VERSION_TAG:
        return False
    read = collections.get(mark.home) if mark.home is not None else None
    if read is None or not read.whole:
        return True
    if mark.via is HoldSource.COLLECTION_TAG:
        return mark.name in read.tags and _marks_version(mark.name, mark.version, names)
    return any(carrier.alias == mark.name and carrier.digest == mark.digest for carrier in read.hold_aliases)


def _marks_another(read: CollectionRead | None, digest: str, names: HoldNames) -> bool:
    """Whether the collection has a hold alias that is not on `digest`, or whose version is unknown."""
    if read is None:
        return False
    here = {carrier.alias for carrier in read.hold_aliases if carrier.digest == digest}
    return any(is_hold_alias(alias, names.aliases) for alias in read.aliases - here)


def _marks_version(tag: str, version: str, names: HoldNames) -> bool:
    """Whether a collection tag, in any case, holds `version`: `regulatory-hold` any, `regulatory-hold v7` only v7."""
    words = tag.lower().split()
    whole, name = " ".join(words), " ".join(words[:-1])
    return whole in names.tags or (len(words) > 1 and words[-1] == version and name in names.tags)
