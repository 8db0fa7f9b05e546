"""When the poller reads, measured on an event loop whose clock jumps to the next timer instead of waiting for it."""

import asyncio
import selectors
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from modelsync.api.model_ref import CollectionRef
from modelsync.registry.credential import Credential
from modelsync.registry.graphql import MAX_SILENCE, GraphQL
from modelsync.registry.model import HoldNames, Outcome, Question, Reading, Throttled
from modelsync.registry.poller import HINT_SPACING, Poller, Server, Subscription
from modelsync.registry.store import Store
from unit.registry.facts import CHAT, collection, resolved, unreachable

SERVER = Server("https://wandb.example.com")
PRODUCTION = CHAT.at("production")
A = ("prod", "a")
DAY = timedelta(days=1)
FIRST, MOST = (bound.total_seconds() for bound in HINT_SPACING)


class _Jump(selectors.DefaultSelector):
    """Selects without waiting, and tells how long a wait was asked for."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "the test waits for what never happens"
        self.skipped += max(timeout, 0)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = _Jump()
        super().__init__(self.selector)

    def time(self) -> float:
        return 1000 + self.selector.skipped


def run(scene: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scene()

    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(main())


def now() -> float:
    return asyncio.get_running_loop().time()


class FakeServer:
    """Answers every read after `seconds`, and notes when each of them began, by credential."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, seconds: float = 0.03) -> None:
        self.began: dict[str, list[float]] = defaultdict(list)
        self.seconds = seconds
        self.silent = False
        self.running: dict[str, int] = defaultdict(int)
        self.overlapped = False
        """Whether two looks of one pair ran at the same time."""
        monkeypatch.setattr("modelsync.registry.poller.Resolver", lambda: self)
        self.poller = Poller(lambda _key: None, random_share=lambda: 0.0)

    def subscribe(
        self, key: tuple[str, str] = A, *, identity: str = "alice", interval: timedelta = DAY, alias: str = "production"
    ) -> None:
        async def credential() -> Credential:
            return Credential(identity.ljust(40, "_"))

        question = Question(refs=frozenset({PRODUCTION, CHAT.at(alias)}), hold=HoldNames())
        self.poller.subscribe(key, Subscription(SERVER, identity, credential, question, interval))

    async def read(self, api: GraphQL, questions: Iterable[Question], *, hold_aliases: Iterable[str]) -> Reading:
        identity = api._credential.key.rstrip("_")
        began = now()
        self.began[identity].append(began)
        self.running[identity] += 1
        await asyncio.sleep(self.seconds)
        self.running[identity] -= 1
        self.overlapped |= bool(self.running[identity])
        if self.silent:
            return Reading({PRODUCTION: unreachable(PRODUCTION, asked=began)}, {}, {}, silent=True)
        return Reading({PRODUCTION: resolved(PRODUCTION, 7, asked=began)}, {CHAT: collection(asked=began)}, {})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    return FakeServer(monkeypatch)


@pytest.mark.parametrize("place", [(), ("acme", CHAT.project, CHAT.collection), ("", "", CHAT.collection)])
def test_a_flood_of_webhooks_costs_few_requests_and_none_is_lost(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, place: tuple[str, ...]
) -> None:
    searches = 0
    concerned = Store.concerned

    def count(store: Store, matches: Callable[[CollectionRef], bool]) -> set[tuple[str, str]]:
        nonlocal searches
        searches += 1
        return concerned(store, matches)

    monkeypatch.setattr(Store, "concerned", count)
    pairs, webhooks, seconds = 20, 384, 5.0

    async def scene() -> None:
        async with server.poller:
            for number in range(pairs):
                server.subscribe(("prod", str(number)), identity=f"user-{number}")
            await asyncio.sleep(100)
            server.began.clear()
            first = now()
            for number in range(webhooks):
                await asyncio.sleep(first + number * seconds / webhooks - now())
                server.poller.look_at(*place)
                last = now()
            await asyncio.sleep(100)
        for began in server.began.values():
            assert began[0] == pytest.approx(first, abs=0.1), "the first of a burst is not delayed"
            assert last <= began[-1] <= last + MOST + FIRST + 0.1, "the last webhook has a look that began after it"
        during = sum(each <= last for began in server.began.values() for each in began)
        assert during <= 6 * pairs
        assert sum(map(len, server.began.values())) <= 7 * pairs
        assert not server.overlapped
        assert len(server.began) == pairs
        assert searches <= pairs * (seconds / FIRST + 2)

    run(scene)


def test_strangers_in_a_flood_of_webhooks_do_not_hide_the_one_that_matters(server: FakeServer) -> None:
    async def scene() -> None:
        async with server.poller:
            server.subscribe()
            await asyncio.sleep(60)
            server.began.clear()
            for number in range(5000):
                server.poller.look_at("someone", "else", f"c{number}")
            await asyncio.sleep(10)
            first, second, *_ = server.began["alice"]
            assert second - first <= 2 * FIRST, "of too many only that there were some is remembered"
            server.began.clear()
            server.poller.look_at("someone", "else", "c0")
            server.poller.look_at("acme", CHAT.project, CHAT.collection)
            asked = now()
            await asyncio.sleep(1)
            assert asked <= server.began["alice"][0] <= asked + FIRST

    run(scene)


