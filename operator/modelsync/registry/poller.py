"""Keeps the controller's knowledge of the registries fresh, and says when something that matters has changed.

Each (server, credential) pair is polled by itself, and answers never cross from one pair to another. A poll comes
round with jitter; a look is asked for (a webhook came, the planner wants a fresh answer, a question changed) and does
not wait for a poll that is under way. Nothing is sent to a server that asked to wait until its time is over, and a
server that does not answer is left alone longer each time.

Credentials are asked for at each look and dropped after it.
"""

import asyncio
import random
import ssl
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self, TypeAlias

import aiohttp
import structlog

from modelsync.api.model_ref import CollectionRef
from modelsync.registry.credential import Credential, InvalidCredentialError
from modelsync.registry.errors import DeniedError, RegistryError, UnreachableError
from modelsync.registry.graphql import (
    GraphQL,
    InvalidBaseURLError,
    InvalidCABundleError,
    Watch,
    new_session,
    now_utc,
    tls,
)
from modelsync.registry.model import Answers, CollectionRead, Question, Reading, Resolved, Throttled
from modelsync.registry.resolver import Resolver, failed
from modelsync.registry.store import Key, Store

JITTER = 0.2
"""A poll comes by up to this share of its interval earlier, and never later: the interval is a promise."""
TOGETHER = 0.25
"""Keys whose poll is due within this share of their interval are asked for in the same poll."""
BACKOFF = (timedelta(seconds=1), timedelta(seconds=30))
"""How long a server that does not answer is left alone: first, and at most."""
WISH_SPACING = timedelta(milliseconds=200)
"""Between two looks that the planner asks for, for one key; doubled from a second on while they bring no answer."""
STRANGE_SPACING = timedelta(seconds=5)
"""Between two looks at everything because of webhooks about collections that nobody here has to do with."""
PARALLEL_POLLS = 8
"""Polls of one server at a time, by different credentials. Bounded for each server: a dead one must not stop others."""
PARALLEL_LOOKS = 16
"""Looks at one server at a time, by different credentials."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """A W&B server: where it is, and which private authority vouches for it (PEM)."""

    base_url: str
    ca_pem: str | None = field(default=None, repr=False)


CredentialProvider: TypeAlias = Callable[[], Awaitable[Credential]]
"""Gets the key for one look. May raise InvalidCredentialError or DeniedError with a message for the person."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What one ModelDeployment wants to know, of whom, as who, how often."""

    server: Server
    identity: Hashable
    """Tells credentials apart without knowing them: namespace, Secret, key and resourceVersion."""
    credential: CredentialProvider = field(compare=False, repr=False)
    question: Question
    interval: timedelta


