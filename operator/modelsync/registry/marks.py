"""The hold marks that any credential sees, by server and digest. No I/O.

A mark belongs to the operator, not to a ModelDeployment: the same bytes may be logged twice, and a mark on one of the
two holds both. So each positive read of any (server, credential) pair is scanned for the administrator's marks, and
each key that watches a digest learns of a mark on it, whichever ModelDeployment's read showed it.

Only the administrator's names count here. With a tenant's own names, a tenant could hold what others serve. A failed
read never takes a mark away, and a mark is shown gone only by a positive read of the place that it is on.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import count
from typing import TypeAlias, TypeVar

from modelsync.api.hold import HoldMark, HoldSource
from modelsync.api.model_ref import CollectionRef, InvalidReferenceError, ModelRef
from modelsync.api.settings import ServerKey, server_key
from modelsync.registry.holds import is_hold_alias, marks_on
from modelsync.registry.model import Artifact, ArtifactRead, CollectionRead, HoldNames, Link, Resolved

Key: TypeAlias = tuple[str, str]
"""Namespace and name of a ModelDeployment."""
Subject: TypeAlias = ModelRef | CollectionRef | str
"""What was read; a string is an artifact's id."""
Read: TypeAlias = Resolved | CollectionRead | ArtifactRead

_Value = TypeVar("_Value")

OUTDATED = timedelta(seconds=60)
"""A read that shows a mark no longer counts when the mark's place was read without it this much later. Without that,
one credential that died while it saw the mark would keep it for ever; a shorter time could believe a replica of the
server that lags behind."""
PENDING = "PENDING"
"""The state of an artifact that is still being logged."""

MAX_REMEMBERED = 64
"""Marks that are remembered, for one digest, after the last read that showed them: whoever may write in W&B can set
and remove marks without end."""


class MarkIndex:
    """The marks seen on all servers, and the keys that watch each digest."""

    def __init__(self, names: HoldNames) -> None:
        self.names = names
        self._servers: dict[ServerKey, _Server] = {}
        self._wanted: dict[Key, frozenset[tuple[str, str]]] = {}
        self._watchers: dict[tuple[ServerKey, str], set[Key]] = {}

    def showings(self, base_url: str) -> "Showings":
        """Where a pair of this server and one credential reports its reads."""
        name = server_key(base_url)
        if name not in self._servers:
            self._servers[name] = _Server(self.names, lambda digest: (name, digest) in self._watchers)
        return Showings(self._servers[name])

    def watch(self, key: Key, wanted: Collection[tuple[str, str]]) -> None:
        """Set the digests, each after its server's base URL, that `key` watches. Repeating it costs nothing."""
        new = frozenset(wanted)
        before = self._wanted.get(key, frozenset())
        if new == before:
            return
        if new:
            self._wanted[key] = new
        else:
            del self._wanted[key]
        places = {(server_key(url), digest) for url, digest in new}
        for place in places:
            self._watchers.setdefault(place, set()).add(key)
        for name, digest in {(server_key(url), digest) for url, digest in before} - places:
            watchers = self._watchers[name, digest]
            watchers.discard(key)
            if not watchers:
                del self._watchers[name, digest]
                if (server := self._servers.get(name)) is not None:
                    server.unwatched(digest)

    def marks(self, base_url: str, digest: str) -> Mapping[HoldMark, datetime]:
        """The marks on `digest`, with when the newest read that shows each of them was asked for."""
        server = self._servers.get(server_key(base_url))
        return server.marks(digest) if server is not None else {}

    def absence(self, base_url: str, mark: HoldMark) -> datetime | None:
        """When the newest read that shows `mark` gone was asked for; None as long as nothing shows that.

        That takes a positive read of the mark's own place, newer than all that showed the mark: the artifact for a tag
        on a version, else the collection, to the ends of its lists. By alias, no version of the collection may have an
        alias of that name, and the carrier of each hold alias must be known.
        """
        server = self._servers.get(server_key(base_url))
        return server.absence(mark) if server is not None else None

    def __len__(self) -> int:
        """How many marks are remembered, whether a read shows them or not."""
        return sum(len(server) for server in self._servers.values())

    def changes(self) -> set[Key]:
        """Who watches a digest that has gained or lost a mark, or on which one has been shown gone, since last time."""
        return {
            key
            for name, server in self._servers.items()
            for digest in server.changes()
            for key in self._watchers.get((name, digest), ())
        }


