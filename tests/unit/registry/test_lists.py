"""Following a server's pages ends, whatever the server says, and what was not read to its end is not whole."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from modelsync.registry.errors import GraphQLError, UnreachableError
from modelsync.registry.exchange import NoReply, Reply
from modelsync.registry.lists import MAX_PAGES, MAX_TIME, Lists
from modelsync.registry.query import LINKS_FIRST, TAGS_FIRST, CollectionPage, LinksPage, TagsPage, Unit
from modelsync.registry.wire import Cut, Rest
from unit.registry.facts import CHAT, SOURCE, T0, artifact, collection, link

LINKS = Cut(links={"artifact-7": Rest("c0")})


def reply(value: Any, *errors: GraphQLError) -> Reply:
    return Reply(value, errors, False, 200, T0, T0)


def page(cursor: str | None, *tags: str, errors: Iterable[GraphQLError] = ()) -> Reply:
    """A page of tags of CHAT or of links of an artifact; `cursor` leads to the next one."""
    info = {"hasNextPage": cursor is not None, "endCursor": cursor}
    home = {
        "__typename": "ArtifactPortfolio",
        "name": CHAT.collection,
        "project": {"name": CHAT.project, "entity": {"name": CHAT.entity}},
        "tags": {"pageInfo": {"hasNextPage": False}, "edges": []},
    }
    membership = {"versionIndex": len(cursor or ""), "aliases": [], "artifactCollection": home}
    value = {
        **home,
        "tags": {"pageInfo": info, "edges": [{"node": {"name": tag}} for tag in tags]},
        "aliases": {"pageInfo": info, "edges": [{"node": {"alias": tag}} for tag in tags]},
        "artifactMemberships": {"pageInfo": info, "edges": [{"node": membership}]},
    }
    return reply(value, *errors)


class Server:
    """Answers with the given pages in turn, the last one for ever."""

    def __init__(self, *pages: Reply | NoReply) -> None:
        self._pages = iter(pages)
        self._last = pages[-1]
        self.asked: list[Unit] = []

    async def ask(self, units: Iterable[Unit]) -> Mapping[Unit, Reply | NoReply]:
        asked = list(units)
        self.asked += asked
        return {unit: next(self._pages, self._last) for unit in asked}


async def test_each_page_is_asked_for_once_and_all_of_them_count() -> None:
    server = Server(page("c2", "a"), page(None, "b"))
    lists = Lists(server.ask, without=())
    lists.note(Cut(tags={CHAT: Rest("c1")}))
    lists.note(Cut(tags={CHAT: Rest("other")}))
    await lists.follow()
    await lists.follow()
    assert server.asked == [TagsPage(CHAT, "c1"), TagsPage(CHAT, "c2")]
    read = lists.collection(collection(tags=("first",)), CHAT)
    assert read.tags == {"first", "a", "b"}
    assert read.whole


async def test_tags_of_further_pages_count_for_each_link_to_the_collection() -> None:
    lists = Lists(Server(page(None, "regulatory-hold")).ask, without=())
    lists.note(Cut(tags={CHAT: Rest("c1")}))
    await lists.follow()
    completed = lists.artifact(artifact(7, links=[link(CHAT, "v3"), link(SOURCE, "v7")]))
    assert [each.collection_tags for each in completed.links] == [frozenset(), {"regulatory-hold"}]
    assert completed.whole


@pytest.mark.parametrize(
    "pages",
    [
        [NoReply(UnreachableError("timeout"), T0, T0)],
        [reply(None)],
        [reply({"artifactMemberships": 7})],
        [page("c1"), page("c1")],
        [page("")],
        [page(None, errors=[GraphQLError("timeout")])],
    ],
    ids=["no reply", "null", "odd", "the same cursor again", "no cursor", "an error beside it"],
)
async def test_a_list_that_breaks_off_is_not_whole(pages: list[Reply | NoReply]) -> None:
    server = Server(*pages)
    lists = Lists(server.ask, without=())
    lists.note(LINKS)
    await lists.follow()
    assert not lists.artifact(artifact(7)).whole
    assert lists.artifact(artifact(8)).whole
    assert len(server.asked) == len(pages)


async def test_what_this_key_may_not_see_breaks_no_list_off() -> None:
    lists = Lists(Server(page(None, errors=[GraphQLError("permission denied")])).ask, without=())
    lists.note(LINKS)
    await lists.follow()
    assert lists.artifact(artifact(7)).whole


async def test_a_server_that_never_comes_to_an_end_is_left_after_some_pages() -> None:
    server = Server(*(page(f"c{number}", f"tag-{number}") for number in range(1, 10 * MAX_PAGES)))
    lists = Lists(server.ask, without=())
    lists.note_collection(CHAT, page("c0"))
    await lists.follow()
    aliases = [unit for unit in server.asked if isinstance(unit, CollectionPage)]
    assert len(aliases) == MAX_PAGES
    read = lists.collection(collection(), CHAT)
    assert not read.whole
    assert len(read.aliases) == MAX_PAGES, "what was read counts"


async def test_a_slow_server_is_left_after_some_time() -> None:
    times: Iterator[float] = iter([0.0, 0.0, MAX_TIME.total_seconds() + 1])
    server = Server(page("c1"), page(None))
    lists = Lists(server.ask, without=(), clock=lambda: next(times))
    lists.note(LINKS)
    await lists.follow()
    assert server.asked == [LinksPage("artifact-7", "c0")]
    assert not lists.artifact(artifact(7)).whole


async def test_a_server_without_the_arguments_is_not_asked_for_a_further_page() -> None:
    server = Server(page(None))
    lists = Lists(server.ask, without={LINKS_FIRST, TAGS_FIRST})
    lists.note(Cut(links=LINKS.links, tags={CHAT: Rest("c0")}))
    await lists.follow()
    assert server.asked == []
    assert not lists.artifact(artifact(7)).whole
    assert not lists.collection(collection(), CHAT).whole