class Poller:
    """The registries as the controller sees them. Use as `async with Poller(on_change) as poller:`.

    `on_change(key)` is called in the event loop, and must not block: when an answer that matters to `key` has changed,
    and when a look that was asked for has ended, whatever it brought.
    """

    def __init__(
        self,
        on_change: Callable[[Key], None],
        *,
        random_share: Callable[[], float] = random.random,
        watch: Watch | None = None,
    ) -> None:
        self._on_change = on_change
        self._context = _Context(random_share, watch)
        self._pairs: dict[tuple[Server, Hashable], _Pair] = {}
        self._pair_of: dict[Key, _Pair] = {}
        self._strange: asyncio.TimerHandle | None = None
        self._strange_after = 0.0

    def subscribe(self, key: Key, subscription: Subscription) -> None:
        """Set what `key` wants to know; the same again costs nothing. What has no answer yet is looked up at once."""
        name = (subscription.server, subscription.identity)
        if (before := self._pair_of.get(key)) is not None and before.name != name:
            self.unsubscribe(key)
        pair = self._pairs.get(name)
        if pair is None:
            pair = self._pairs[name] = _Pair(name, self._context, self._on_change)
        self._pair_of[key] = pair
        pair.subscribe(key, subscription)

    def unsubscribe(self, key: Key) -> None:
        """Forget `key` and what only it asked for."""
        pair = self._pair_of.pop(key, None)
        if pair is not None and pair.unsubscribe(key):
            del self._pairs[pair.name]
            pair.stop()

    def look(self, key: Key) -> None:
        """Ask for an answer about `key` to a question sent from now on. `on_change(key)` follows, in any case.

        Repeated without success, it takes longer each time: the planner may ask on every pass.
        """
        if (pair := self._pair_of.get(key)) is not None:
            pair.wish(key)

    def look_at(self, entity: str = "", project: str = "", collection: str = "") -> None:
        """Look at once at what has to do with these collections; an empty name stands for any.

        For webhooks. What they name only narrows where to look: a collection counts if it is asked about, or if what
        is asked about is linked there. If none does, everything is looked at, but not for each such webhook.
        """

        def matches(place: CollectionRef) -> bool:
            return (
                entity in ("", place.entity) and project in ("", place.project) and collection in ("", place.collection)
            )

        found = [(pair, pair.concerned(matches)) for pair in self._pairs.values()]
        for pair, keys in found:
            pair.look(keys, alive=True)
        if not any(keys for _, keys in found):
            self._look_everywhere_soon()

    def snapshot(self, key: Key) -> Answers | None:
        """What is known for `key`; None if it is not subscribed. Immutable; times are those of the questions."""
        pair = self._pair_of.get(key)
        return None if pair is None else pair.answers(key)

    def last_answers(self) -> Mapping[tuple[str, str], datetime | None]:
        """When each server last gave a positive answer, by its base URL and the namespace of those who ask; of several
        credentials, that of the one that has waited longest. None is never."""
        found: dict[tuple[str, str], datetime | None] = {}
        for (server, _), pair in self._pairs.items():
            for namespace in {namespace for namespace, _ in pair.keys}:
                place = (server.base_url, namespace)
                times = (found.get(place, pair.answered_at), pair.answered_at)
                found[place] = None if None in times else min(time for time in times if time is not None)
        return found

    async def __aenter__(self) -> Self:
        self._context.session = new_session()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._strange is not None:
            self._strange.cancel()
        pairs = list(self._pairs.values())
        self._pairs.clear()
        self._pair_of.clear()
        for pair in pairs:
            pair.stop()
        await asyncio.gather(*(pair.stopped() for pair in pairs))
        if self._context.session is not None:
            await self._context.session.close()

    def _look_everywhere_soon(self) -> None:
        loop = asyncio.get_running_loop()
        if self._strange is not None:
            return
        if loop.time() >= self._strange_after:
            self._look_everywhere()
        else:
            self._strange = loop.call_at(self._strange_after, self._look_everywhere)

    def _look_everywhere(self) -> None:
        self._strange = None
        self._strange_after = asyncio.get_running_loop().time() + STRANGE_SPACING.total_seconds()
        for pair in self._pairs.values():
            pair.look(pair.keys)


@dataclass(slots=True)
class _Context:
    """What all pairs share: the session, and the bounds on how much is asked of one server at once."""

    random_share: Callable[[], float]
    watch: Watch | None = None
    session: aiohttp.ClientSession | None = None
    polls: defaultdict[Server, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(PARALLEL_POLLS))
    )
    looks: defaultdict[Server, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(PARALLEL_LOOKS))
    )
    tls: dict[str, ssl.SSLContext] = field(default_factory=dict)

    def open(self, server: Server, credential: Credential) -> GraphQL:
        """Raises InvalidBaseURLError or InvalidCABundleError."""
        context = None
        if server.ca_pem is not None:
            context = self.tls.get(server.ca_pem) or tls(ca_pem=server.ca_pem)
            self.tls[server.ca_pem] = context
        return GraphQL(server.base_url, credential, ssl_context=context, session=self.session, watch=self.watch)


@dataclass(slots=True)
class _Entry:
    """One key's place in a pair. Times are of the event loop's clock."""

    subscription: Subscription
    due: float
    wish_after: float = 0.0
    wish_delay: float = 0.0
    wish: asyncio.TimerHandle | None = None