def test_a_webhook_after_a_quiet_time_is_looked_at_at_once(server: FakeServer) -> None:
    async def scene() -> None:
        async with server.poller:
            server.subscribe()
            for pause in (10.0, FIRST / 2, FIRST / 2, 10.0):
                await asyncio.sleep(pause)
                server.poller.look_at()
                asked = now()
            await asyncio.sleep(1)
            assert server.began["alice"][-1] == asked

            for _ in range(50):
                await asyncio.sleep(0.1)
                server.poller.look_at()
            await asyncio.sleep(10)
            server.poller.look_at()
            await asyncio.sleep(FIRST / 4)
            server.poller.look_at()
            asked = now()
            await asyncio.sleep(5)
            assert asked < server.began["alice"][-1] <= asked + FIRST, "an earlier burst is forgotten"

    run(scene)


def test_webhooks_during_a_look_lead_to_exactly_one_more(server: FakeServer) -> None:
    server.seconds = 5.0

    async def scene() -> None:
        async with server.poller:
            server.subscribe()
            await asyncio.sleep(60)
            server.began.clear()
            server.poller.look_at()
            for _ in range(40):
                await asyncio.sleep(0.1)
                server.poller.look_at()
            await asyncio.sleep(60)
            first, second = server.began["alice"]
            assert second == first + server.seconds
            assert not server.overlapped

    run(scene)


def test_webhooks_do_not_delay_a_look_of_the_planner(server: FakeServer) -> None:
    async def scene() -> None:
        async with server.poller:
            server.subscribe()
            await asyncio.sleep(60)
            for _ in range(5):
                server.poller.look_at()
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.5)
            known = len(server.began["alice"])
            server.poller.look_at()
            await asyncio.sleep(0.01)
            assert len(server.began["alice"]) == known, "webhooks are spaced here"
            server.poller.look(A)
            asked = now()
            await asyncio.sleep(0.01)
            assert server.began["alice"][-1] == asked

    run(scene)


def test_a_webhook_tries_a_silent_server_once_and_the_back_off_goes_on(server: FakeServer) -> None:
    async def scene() -> None:
        async with server.poller:
            server.subscribe(interval=timedelta(seconds=1))
            await asyncio.sleep(10)
            server.silent = True
            await asyncio.sleep(300)
            last = server.began["alice"][-1]
            await asyncio.sleep(last + 10 - now())
            server.began.clear()
            server.poller.look_at()
            tried = now()
            await asyncio.sleep(25)
            assert server.began["alice"] == [tried, pytest.approx(last + 30, abs=0.2)], "as if nobody had tried"
            server.silent = False
            server.poller.look_at()
            await asyncio.sleep(15)
            kept = server.poller.snapshot(A)
            assert kept is not None
            assert kept.refs[PRODUCTION].latest is kept.refs[PRODUCTION].positive

    run(scene)


def test_a_look_for_something_new_does_not_wait_longer_because_a_webhook_was_tried(server: FakeServer) -> None:
    async def scene() -> None:
        async with server.poller:
            server.subscribe()
            await asyncio.sleep(10)
            server.silent = True
            for number in range(8):
                server.subscribe(alias=f"try-{number}")
                await asyncio.sleep(35)
            server.subscribe(alias="last")
            last = now()
            await asyncio.sleep(10)
            server.began.clear()
            server.poller.look_at()
            tried = now()
            await asyncio.sleep(1)
            server.subscribe(alias="new")
            await asyncio.sleep(100)
            assert server.began["alice"] == [tried, pytest.approx(last + 30, abs=0.2)]

    run(scene)


def test_a_flood_of_webhooks_does_not_end_a_back_off(server: FakeServer) -> None:
    async def scene() -> None:
        async with server.poller:
            server.subscribe(interval=timedelta(seconds=1))
            server.silent = True
            await asyncio.sleep(300)
            server.began.clear()
            for _ in range(600):
                await asyncio.sleep(0.1)
                server.poller.look_at()
            assert len(server.began["alice"]) <= 60 / MOST + 6

    run(scene)


def test_a_server_that_asks_to_wait_for_an_hour_is_asked_for_holds_every_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    posted: list[float] = []
    told: list[Outcome] = []

    async def post(_api: GraphQL, _body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        posted.append(now())
        return 429, {"retry-after": "3600"}, b""

    async def credential() -> Credential:
        return Credential("k" * 40)

    monkeypatch.setattr(GraphQL, "_post", post)

    async def scene() -> None:
        def on_change(key: tuple[str, str]) -> None:
            if (answers := poller.snapshot(key)) is not None:
                told.extend(kept.latest for kept in answers.refs.values())

        async with Poller(on_change, random_share=lambda: 0.0) as poller:
            question = Question(refs=frozenset({PRODUCTION}))
            poller.subscribe(A, Subscription(SERVER, "alice", credential, question, timedelta(seconds=5)))
            for _ in range(600):
                await asyncio.sleep(1)
                poller.look_at()
                poller.look(A)
        gaps = [later - earlier for earlier, later in pairwise(posted)]
        assert len(gaps) >= 9
        assert gaps == [pytest.approx(MAX_SILENCE.total_seconds(), abs=1.0)] * len(gaps)
        assert isinstance(told[0], Throttled)
        asked_for = (told[0].until - told[0].answered_at).total_seconds()
        assert asked_for == pytest.approx(3600, abs=60), "people are told what the server asks for"

    run(scene)
