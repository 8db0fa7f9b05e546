"""Judges from what was read which digests must not serve. Pure.

A hold is on a digest: a mark anywhere the artifact is linked covers it, so linking the same bytes elsewhere does not
escape it. Nothing here ends a hold because something could not be read.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from modelsync.api.hold import HoldMark, HoldSource
from modelsync.api.model_ref import CollectionRef
from modelsync.registry.model import (
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
    """Another version of a collection that matters here carries a hold alias: a latched hold by alias goes on."""
    asked_at: datetime
    """When the oldest of the questions that this rests on was sent."""


def hold_reads(answers: Answers, question: Question) -> Mapping[str, HoldRead]:
    """Say for each digest that `question` is about what holds it. A digest that is not in the result is unknown.

    A digest is known when its artifact and its collection were both read. If only a part could be read and that part
    shows a mark, the digest is in the result too, with every latched mark on it kept.
    """
    found = _marks_found(answers, question)
    reads = {}
    for digest, views in _views(answers, question).items():
        latched = {mark for mark in question.latched if mark.digest == digest}
        homes = {view.collection for view in views} | {home for mark in latched if (home := mark.home) is not None}
        collections = {home: kept.positive for home in homes if (kept := answers.collections.get(home))}
        marks = {mark for mark, _ in found[digest]}
        if all(view.asked_at for view in views) and all(collections.get(view.collection) for view in views):
            marks |= {mark for mark in latched if _still_stands(mark, collections, question.hold)}
            moments = [view.asked_at for view in views] + [read.asked_at for read in collections.values() if read]
        elif marks:
            marks |= latched
            moments = [asked_at for _, asked_at in found[digest]]
        else:
            continue
        reads[digest] = HoldRead(
            digest=digest,
            marks=frozenset(marks),
            alias_mark_elsewhere=any(_marks_another(read, digest, question.hold) for read in collections.values()),
            asked_at=min(moment for moment in moments if moment),
        )
    return reads


def marks_on(artifact: Artifact, home: Link, names: HoldNames) -> frozenset[HoldMark]:
    """Find the marks on one artifact: on its version, on the collections that it stands in, and by alias there.

    `home` is the place under which it was asked for; a mark on the version itself is told with it. A collection tag
    marks all of the collection (`regulatory-hold`) or one version of it (`regulatory-hold v7`).
    """
    digest, place = artifact.digest, str(home.collection)
    marks = {HoldMark(digest, place, home.version, HoldSource.VERSION_TAG, tag) for tag in artifact.tags & names.tags}
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
    """Whether `alias` matches one of the shell patterns (`regulatory-hold-*`); case counts."""
    return any(fnmatchcase(alias, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class _View:
    """One reason why a digest is asked about: a collection that it serves from, or that an alias names it in."""

    collection: CollectionRef
    asked_at: datetime | None
    """When the artifact was asked for; None when it has not been read."""


def _views(answers: Answers, question: Question) -> Mapping[str, list[_View]]:
    views: dict[str, list[_View]] = defaultdict(list)
    newest = _newest(answers, question)
    for served in sorted(question.served):
        views[served.digest].append(_View(served.collection, _asked_at(served, answers, newest)))
    for ref in sorted(question.refs):
        kept = answers.refs.get(ref)
        if kept and kept.positive:
            views[kept.positive.digest].append(_View(ref.in_collection, kept.positive.asked_at))
    return views


def _asked_at(
    served: ServedVersion, answers: Answers, newest: Mapping[str, tuple[Artifact, Link, datetime]]
) -> datetime | None:
    """When the content of `served` was asked for; None when it has not been read.

    Each server counts its ids by itself. After a move to another one the id may be of other content, which says nothing
    of this one; and the same content in the same place is what was meant, whatever its id.
    """
    if (seen := newest.get(served.artifact_id)) is not None and seen[0].digest == served.digest:
        return seen[2]
    place = answers.refs.get(served.collection.at(served.version))
    if place is not None and place.positive is not None and place.positive.digest == served.digest:
        return place.positive.asked_at
    return None


def _marks_found(answers: Answers, question: Question) -> Mapping[str, list[tuple[HoldMark, datetime]]]:
    """Every mark that was read, by digest: also on another artifact with the same bytes, or through another alias."""
    found: dict[str, list[tuple[HoldMark, datetime]]] = defaultdict(list)
    for artifact, home, asked_at in _newest(answers, question).values():
        for mark in marks_on(artifact, home, question.hold):
            found[mark.digest].append((mark, asked_at))
    for kept in answers.collections.values():
        if (read := kept.positive) is None:
            continue
        for carrier in read.hold_aliases:
            if is_hold_alias(carrier.alias, question.hold.aliases):
                mark = HoldMark(carrier.digest, str(read.collection), carrier.version, HoldSource.ALIAS, carrier.alias)
                found[carrier.digest].append((mark, read.asked_at))
    return found


def _newest(answers: Answers, question: Question) -> Mapping[str, tuple[Artifact, Link, datetime]]:
    """The newest read of each artifact, by id: an older one may show marks that have been taken away since."""
    newest: dict[str, tuple[Artifact, Link, datetime]] = {}
    for artifact, home, asked_at in _all_reads(answers, question):
        if artifact.artifact_id not in newest or asked_at > newest[artifact.artifact_id][2]:
            newest[artifact.artifact_id] = (artifact, home, asked_at)
    return newest


def _all_reads(answers: Answers, question: Question) -> Iterator[tuple[Artifact, Link, datetime]]:
    for ref in sorted(answers.refs):
        if one := answers.refs[ref].positive:
            yield one.artifact, Link(one.collection_ref, one.version, one.aliases, one.collection_tags), one.asked_at
    for served in sorted(question.served):
        kept = answers.artifacts.get(served.artifact_id)
        if kept and (read := kept.positive):
            gone = Link(served.collection, served.version, frozenset(), frozenset())
            yield read.artifact, gone, read.asked_at


def _still_stands(mark: HoldMark, collections: Mapping[CollectionRef, CollectionRead | None], names: HoldNames) -> bool:
    """Whether a latched mark that the artifact itself no longer shows stands in its collection, or may stand there.

    The artifact shows only the places that the credential may see, and no place that it was unlinked from. A mark in a
    place that cannot be asked about stands until its digest is served nowhere, or a person takes it out of the status.
    """
    if mark.via is HoldSource.VERSION_TAG:
        return False
    read = collections.get(mark.home) if mark.home is not None else None
    if read is None:
        return True
    if mark.via is HoldSource.COLLECTION_TAG:
        return mark.name in read.tags and _marks_version(mark.name, mark.version, names)
    return any(carrier.alias == mark.name and carrier.digest == mark.digest for carrier in read.hold_aliases)


def _marks_another(read: CollectionRead | None, digest: str, names: HoldNames) -> bool:
    """Whether the collection has a hold alias that is not on `digest`, or of which it is not known where it is."""
    if read is None:
        return False
    here = {carrier.alias for carrier in read.hold_aliases if carrier.digest == digest}
    return any(is_hold_alias(alias, names.aliases) for alias in read.aliases - here)


def _marks_version(tag: str, version: str, names: HoldNames) -> bool:
    """Whether a collection tag is a hold on `version`: `regulatory-hold` on each, `regulatory-hold v7` on v7."""
    words = tag.split()
    return tag in names.tags or (len(words) > 1 and words[-1] == version and " ".join(words[:-1]) in names.tags)