class Showings:
    """The reads of one (server, credential) pair, as the index sees them."""

    def __init__(self, server: "_Server") -> None:
        self._server = server
        self._pair = next(_PAIRS)

    def replace(self, subject: Subject, before: Read | None, after: Read | None, homes: Iterable[Link] = ()) -> None:
        """`after` takes the place of `before` as what this pair knows of `subject`; None: it knows nothing.

        `homes`: under which names an artifact that was read by its id is served.
        """
        self._server.replace((self._pair, subject), before, after, homes)


_PAIRS = count()
_Shower: TypeAlias = tuple[int, Subject]
"""A pair, and the subject that it read."""


@dataclass(slots=True)
class _Shown:
    """By which reads a mark is shown."""

    by: dict[_Shower, float] = field(default_factory=dict)
    """When each of them was asked for."""
    order: list[tuple[float, datetime]] = field(default_factory=list)
    """The same times, sorted: with many credentials, looking for the newest each time would be quadratic."""
    last: float = float("-inf")
    """When the newest read that ever showed it was asked for."""

    def add(self, shower: _Shower, asked: float, asked_at: datetime) -> None:
        self.by[shower] = asked
        insort(self.order, (asked, asked_at))
        self.last = max(self.last, asked)

    def remove(self, shower: _Shower) -> None:
        asked = self.by.pop(shower)
        del self.order[bisect_left(self.order, asked, key=lambda each: each[0])]


@dataclass(slots=True)
class _Known:
    """The newest positive read of one collection or artifact, by any credential."""

    read: Read
    readers: int = 0
    """Pairs and subjects that know it; without any it is dropped."""
    tagged: frozenset[HoldMark] = frozenset()
    """The marks by version tag that this artifact has shown: it can show them gone, wherever it is linked now."""
    aliases: tuple[frozenset[str], bool] | None = None
    """Of a collection, the names of all aliases in lower case, and whether the carrier of each hold alias is known.
    Found on demand."""


