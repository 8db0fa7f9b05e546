"""The client reports lost requests correctly, whatever a server does on the wire."""

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest
from h2.errors import ErrorCodes

from traffic import Outcome, Traffic, Way
from traffic import http1 as over_http1
from traffic import http2 as over_http2
from traffic.answer import Answer
from traffic.reading import Reading
from unit.traffic.servers import (
    DONE,
    GOOD_STREAM,
    REVISION,
    Http2Server,
    chunk,
    chunked,
    head,
    http1,
    http2,
    reset,
    whole,
)

PATIENCE = 600.0
"""Timeout in seconds for what never happens; far above the delays of a busy machine, so that they do not matter."""


@pytest.fixture(autouse=True)
def patient_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (over_http1, over_http2):
        monkeypatch.setattr(each, "CONNECT_SECONDS", PATIENCE)


def client(url: str, way: Way, *, rate: float = 50, timeout_seconds: float = PATIENCE, **options: Any) -> Traffic:
    return Traffic(
        url=url, host="chat", rate=rate, stream_share=1.0, ways=[way], timeout_seconds=timeout_seconds, **options
    )


async def answers(url: str, way: Way, count: int = 3, **options: Any) -> Traffic:
    """The first answers of a client, all with a verdict."""
    async with client(url, way, **options) as traffic:
        await traffic.until(lambda t: len([a for a in t.answers if a.outcome]) >= count, timeout=PATIENCE)
    assert all(a.outcome is not None and a.done for a in traffic.answers), "every request has a verdict"
    return traffic


@pytest.fixture(params=[Way.KEPT, Way.NEW], ids=["kept alive", "new connection"])
def way(request: pytest.FixtureRequest) -> Way:
    way: Way = request.param
    return way


async def test_a_good_server_loses_nothing(way: Way) -> None:
    async def good(writer: asyncio.StreamWriter) -> None:
        writer.write(head() + chunked(GOOD_STREAM))

    async with http1(good) as url:
        traffic = await answers(url, way, 20)
    assert not traffic.unserved(), traffic.explain()
    assert traffic.by_revision().total() == len(traffic.answers)


async def test_a_stream_that_is_cut_is_lost(way: Way) -> None:
    async def cut(writer: asyncio.StreamWriter) -> None:
        writer.write(head() + chunked(chunk(), ended=False))
        await writer.drain()
        writer.close()

    async with http1(cut) as url:
        traffic = await answers(url, way)
    assert len(traffic.lost()) == len(traffic.answers)
    assert traffic.answers[0].first_byte is not None


async def test_a_reset_in_mid_stream_is_lost_and_explained(way: Way) -> None:
    async def reset_it(writer: asyncio.StreamWriter) -> None:
        writer.write(head() + chunked(chunk(), ended=False))
        await writer.drain()
        reset(writer)

    async with http1(reset_it) as url:
        traffic = await answers(url, way)
    assert len(traffic.lost()) == len(traffic.answers)
    assert f"stream over {way}" in traffic.explain()
    assert REVISION in traffic.explain()