class _Pair:
    """One server as one credential sees it."""

    def __init__(self, name: tuple[Server, Hashable], context: _Context, on_change: Callable[[Key], None]) -> None:
        self.name = name
        self._server = name[0]
        self._context = context
        self._on_change = on_change
        self._store = Store()
        self._resolver = Resolver()
        self._entries: dict[Key, _Entry] = {}
        self._wanted: set[Key] = set()
        self._quiet = _Quiet()
        self.answered_at: datetime | None = None
        """When the last look was asked that brought a positive answer."""
        self._poll_sooner = asyncio.Event()
        self._look_sooner = asyncio.Event()
        self._poll_at = 0.0
        self._loop = asyncio.get_running_loop()
        # Not in the context of whoever asks first: what is logged of a server is about all who ask it.
        self._tasks = [
            self._loop.create_task(self._forever(step), context=Context()) for step in (self._poll, self._look)
        ]

    @property
    def keys(self) -> Collection[Key]:
        return tuple(self._entries)

    def subscribe(self, key: Key, subscription: Subscription) -> None:
        entry = self._entries.get(key)
        if entry is not None and entry.subscription == subscription:
            return
        due = self._next_due(subscription.interval, self._loop.time())
        if entry is None:
            self._entries[key] = entry = _Entry(subscription, due)
        elif subscription.interval != entry.subscription.interval:
            entry.due = min(entry.due, due)
        entry.subscription = subscription
        if entry.due < self._poll_at:
            self._poll_sooner.set()
        if self._store.ask(key, subscription.question):
            self.look((key,))

    def unsubscribe(self, key: Key) -> bool:
        """Say whether nobody is left."""
        entry = self._entries.pop(key, None)
        if entry is not None and entry.wish is not None:
            entry.wish.cancel()
        self._store.forget(key)
        self._wanted.discard(key)
        return not self._entries

    def look(self, keys: Iterable[Key], *, alive: bool = False) -> None:
        """Look as soon as the server allows it; a look under way does not count, it asked too early.

        `alive`: the server has just given a sign of life, so a silence of it before is over.
        """
        self._wanted.update(keys)
        if self._wanted:
            if alive:
                self._quiet.alive()
            self._look_sooner.set()

    def wish(self, key: Key) -> None:
        """Look for `key`, but not too soon after the last time."""
        entry = self._entries[key]
        if key in self._wanted or entry.wish is not None:
            return
        if self._loop.time() >= entry.wish_after:
            self.look((key,))
        else:
            entry.wish = self._loop.call_at(entry.wish_after, self._wish_now, key)

    def concerned(self, matches: Callable[[CollectionRef], bool]) -> set[Key]:
        return self._store.concerned(matches)

    def answers(self, key: Key) -> Answers:
        return self._store.answers(key)

    def stop(self) -> None:
        for entry in self._entries.values():
            if entry.wish is not None:
                entry.wish.cancel()
        for task in self._tasks:
            task.cancel()

    async def stopped(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _wish_now(self, key: Key) -> None:
        if (entry := self._entries.get(key)) is not None:
            entry.wish = None
            self.look((key,))

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except Exception:  # whatever it is, the next look must come, or no hold would be seen any more
                log.exception("registry.look_failed", server=self._server.base_url)
                await asyncio.sleep(BACKOFF[0].total_seconds())

    async def _poll(self) -> None:
        """Wait for the next time, and poll all keys whose time it is."""
        self._poll_sooner.clear()
        first = min((entry.due for entry in self._entries.values()), default=self._loop.time() + 1)
        self._poll_at = max(first, self._quiet.until)
        if not await self._reached(self._poll_at, self._poll_sooner):
            return
        async with self._context.polls[self._server]:
            now = self._loop.time()
            due = {
                key
                for key, entry in self._entries.items()
                if entry.due <= now + TOGETHER * entry.subscription.interval.total_seconds()
            }
            changed = await self._read(due)
        self._tell(changed)

    async def _look(self) -> None:
        """Wait until a look is wanted and the server allows it, and look for the keys that want it."""
        await self._look_sooner.wait()
        self._look_sooner.clear()
        while not await self._reached(self._quiet.until, self._look_sooner):
            self._look_sooner.clear()
        async with self._context.looks[self._server]:
            keys, self._wanted = self._wanted, set()
            try:
                changed = await self._read(keys)
            except Exception:
                self.look(keys)
                raise
        for key in keys & self._entries.keys():
            self._space_wishes(key)
        self._tell(changed | keys)

    async def _reached(self, moment: float, sooner: asyncio.Event) -> bool:
        """Wait until `moment`; False if `sooner` came first, and everything has to be thought over."""
        if (delay := moment - self._loop.time()) <= 0:
            return True
        try:
            async with asyncio.timeout(delay):
                await sooner.wait()
        except TimeoutError:
            return True
        return False

    async def _read(self, keys: Collection[Key]) -> set[Key]:
        """Ask for `keys`; return those for which something changed, others of this pair maybe among them."""
        here = [key for key in keys if key in self._entries]
        if not here:
            return set()
        questions = self._store.questions(here)
        began = self._loop.time()
        reading = await self._ask(self._entries[here[0]].subscription.credential, questions)
        self._quiet.learn(reading, self._loop.time(), self._jitter())
        for key in here:
            if (entry := self._entries.get(key)) is not None:
                entry.due = self._next_due(entry.subscription.interval, began)
        outcomes = (*reading.refs.values(), *reading.collections.values())
        positive = [outcome.asked_at for outcome in outcomes if isinstance(outcome, Resolved | CollectionRead)]
        self.answered_at = max([*positive, *filter(None, [self.answered_at])], default=None)
        return self._store.add(reading)

    async def _ask(self, credential: CredentialProvider, questions: list[Question]) -> Reading:
        at = now_utc()
        problem: RegistryError
        try:
            api = self._context.open(self._server, await credential())
        except InvalidCredentialError as error:
            problem = DeniedError(str(error), status=401)
        except (InvalidBaseURLError, InvalidCABundleError) as error:
            problem = UnreachableError(str(error))
        except RegistryError as error:
            problem = error
        else:
            return await self._resolver.read(api, questions, hold_aliases=self._store.hold_aliases)
        return failed(questions, problem, at)

    def _space_wishes(self, key: Key) -> None:
        entry = self._entries[key]
        if self._store.is_answered(key):
            entry.wish_delay = WISH_SPACING.total_seconds()
        else:
            most = entry.subscription.interval.total_seconds()
            entry.wish_delay = min(max(1.0, entry.wish_delay * 2), most)
        entry.wish_after = self._loop.time() + entry.wish_delay

    def _tell(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if key in self._entries:
                self._on_change(key)

    def _next_due(self, interval: timedelta, after: float) -> float:
        return after + interval.total_seconds() * self._jitter()

    def _jitter(self) -> float:
        return 1 - JITTER * self._context.random_share()


class _Quiet:
    """Until when a server is left alone: because it asked for it, or because it does not answer."""

    def __init__(self) -> None:
        self._asked_until = 0.0
        self._silent_until = 0.0
        self._silences = 0

    @property
    def until(self) -> float:
        """In seconds of the event loop's clock."""
        return max(self._asked_until, self._silent_until)

    def alive(self) -> None:
        """It gave a sign of life. What it asked for still holds."""
        self._silent_until = 0.0

    def learn(self, reading: Reading, now: float, jitter: float) -> None:
        """Take note of how a look ended."""
        outcomes = [*reading.refs.values(), *reading.collections.values(), *reading.artifacts.values()]
        if waits := [outcome.until for outcome in outcomes if isinstance(outcome, Throttled)]:
            self._asked_until = max(self._asked_until, now + (max(waits) - now_utc()).total_seconds())
        elif reading.silent:
            first, most = (bound.total_seconds() for bound in BACKOFF)
            self._silent_until = now + min(first * 2 ** min(self._silences, 30), most) * jitter
            self._silences += 1
        else:
            self._silences = 0
            self._silent_until = 0.0