class _Server:
    """The marks and the places of one server."""

    def __init__(self, names: HoldNames, is_watched: Callable[[str], bool]) -> None:
        self._names = names
        self._is_watched = is_watched
        self._shown_by: dict[_Shower, frozenset[HoldMark]] = {}
        self._marks: dict[str, dict[HoldMark, _Shown]] = {}
        """By digest, the marks that at least one read shows."""
        self._awaited: dict[str, dict[HoldMark, float]] = {}
        """By digest, marks that no read shows and none shows gone, and when the last read that showed them was."""
        self._on: dict[CollectionRef, set[HoldMark]] = defaultdict(set)
        """Those of both that are on a collection."""
        self._collections: dict[CollectionRef, _Known] = {}
        self._artifacts: dict[str, dict[str, _Known]] = {}
        """By digest and id: the same bytes may be logged more than once."""
        self._reported: dict[str, frozenset[HoldMark]] = {}
        self._touched: set[str] = set()
        self._gone: set[str] = set()

    def __len__(self) -> int:
        return sum(len(marks) for table in (self._marks, self._awaited) for marks in table.values())

    # --- what is read ---

    def replace(self, shower: _Shower, before: Read | None, after: Read | None, homes: Iterable[Link]) -> None:
        if after is not None:
            self._know(after)
        if before is not None:
            self._unknow(before)
        self._show(shower, before, after, homes)
        if after is not None:
            self._review(after)

    def unwatched(self, digest: str) -> None:
        """Nobody watches `digest` any more."""
        for mark in self._awaited.pop(digest, ()):
            self._take_off(mark)

    def _know(self, read: Read) -> None:
        if isinstance(read, CollectionRead):
            known = self._collections.setdefault(read.collection, _Known(read))
        else:
            artifacts = self._artifacts.setdefault(read.artifact.digest, {})
            known = artifacts.setdefault(read.artifact.artifact_id, _Known(read))
        known.readers += 1
        if read.asked >= known.read.asked:
            known.read, known.aliases = read, None

    def _unknow(self, read: Read) -> None:
        if isinstance(read, CollectionRead):
            known = self._collections[read.collection]
            known.readers -= 1
            if not known.readers:
                del self._collections[read.collection]
            return
        artifacts = self._artifacts[read.artifact.digest]
        known = artifacts[read.artifact.artifact_id]
        known.readers -= 1
        if not known.readers:
            del artifacts[read.artifact.artifact_id]
            if not artifacts:
                del self._artifacts[read.artifact.digest]

    def _show(self, shower: _Shower, before: Read | None, after: Read | None, homes: Iterable[Link]) -> None:
        shown = self._shown_by.get(shower, frozenset())
        if not shown and isinstance(after, Resolved) and after == before:
            return  # the usual case: nothing has changed, and there is no mark
        now = _marks_of(after, homes, self._names) if after is not None else frozenset()
        if after is not None and now:
            self._shown_by[shower] = now
        else:
            self._shown_by.pop(shower, None)
            if not shown:
                return
        for mark in shown:
            self._marks[mark.digest][mark].remove(shower)
        if after is not None:
            for mark in now:
                self._add(mark, shower, after)
        for mark in shown - now:
            self._touched.add(mark.digest)
            if not self._marks[mark.digest][mark].by:
                self._no_longer_shown(mark)

    def _add(self, mark: HoldMark, shower: _Shower, read: Read) -> None:
        shown = self._marks.setdefault(mark.digest, {}).setdefault(mark, _Shown())
        shown.add(shower, read.asked, read.asked_at)
        if mark not in self._reported.get(mark.digest, ()):
            self._touched.add(mark.digest)
        self._drop(self._awaited, mark)
        if mark.via is HoldSource.VERSION_TAG and not isinstance(read, CollectionRead):
            known = self._artifacts[mark.digest][read.artifact.artifact_id]
            if mark not in known.tagged and len(known.tagged) < MAX_REMEMBERED:
                known.tagged |= {mark}
        else:
            self._put_on(mark)

    def _no_longer_shown(self, mark: HoldMark) -> None:
        last = self._marks[mark.digest][mark].last
        self._drop(self._marks, mark)
        read = self._read_without(mark)
        if read is not None and read.asked > last:
            self._gone.add(mark.digest)
            self._take_off(mark)
        elif self._is_watched(mark.digest):
            self._await(mark, last)
        else:
            self._take_off(mark)

    def _await(self, mark: HoldMark, last: float) -> None:
        """Remember `mark` until a read shows it gone: the keys that saw it must learn of that."""
        awaited = self._awaited.setdefault(mark.digest, {})
        awaited[mark] = last
        self._put_on(mark)
        if len(awaited) > MAX_REMEMBERED:
            oldest = next(iter(awaited))
            del awaited[oldest]
            self._take_off(oldest)

    def _review(self, read: Read) -> None:
        """See whether `read` shows marks gone that other reads show, or that are waited for."""
        if isinstance(read, CollectionRead):
            shows = {HoldSource.COLLECTION_TAG: read.tags, HoldSource.ALIAS: read.aliases}
            concerned = tuple(self._on.get(read.collection, ()))
        else:
            digest, shows = read.artifact.digest, {HoldSource.VERSION_TAG: read.artifact.tags}
            concerned = (*self._marks.get(digest, ()), *self._awaited.get(digest, ()))
        for mark in concerned:
            if mark.via not in shows or mark.name in shows[mark.via]:
                continue
            if mark in self._marks.get(mark.digest, ()):
                self._touched.add(mark.digest)
            elif self.absence(mark) is not None:
                self._gone.add(mark.digest)
                self._drop(self._awaited, mark)
                self._take_off(mark)

    def _put_on(self, mark: HoldMark) -> None:
        if mark.via is not HoldSource.VERSION_TAG and (home := _home(mark.collection)) is not None:
            self._on[home].add(mark)

    def _take_off(self, mark: HoldMark) -> None:
        home = _home(mark.collection)
        if home in self._on:
            self._on[home].discard(mark)
            if not self._on[home]:
                del self._on[home]

    @staticmethod
    def _drop(table: dict[str, dict[HoldMark, _Value]], mark: HoldMark) -> None:
        marks = table.get(mark.digest)
        if marks is not None and marks.pop(mark, None) is not None and not marks:
            del table[mark.digest]

    # --- what is known ---

    def marks(self, digest: str) -> Mapping[HoldMark, datetime]:
        return {
            mark: shown.order[-1][1]
            for mark, shown in self._marks.get(digest, {}).items()
            if not self._is_outdated(mark, shown)
        }

    def absence(self, mark: HoldMark) -> datetime | None:
        shown = self._marks.get(mark.digest, {}).get(mark)
        if shown is not None and not self._is_outdated(mark, shown):
            return None
        last = shown.last if shown is not None else self._awaited.get(mark.digest, {}).get(mark)
        read = self._read_without(mark)
        if read is not None and (last is None or read.asked > last):
            return read.asked_at
        if last is None and self._is_watched(mark.digest):
            self._await(mark, float("-inf"))  # it was seen before this process started, or before it was watched
        return None

    def changes(self) -> set[str]:
        """The digests whose marks have changed since the last call."""
        changed, self._gone = self._gone, set()
        touched, self._touched = self._touched, set()
        for digest in touched:
            marks = frozenset(self.marks(digest))
            if marks != self._reported.get(digest, frozenset()):
                changed.add(digest)
                if marks:
                    self._reported[digest] = marks
                else:
                    del self._reported[digest]
        return changed

    def _is_outdated(self, mark: HoldMark, shown: _Shown) -> bool:
        """Whether the mark's place was read without it long after the newest read that shows it."""
        read = self._read_without(mark)
        return read is not None and read.asked >= shown.last + OUTDATED.total_seconds()

    def _read_without(self, mark: HoldMark) -> Read | None:
        """The newest read of the mark's place, if that does not show it."""
        if mark.via is HoldSource.VERSION_TAG:
            known = [
                each.read
                for each in self._artifacts.get(mark.digest, {}).values()
                if mark in each.tagged or _is_at(each.read, mark)
            ]
            if any(_has_tag(read, mark.name) for read in known):
                return None  # one of several artifacts with these bytes
            return max(known, key=lambda read: read.asked, default=None)
        place = self._collections.get(home) if (home := _home(mark.collection)) is not None else None
        if place is None or not isinstance(read := place.read, CollectionRead) or not read.whole:
            return None
        if mark.via is HoldSource.COLLECTION_TAG:
            return read if mark.name not in read.tags else None
        if mark.name in read.aliases:
            return None
        if place.aliases is None:
            place.aliases = self._aliases(read)
        names, all_known = place.aliases
        return read if all_known and mark.name.lower() not in names else None

    def _aliases(self, read: CollectionRead) -> tuple[frozenset[str], bool]:
        carried = {carrier.alias for carrier in read.hold_aliases}
        all_known = not any(is_hold_alias(alias, self._names.aliases) for alias in read.aliases - carried)
        return frozenset(alias.lower() for alias in read.aliases), all_known