async def test_a_connection_that_closes_without_an_answer_is_lost(way: Way) -> None:
    async def close(writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with http1(close) as url:
        traffic = await answers(url, way)
    assert len(traffic.lost()) == len(traffic.answers)


async def test_a_body_shorter_than_announced_is_lost() -> None:
    async def short(writer: asyncio.StreamWriter) -> None:
        writer.write(head(length=len(whole()) + 1) + whole())
        await writer.drain()
        writer.close()

    async with (
        http1(short) as url,
        Traffic(url=url, host="chat", rate=100, stream_share=0, ways=[Way.KEPT]) as traffic,
    ):
        await traffic.until(lambda t: len(t.lost()) >= 3, timeout=PATIENCE)
    assert len(traffic.lost()) == len(traffic.answers)


async def test_a_refused_connection_is_lost() -> None:
    async with http1(lambda writer: asyncio.sleep(0)) as url:
        pass
    for way in Way:
        traffic = await answers(url, way)
        assert len(traffic.lost()) == len(traffic.answers)


async def test_a_server_that_never_ends_an_answer_is_lost_after_the_time_limit(way: Way) -> None:
    async def hang(writer: asyncio.StreamWriter) -> None:
        writer.write(head())
        await writer.drain()
        await asyncio.Event().wait()

    async with http1(hang) as url:
        traffic = await answers(url, way, 1, timeout_seconds=0.3)
    assert "no end within 0.3 s" in traffic.answers[0].detail


async def test_a_connection_that_dies_after_done_has_lost_nothing() -> None:
    async def late(writer: asyncio.StreamWriter) -> None:
        writer.write(head() + chunked(GOOD_STREAM, ended=False))
        await writer.drain()
        reset(writer)

    async with http1(late) as url:
        traffic = await answers(url, Way.NEW)
    assert not traffic.lost(), traffic.explain()


async def test_a_502_and_a_503_are_distinguished() -> None:
    statuses = iter([502, 503] * 1000)

    async def fail(writer: asyncio.StreamWriter) -> None:
        writer.write(head(next(statuses), length=0, revision=None))

    async with http1(fail) as url:
        traffic = await answers(url, Way.KEPT, 10)
    assert {a.outcome: a.status for a in traffic.answers} == {Outcome.LOST: 502, Outcome.BLOCKED: 503}
    assert len(traffic.unserved()) == len(traffic.answers)


# -- HTTP/2


async def test_a_good_server_loses_nothing_over_http2() -> None:
    async def good(peer: Http2Server) -> None:
        await peer.answer(peer.requests[-1])

    async with http2(good) as url:
        traffic = await answers(url, Way.HTTP2, 50)
    assert not traffic.unserved(), traffic.explain()
    assert {a.way for a in traffic.answers} == {Way.HTTP2}


async def test_a_long_answer_passes_the_flow_control_window() -> None:
    async def long(peer: Http2Server) -> None:
        stream = peer.requests[-1]
        await peer.answer(stream, b"", ended=False)
        part = chunk("x" * 10_000)
        for _ in range(120):
            while peer.h2.local_flow_control_window(stream) < len(part):
                await peer.listen()
            await peer.more(stream, part, ended=False)
        await peer.more(stream, chunk("", "stop") + DONE)

    async with http2(long) as url:
        traffic = await answers(url, Way.HTTP2, 1, rate=0.2)
    assert not traffic.lost(), traffic.explain()


async def test_answers_under_way_when_a_goaway_comes_end_well_and_the_next_go_elsewhere() -> None:
    async def leave(peer: Http2Server) -> None:
        stream = peer.requests[-1]
        if len(peer.requests) < 3:
            await peer.answer(stream)
            return
        await peer.answer(stream, chunk(), ended=False)
        await peer.goaway(stream)
        await peer.more(stream, chunk("", "stop") + DONE)

    async with http2(leave) as url:
        traffic = await answers(url, Way.HTTP2, 12)
    assert not traffic.unserved(), traffic.explain()


async def test_a_request_not_covered_by_a_goaway_is_resent_and_not_lost() -> None:
    async def refuse_from_the_second_on(peer: Http2Server) -> None:
        if peer.number <= 2:
            if len(peer.requests) == 2:
                await peer.goaway(peer.requests[0])
                await peer.answer(peer.requests[0])
            return
        await peer.answer(peer.requests[-1])

    async with http2(refuse_from_the_second_on) as url:
        traffic = await answers(url, Way.HTTP2, 20)
    assert not traffic.unserved(), traffic.explain()
    assert sum(a.retries for a in traffic.answers) >= 2


async def test_a_request_covered_by_a_goaway_but_dropped_is_lost() -> None:
    async def promise_and_close(peer: Http2Server) -> None:
        await peer.answer(peer.requests[-1], chunk(), ended=False)
        await peer.goaway(peer.requests[-1])
        peer.writer.close()

    async with http2(promise_and_close) as url:
        traffic = await answers(url, Way.HTTP2, 6)
    assert len(traffic.lost()) == len(traffic.answers)


async def test_a_connection_that_ends_while_another_is_opened_gets_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = []

    async def good(peer: Http2Server) -> None:
        peers.append(peer)
        await peer.answer(peer.requests[-1])

    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def while_the_first_ends(*arguments: Any, **options: Any) -> Any:
        if peers:
            await peers[0].goaway(peers[0].requests[-1])
            while not peers[0].reader.at_eof():  # noqa: ASYNC110  nothing else shows that the client closed it
                await asyncio.sleep(0)
        return await connect(*arguments, **options)

    monkeypatch.setattr(loop, "create_connection", while_the_first_ends)
    read = [Answer(stream=True, sent=0.0, way=Way.HTTP2, late=0.0) for _ in range(2)]
    async with http2(good) as url, over_http2.Http2(f"{url}/chat/completions") as asker, asyncio.timeout(60):
        for answer in read:
            assert await asker.ask(b"{}", {"host": "chat"}, Reading(answer)) == 0
    assert [answer.outcome for answer in read] == [Outcome.OK, Outcome.OK]
    assert [peer.number for peer in peers] == [1, 2]


async def test_a_stream_that_is_reset_is_lost_alone() -> None:
    async def reset_every_second(peer: Http2Server) -> None:
        stream = peer.requests[-1]
        if len(peer.requests) % 2:
            await peer.answer(stream)
        else:
            await peer.answer(stream, chunk(), ended=False)
            await peer.reset(stream)

    async with http2(reset_every_second) as url:
        traffic = await answers(url, Way.HTTP2, 20)
    assert {a.outcome for a in traffic.answers} == {Outcome.OK, Outcome.LOST}
    assert {a.detail for a in traffic.lost()} == {"RST_STREAM INTERNAL_ERROR"}


async def test_a_refused_stream_is_resent_and_one_that_is_always_refused_is_lost() -> None:
    async def refuse_first(peer: Http2Server) -> None:
        stream = peer.requests[-1]
        if len(peer.requests) == 1:
            await peer.reset(stream, ErrorCodes.REFUSED_STREAM)
        else:
            await peer.answer(stream)

    async def refuse(peer: Http2Server) -> None:
        await peer.reset(peer.requests[-1], ErrorCodes.REFUSED_STREAM)

    async with http2(refuse_first) as url:
        traffic = await answers(url, Way.HTTP2, 20)
    assert not traffic.unserved(), traffic.explain()
    assert any(a.retries for a in traffic.answers)
    async with http2(refuse) as url:
        traffic = await answers(url, Way.HTTP2, 3)
    assert len(traffic.lost()) == len(traffic.answers)


async def test_a_refusal_in_mid_answer_is_a_loss() -> None:
    async def refuse_late(peer: Http2Server) -> None:
        await peer.answer(peer.requests[-1], chunk(), ended=False)
        await peer.reset(peer.requests[-1], ErrorCodes.REFUSED_STREAM)

    async with http2(refuse_late) as url:
        traffic = await answers(url, Way.HTTP2, 3)
    assert len(traffic.lost()) == len(traffic.answers)
    assert not any(a.retries for a in traffic.answers), "it had been started"


async def test_a_server_that_speaks_no_http2_is_lost_with_the_reason() -> None:
    async with http1(lambda writer: asyncio.sleep(0)) as url:
        traffic = await answers(url, Way.HTTP2, 1, timeout_seconds=5)
    assert len(traffic.lost()) == len(traffic.answers)


async def test_an_answer_over_http2_without_done_is_lost() -> None:
    async def half(peer: Http2Server) -> None:
        await peer.answer(peer.requests[-1], chunk("", "stop"))

    async with http2(half) as url:
        traffic = await answers(url, Way.HTTP2, 3)
    assert {a.detail for a in traffic.answers} == {"the stream ended without [DONE]"}


async def test_the_rate_is_kept_and_every_way_gets_its_part_of_the_streams() -> None:
    async def good(writer: asyncio.StreamWriter) -> None:
        writer.write(head() + chunked(GOOD_STREAM))

    async with http1(good) as url, Traffic(url=url, host="chat", rate=200, ways=[Way.NEW, Way.KEPT]) as traffic:
        started = time.monotonic()
        await traffic.until(lambda t: len(t.answers) >= 200, timeout=PATIENCE)
        took = time.monotonic() - started
    first = traffic.answers[:200]
    # However late a busy machine sends a request, the following ones are due relative to the first: it catches up.
    due = [answer.sent - answer.late for answer in first]
    assert all(after - before == pytest.approx(1 / 200, abs=1e-6) for before, after in pairwise(due))
    assert took >= 0.9, "no request is sent before it is due"
    assert sum(a.stream for a in first) == 40
    assert {a.way for a in first if a.stream} == {Way.NEW, Way.KEPT}
    assert traffic.since(first[100].sent)[0] is first[100]
