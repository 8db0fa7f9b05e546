"""A port of the operator: any pod may connect, and none may keep the kubelet or Prometheus out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from aiohttp import web

from modelsync.controller import listen as listening
from modelsync.controller.listen import listen

OTHER = "127.0.0.2"
"""Another address of this machine, as that of another pod."""


class Client:
    """One connection, spoken byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, text: str) -> None:
        self._writer.write(text.encode())
        await self._writer.drain()

    async def status(self, request: str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n") -> int:
        """Send a request, and read the whole answer."""
        await self.send(request)
        async with asyncio.timeout(10):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            length = next(line for line in head.split("\r\n") if line.lower().startswith("content-length:"))
            await self._reader.readexactly(int(length.partition(":")[2]))
        return int(head.split()[1])

    async def until_closed(self) -> None:
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(10):
                while await self._reader.read(1000):
                    pass

    def close(self) -> None:
        self._writer.close()


class Port:
    """A port that answers `GET /`, and its clients."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.clients: list[Client] = []

    async def connect(self, source: str = "127.0.0.1") -> Client:
        pair = await asyncio.open_connection("127.0.0.1", self._number, local_addr=(source, 0))
        self.clients.append(Client(*pair))
        return self.clients[-1]


@asynccontextmanager
async def served(keepalive: float = 60.0, *, most: int = 100, most_of_one: int = 100) -> AsyncIterator[Port]:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/", answer)
    pause = timedelta(seconds=keepalive)
    async with listen(app, host="127.0.0.1", port=0, keepalive=pause, most=most, most_of_one=most_of_one) as number:
        port = Port(number)
        yield port
        for client in port.clients:
            client.close()


@pytest.mark.parametrize("sent", ["", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_connection_that_sends_no_whole_head_is_closed(sent: str) -> None:
    async with served(keepalive=0.05) as port:
        client = await port.connect()
        await client.send(sent)
        await client.until_closed()


async def test_a_connection_that_was_used_is_closed_when_it_is_idle() -> None:
    async with served(keepalive=0.05) as port:
        client = await port.connect()
        assert await client.status() == 200
        await client.until_closed()


def test_a_scrape_a_minute_finds_its_connection_open_and_an_idle_one_does_not_stay_for_long() -> None:
    assert timedelta(minutes=1) < listening.KEEPALIVE <= timedelta(seconds=75)


async def test_a_body_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "LINGER", timedelta(seconds=0.05))
    async with served() as port:
        client = await port.connect()
        await client.send("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx")
        await client.until_closed()


@pytest.mark.parametrize(
    "headers",
    ["".join(f"X-{number}: x\r\n" for number in range(80)), f"X-Long: {'x' * 5000}\r\n"],
    ids=["many", "long"],
)
async def test_a_head_beyond_the_limits_is_refused(headers: str) -> None:
    async with served() as port:
        assert await (await port.connect()).status(f"GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n") == 400


async def test_of_too_many_connections_from_one_address_the_one_silent_for_longest_is_closed() -> None:
    async with served(most_of_one=2) as port:
        other = await port.connect(OTHER)
        first, second = await port.connect(), await port.connect()
        assert await second.status() == 200
        assert await first.status() == 200
        third = await port.connect()
        await second.until_closed()
        for client in (first, third, other):
            assert await client.status() == 200


async def test_when_the_port_is_full_the_address_with_the_most_connections_gives_one_up() -> None:
    async with served(most=4) as port:
        probe = await port.connect(OTHER)
        assert await probe.status() == 200
        flood = [await port.connect() for _ in range(3)]
        assert await flood[0].status() == 200
        second = await port.connect(OTHER)
        assert await second.status() == 200
        await flood[1].until_closed()
        assert await probe.status() == 200


async def test_a_connection_that_ended_makes_room() -> None:
    async with served(most_of_one=1) as port:
        for _ in range(3):
            client = await port.connect()
            assert await client.status("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") == 200
            await client.until_closed()
        assert await (await port.connect()).status() == 200
