"""Reads lists that a server cuts into pages to their ends: a hold may be on the last page.

A list that was not read to its end (a page failed, the server gives no cursor or the same one twice, or the list is too
long) is not whole: what was read of it counts, and what it does not show proves nothing. Bounded in pages and in time,
because whoever may link or tag can make a list long, and the other answers of the same read wait for it.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Generic, TypeAlias, TypeVar

from modelsync.api.model_ref import CollectionRef
from modelsync.registry.exchange import NoReply, Reply
from modelsync.registry.model import Artifact, CollectionRead, Link, Resolved
from modelsync.registry.outcomes import is_partial
from modelsync.registry.query import LINKS_FIRST, TAGS_FIRST, CollectionPage, LinksPage, TagsPage, Unit
from modelsync.registry.wire import Cut, Page, UnexpectedShapeError, aliases_page, in_order, links_page, tags_page

MAX_PAGES = 100
"""Pages of one list after its first: a server that always reports a next page must not block the rest."""
MAX_TIME = timedelta(seconds=20)
"""How long one read asks for further pages."""

Ask: TypeAlias = Callable[[Iterable[Unit]], Awaitable[Mapping[Unit, Reply | NoReply]]]

_Item = TypeVar("_Item")
_Subject = TypeVar("_Subject")


@dataclass(slots=True)
class _Tail(Generic[_Item]):
    """What follows the first page of a list."""

    next: TagsPage | LinksPage | CollectionPage | None
    """The page to ask for; None if there is none, or it cannot be asked for."""
    items: set[_Item] = field(default_factory=set)
    whole: bool = False
    """The end was reached."""
    cursors: set[str | None] = field(default_factory=set)
    """Of the pages that were asked for."""

    def add(self, page: Page[_Item], *, partial: bool) -> None:
        """Add the page that was asked for. `partial`: an error of the server may have left something out."""
        if self.next is None:
            return
        self.cursors.add(self.next.after)
        self.items |= page.items
        self.whole = page.rest is None and not partial
        after = page.rest.after if page.rest is not None and not partial else None
        goes_on = after not in self.cursors and len(self.cursors) < MAX_PAGES
        self.next = replace(self.next, after=after) if after is not None and goes_on else None


class Lists:
    """The lists of one read: `note` those that are cut, `follow` them, then complete the answers by what they hold."""

    def __init__(self, ask: Ask, *, without: Collection[str], clock: Callable[[], float] = time.monotonic) -> None:
        """`without`: what the server does not have, as for `query.document`; it may grow."""
        self._ask = ask
        self._without = without
        self._clock = clock
        self._until: float | None = None
        self._tags: dict[CollectionRef, _Tail[str]] = {}
        self._links: dict[str, _Tail[Link]] = {}
        self._aliases: dict[CollectionRef, _Tail[str]] = {}
        self._partial: set[str] = set()

    def note(self, cut: Cut) -> None:
        """Add lists that are not whole, unless they are known already."""
        for artifact_id, rest in cut.links.items():
            here = rest.after is not None and LINKS_FIRST not in self._without
            self._links.setdefault(artifact_id, _Tail(LinksPage(artifact_id, rest.after or "") if here else None))
        for home, rest in cut.tags.items():
            here = rest.after is not None and TAGS_FIRST not in self._without
            self._tags.setdefault(home, _Tail(TagsPage(home, rest.after or "") if here else None))

    def note_partial(self, artifact_id: str) -> None:
        """An error of the server may have left out something of this artifact."""
        self._partial.add(artifact_id)

    def note_collection(self, home: CollectionRef, reply: Reply | NoReply) -> None:
        """Add the lists of a collection's first page that are not whole. `home` is its name in the query."""
        try:
            page = aliases_page(_value(reply))
        except UnexpectedShapeError:
            return
        if page.rest is not None:
            self._aliases[home] = _Tail(CollectionPage(home, page.rest.after) if page.rest.after else None)
        if page.tags_rest is not None:
            self.note(Cut(tags={home: page.tags_rest}))

    async def follow(self) -> None:
        """Read all noted lists to their ends, as far as that is possible."""
        if self._until is None:
            self._until = self._clock() + MAX_TIME.total_seconds()
        while (asked := self._next_pages()) and self._clock() < self._until:
            replies = await self._ask(asked)
            for unit, tail in asked.items():
                try:
                    page = _page(unit, replies[unit])
                except UnexpectedShapeError:  # what follows is not known
                    tail.next = None
                    continue
                tail.add(page, partial=is_partial(replies[unit]))
                self.note(Cut(tags=page.cut_tags))

    def resolved(self, resolved: Resolved) -> Resolved:
        """Complete an answer by what further pages contain."""
        home, artifact = resolved.collection_ref, self.artifact(resolved.artifact)
        tags = resolved.collection_tags | _items(self._tags, home)
        whole = artifact.whole and _is_whole(self._tags, home)
        return replace(resolved, collection_tags=tags, artifact=replace(artifact, whole=whole))

    def artifact(self, artifact: Artifact) -> Artifact:
        """Complete an artifact by what further pages contain."""
        name = artifact.artifact_id
        links = in_order(
            replace(link, collection_tags=link.collection_tags | _items(self._tags, link.collection))
            for link in (*artifact.links, *_items(self._links, name))
        )
        tags_whole = all(_is_whole(self._tags, link.collection) for link in links)
        whole = tags_whole and _is_whole(self._links, name) and name not in self._partial
        return replace(artifact, links=links, whole=whole)

    def collection(self, read: CollectionRead, home: CollectionRef) -> CollectionRead:
        """Complete a collection by what further pages contain. `home` is its name in the query."""
        return replace(
            read,
            tags=read.tags | _items(self._tags, home),
            aliases=read.aliases | _items(self._aliases, home),
            whole=read.whole and _is_whole(self._tags, home) and _is_whole(self._aliases, home),
        )

    def _next_pages(self) -> dict[Unit, _Tail[Any]]:
        tails: list[_Tail[Any]] = [*self._tags.values(), *self._links.values(), *self._aliases.values()]
        return {tail.next: tail for tail in tails if tail.next is not None}


def _items(tails: Mapping[_Subject, _Tail[_Item]], subject: _Subject) -> frozenset[_Item]:
    return frozenset(tails[subject].items) if subject in tails else frozenset()


def _is_whole(tails: Mapping[_Subject, _Tail[_Item]], subject: _Subject) -> bool:
    return subject not in tails or tails[subject].whole


def _page(unit: Unit, reply: Reply | NoReply) -> Page[Any]:
    """Raises UnexpectedShapeError, also if there is no reply."""
    if isinstance(unit, TagsPage):
        return tags_page(_value(reply))
    if isinstance(unit, LinksPage):
        return links_page(_value(reply))
    page = aliases_page(_value(reply))
    return Page(page.aliases, page.rest)


def _value(reply: Reply | NoReply) -> Any:
    return reply.value if isinstance(reply, Reply) else None