def _marks_of(read: Read, homes: Iterable[Link], names: HoldNames) -> frozenset[HoldMark]:
    if not isinstance(read, CollectionRead) and read.artifact.state == PENDING:
        return frozenset()  # its digest is what its author says: no server has seen the bytes yet
    match read:
        case Resolved():
            home = Link(read.collection_ref, read.version, read.aliases, read.collection_tags)
            return marks_on(read.artifact, home, names)
        case ArtifactRead():
            return frozenset().union(*(marks_on(read.artifact, home, names) for home in homes))
        case CollectionRead():
            return frozenset(
                HoldMark(carrier.digest, str(read.collection), carrier.version, HoldSource.ALIAS, carrier.alias)
                for carrier in read.hold_aliases
                if is_hold_alias(carrier.alias, names.aliases)
            )


@lru_cache(maxsize=4096)
def _home(collection: str) -> CollectionRef | None:
    """The collection of a mark. Parsed once, because it is needed for each read of what is marked."""
    try:
        return CollectionRef.parse(collection)
    except InvalidReferenceError:
        return None


def _is_at(read: Read, mark: HoldMark) -> bool:
    """Whether `read` is of the artifact that the server shows at the mark's place."""
    if isinstance(read, CollectionRead):
        return False
    artifact: Artifact = read.artifact
    places: set[tuple[CollectionRef | None, str | None]] = {(artifact.source, artifact.source_version)}
    places |= {(link.collection, link.version) for link in artifact.links}
    if isinstance(read, Resolved):
        places |= {(read.collection_ref, read.version), (read.ref.in_collection, read.version)}
    return (_home(mark.collection), mark.version) in places


def _has_tag(read: Read, tag: str) -> bool:
    return not isinstance(read, CollectionRead) and tag in read.artifact.tags
