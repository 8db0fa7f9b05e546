"""Polls the registries for the controller, and reports relevant changes.

Each (server, credential) pair is polled independently, and answers never cross from one pair to another, except for
the marks of holds (`registry.marks`). A poll is
periodic, with jitter; a look is a read on demand (a webhook arrived, the planner needs a fresh answer, a question
changed) and does not wait for a poll in progress. Nothing is sent to a server that asked to wait until that time is
over, and a server that does not answer is retried with exponential back-off.

Credentials are fetched for each read and dropped after it.
"""

import asyncio
import random
import ssl
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import product
from types import TracebackType
from typing import Self, TypeAlias

import aiohttp
import structlog

from modelsync.api.hold import HoldMark
from modelsync.api.model_ref import CollectionRef
from modelsync.registry.credential import Credential, InvalidCredentialError
from modelsync.registry.errors import DeniedError, RegistryError, UnreachableError
from modelsync.registry.graphql import (
    GraphQL,
    InvalidBaseURLError,
    InvalidCABundleError,
    Watch,
    clock,
    new_session,
    now_utc,
    tls,
)
from modelsync.registry.marks import MarkIndex
from modelsync.registry.model import (
    Answered,
    Answers,
    CollectionRead,
    HoldNames,
    Question,
    Reading,
    Resolved,
    Throttled,
)
from modelsync.registry.resolver import Resolver, failed
from modelsync.registry.store import Key, Store

JITTER = 0.2
"""A poll is started up to this share of its interval early, never late: the interval is an upper bound."""
TOGETHER = 0.25
"""Keys whose poll is due within this share of their interval are included in the same poll."""
BACKOFF = (timedelta(seconds=1), timedelta(seconds=30))
"""The pause after a server did not answer: the first one, and the longest."""
LOOK_SPACING = timedelta(milliseconds=200)
"""Between two looks that the planner requests for one key; from one second, doubled while they get no answer."""
HINT_SPACING = (timedelta(milliseconds=200), timedelta(seconds=2))
"""Between two looks of one pair that are caused by webhooks: the first one of a burst is immediate, the next one comes
after the first of these times, and each further one after twice the time before, at most the second. Whoever may send a
webhook could cause requests without end, but no webhook is ever without a look that starts after it."""
HEARING = 10
"""Finding out whom webhooks concern takes at most this part of the time, one in so many: it goes through all that is
asked."""
MAX_HEARD = 1000
"""Places that webhooks named and that wait for that; with more, everything is looked at."""
FULL_LOOK_SPACING = timedelta(seconds=5)
"""Between two looks for all keys that are caused by webhooks about unknown collections."""
PARALLEL_POLLS = 8
"""Concurrent polls of one server, by different credentials. Limited per server: a dead one must not block others."""
MAX_TLS = 64
"""CA bundles whose TLS contexts are kept, those used last: a bundle can be changed without end."""
PARALLEL_LOOKS = 16
"""Concurrent looks at one server, by different credentials."""

NO_NAMES = HoldNames()
_EVERYWHERE = ("", "", "")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """A W&B server: its base URL, and its private CA (PEM) if it has one."""

    base_url: str
    ca_pem: str | None = field(default=None, repr=False)


CredentialProvider: TypeAlias = Callable[[], Awaitable[Credential]]
"""Gets the key for one read. May raise InvalidCredentialError or DeniedError with a message for the user."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What one ModelDeployment needs to know: the question, server, credential and polling interval."""

    server: Server
    identity: Hashable
    """Identifies a credential without containing it: namespace, Secret, key and resourceVersion."""
    credential: CredentialProvider = field(compare=False, repr=False)
    question: Question
    interval: timedelta


class Poller:
    """Polls all subscribed registries. Use as `async with Poller(on_change) as poller:`.

    `on_change(key)` is called in the event loop, and must not block: when an answer relevant to `key` has changed, when
    the marks on a digest that `key` watches have changed, and when a requested look has ended, whatever its result.

    `hold_names` are the administrator's. Marks under these names cross from one credential, and so from one
    ModelDeployment, to another; answers do not.
    """

    def __init__(
        self,
        on_change: Callable[[Key], None],
        *,
        hold_names: HoldNames = NO_NAMES,
        random_share: Callable[[], float] = random.random,
        watch: Watch | None = None,
    ) -> None:
        self._on_change = on_change
        self._marks = MarkIndex(hold_names)
        self._context = _Context(random_share, self._marks, self._report_marks, watch)
        self._pairs: dict[tuple[Server, Hashable], _Pair] = {}
        self._pair_of: dict[Key, _Pair] = {}
        self._heard: set[tuple[str, str, str]] = set()
        self._hearing: asyncio.TimerHandle | None = None
        self._next_hearing = 0.0
        self._full_look: asyncio.TimerHandle | None = None
        self._next_full_look = 0.0

    def subscribe(self, key: Key, subscription: Subscription) -> None:
        """Set the subscription of `key`. Repeating it costs nothing. Anything without an answer is read at once."""
        name = (subscription.server, subscription.identity)
        if (before := self._pair_of.get(key)) is not None and before.name != name:
            self.unsubscribe(key)
        pair = self._pairs.get(name)
        if pair is None:
            pair = self._pairs[name] = _Pair(name, self._context, self._on_change)
        self._pair_of[key] = pair
        pair.subscribe(key, subscription)

    def unsubscribe(self, key: Key) -> None:
        """Remove `key`, and all answers that only it needed."""
        pair = self._pair_of.pop(key, None)
        if pair is not None and pair.unsubscribe(key):
            del self._pairs[pair.name]
            pair.stop()

    def look(self, key: Key) -> None:
        """Request a read for `key` with a query sent from now on. `on_change(key)` is called in any case.

        Repeated requests without an answer are delayed more each time: the planner may request one on every pass.
        """
        if (pair := self._pair_of.get(key)) is not None:
            pair.request_look(key)

    def look_at(self, entity: str = "", project: str = "", collection: str = "") -> None:
        """Read everything related to these collections; an empty name matches any. At once, except in a burst.

        For webhooks. The names only select what to read: a collection matches if it is subscribed to, or if a
        subscribed version is linked there. If none matches, everything is read, but not for every such webhook.
        """
        self._heard.add((entity, project, collection))
        if len(self._heard) > MAX_HEARD:
            self._heard = {_EVERYWHERE}
        loop = asyncio.get_running_loop()
        if self._hearing is not None:
            return
        if loop.time() >= self._next_hearing:
            self._look_at_heard()
        else:
            self._hearing = loop.call_at(self._next_hearing, self._look_at_heard)

    def snapshot(self, key: Key) -> Answers | None:
        """What is known for `key`; None if it is not subscribed. Immutable; times are those of the queries."""
        pair = self._pair_of.get(key)
        return None if pair is None else pair.answers(key)

    def watch_digests(self, key: Key, wanted: Collection[tuple[str, str]]) -> None:
        """Have `on_change(key)` called when the marks on a digest change, or one on it is shown gone.

        `wanted` are the digests, each after its server's base URL; they replace those of the last call. Repeating it
        costs nothing.
        """
        self._marks.watch(key, wanted)

    def unwatch(self, key: Key) -> None:
        """Watch no digests for `key`."""
        self._marks.watch(key, ())

    def marks(self, server: str, digest: str) -> Mapping[HoldMark, datetime]:
        """The marks on `digest` under the administrator's names that any credential sees on the server with this base
        URL, with when the newest read that shows each of them was asked for."""
        return self._marks.marks(server, digest)

    def absence(self, server: str, mark: HoldMark) -> datetime | None:
        """When the newest read of the place of `mark` that shows it gone was asked for, by any credential on the
        server; None as long as nothing shows that. See `MarkIndex.absence`."""
        return self._marks.absence(server, mark)

    def last_answers(self) -> Mapping[tuple[str, str], datetime | None]:
        """When each server last gave a positive answer, by base URL and subscribing namespace.

        With several credentials, the oldest of their times. None means never.
        """
        found: dict[tuple[str, str], Answered | None] = {}
        for (server, _), pair in self._pairs.items():
            for namespace in {namespace for namespace, _ in pair.keys}:
                place = (server.base_url, namespace)
                known = found.get(place, pair.answered)
                if known is not None and (pair.answered is None or pair.answered.asked < known.asked):
                    known = pair.answered
                found[place] = known
        return {place: answered.asked_at if answered is not None else None for place, answered in found.items()}

    async def __aenter__(self) -> Self:
        self._context.session = new_session()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for timer in (self._hearing, self._full_look):
            if timer is not None:
                timer.cancel()
        pairs = list(self._pairs.values())
        self._pairs.clear()
        self._pair_of.clear()
        for pair in pairs:
            pair.stop()
        await asyncio.gather(*(pair.stopped() for pair in pairs))
        if self._context.session is not None:
            await self._context.session.close()

    def _report_marks(self) -> None:
        for key in self._marks.changes():
            self._on_change(key)

    def _look_at_heard(self) -> None:
        """Look at the places that webhooks have named since the last time, in one pass over all that is asked."""
        self._hearing = None
        heard, self._heard = self._heard, set()
        loop = asyncio.get_running_loop()
        started, matched = loop.time(), set[tuple[str, str, str]]()

        def matches(place: CollectionRef) -> bool:
            names = heard.intersection(product(("", place.entity), ("", place.project), ("", place.collection)))
            matched.update(names)
            return bool(names)

        for pair in self._pairs.values():
            pair.hint(pair.keys if _EVERYWHERE in heard else pair.concerned(matches))
        if heard - matched - {_EVERYWHERE}:
            self._look_everywhere_soon()
        now = loop.time()
        self._next_hearing = now + max(HINT_SPACING[0].total_seconds(), HEARING * (now - started))

    def _look_everywhere_soon(self) -> None:
        loop = asyncio.get_running_loop()
        if self._full_look is not None:
            return
        if loop.time() >= self._next_full_look:
            self._look_everywhere()
        else:
            self._full_look = loop.call_at(self._next_full_look, self._look_everywhere)

    def _look_everywhere(self) -> None:
        self._full_look = None
        self._next_full_look = asyncio.get_running_loop().time() + FULL_LOOK_SPACING.total_seconds()
        for pair in self._pairs.values():
            pair.hint(pair.keys)


@dataclass(slots=True)
class _Context:
    """What all pairs share: the session, and the limits on concurrent requests to one server."""

    random_share: Callable[[], float]
    marks: MarkIndex
    report_marks: Callable[[], None]
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
        """Create a client. Raises InvalidBaseURLError or InvalidCABundleError."""
        context = None
        if server.ca_pem is not None:
            context = self.tls.pop(server.ca_pem, None) or tls(ca_pem=server.ca_pem)
            self.tls[server.ca_pem] = context
            if len(self.tls) > MAX_TLS:
                del self.tls[next(iter(self.tls))]
        return GraphQL(server.base_url, credential, ssl_context=context, session=self.session, watch=self.watch)


@dataclass(slots=True)
class _Entry:
    """One key's schedule in a pair. Times are of the event loop's clock."""

    subscription: Subscription
    due: float
    look_after: float = 0.0
    look_delay: float = 0.0
    delayed_look: asyncio.TimerHandle | None = None


class _Pair:
    """The polling of one server with one credential."""

    def __init__(self, name: tuple[Server, Hashable], context: _Context, on_change: Callable[[Key], None]) -> None:
        self.name = name
        self._server = name[0]
        self._context = context
        self._on_change = on_change
        self._store = Store(context.marks.showings(self._server.base_url))
        self._resolver = Resolver()
        self._entries: dict[Key, _Entry] = {}
        self._wanted: set[Key] = set()
        self._hinted: set[Key] = set()
        self._hints = _HintSpacing()
        self._pause = _Pause()
        self.answered: Answered | None = None
        """The positive answer to the newest query."""
        self._poll_sooner = asyncio.Event()
        self._look_sooner = asyncio.Event()
        self._poll_at = 0.0
        self._loop = asyncio.get_running_loop()
        # Not in the context of the first subscriber: log lines about a server concern all of its subscribers.
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
        self._context.report_marks()

    def unsubscribe(self, key: Key) -> bool:
        """Return whether no key is left."""
        entry = self._entries.pop(key, None)
        if entry is not None and entry.delayed_look is not None:
            entry.delayed_look.cancel()
        self._store.forget(key)
        self._context.report_marks()
        self._wanted.discard(key)
        self._hinted.discard(key)
        return not self._entries

    def look(self, keys: Iterable[Key]) -> None:
        """Read as soon as the server allows it; a look in progress does not count, its query was sent too early."""
        self._wanted.update(keys)
        if self._wanted:
            self._look_sooner.set()

    def hint(self, keys: Iterable[Key]) -> None:
        """Read because a webhook arrived: at once, but not more often than `HINT_SPACING` allows.

        The server has just been seen alive, so this read is tried in spite of a back-off. If it fails, the back-off
        goes on as it was.
        """
        self._hinted.update(keys)
        if self._hinted:
            self._look_sooner.set()

    def request_look(self, key: Key) -> None:
        """Look for `key`, but not too soon after the last look."""
        entry = self._entries[key]
        if key in self._wanted or entry.delayed_look is not None:
            return
        if self._loop.time() >= entry.look_after:
            self.look((key,))
        else:
            entry.delayed_look = self._loop.call_at(entry.look_after, self._start_delayed_look, key)

    def concerned(self, matches: Callable[[CollectionRef], bool]) -> set[Key]:
        return self._store.concerned(matches)

    def answers(self, key: Key) -> Answers:
        return self._store.answers(key)

    def stop(self) -> None:
        for entry in self._entries.values():
            if entry.delayed_look is not None:
                entry.delayed_look.cancel()
        for task in self._tasks:
            task.cancel()

    async def stopped(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_delayed_look(self, key: Key) -> None:
        if (entry := self._entries.get(key)) is not None:
            entry.delayed_look = None
            self.look((key,))

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except Exception:  # polling must go on whatever happens, or holds would no longer be detected
                log.exception("registry.look_failed", server=self._server.base_url)
                await asyncio.sleep(BACKOFF[0].total_seconds())

    async def _poll(self) -> None:
        """Wait until the next poll is due, and poll all keys that are due."""
        self._poll_sooner.clear()
        first = min((entry.due for entry in self._entries.values()), default=self._loop.time() + 1)
        self._poll_at = max(first, self._pause.until)
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
        self._notify(changed)

    async def _look(self) -> None:
        """Wait until a look is requested and may be sent, and read for the keys that requested it.

        Keys that are added during the read wait for the next one, so that there is at most one look in flight and one
        waiting.
        """
        self._look_sooner.clear()
        if (moment := self._look_at()) is None:
            await self._look_sooner.wait()
            return
        if not await self._reached(moment, self._look_sooner):
            return
        async with self._context.looks[self._server]:
            keys = self._take()
            try:
                changed = await self._read(keys)
            except Exception:
                self.look(keys)
                raise
        for key in keys & self._entries.keys():
            self._space_looks(key)
        self._notify(changed | keys)

    def _look_at(self) -> float | None:
        """When the next look may be sent; None if none is requested."""
        moments = []
        if self._wanted:
            moments.append(self._pause.until)
        if self._hinted:
            moments.append(self._hint_at)
        return min(moments, default=None)

    @property
    def _hint_at(self) -> float:
        return max(self._hints.until, self._pause.asked_until)

    def _take(self) -> set[Key]:
        """The keys to look for now. Empty if the server has asked to wait since."""
        now, keys = self._loop.time(), set()
        if self._hinted and self._hint_at <= now:
            self._hints.started(now)
            keys, self._hinted = self._hinted, set()
        if self._wanted and (keys or self._pause.until <= now):
            keys |= self._wanted
            self._wanted = set()
        return keys

    async def _reached(self, moment: float, sooner: asyncio.Event) -> bool:
        """Wait until `moment`; False if `sooner` was set first, and the schedule must be recalculated."""
        if (delay := moment - self._loop.time()) <= 0:
            return True
        try:
            async with asyncio.timeout(delay):
                await sooner.wait()
        except TimeoutError:
            return True
        return False

    async def _read(self, keys: Collection[Key]) -> set[Key]:
        """Read for `keys`; return the keys with a change, possibly including other keys of this pair."""
        here = [key for key in keys if key in self._entries]
        if not here:
            return set()
        questions = self._store.questions(here)
        started_at = self._loop.time()
        reading = await self._ask(self._entries[here[0]].subscription.credential, questions)
        self._pause.learn(reading, self._loop.time(), self._jitter())
        for key in here:
            if (entry := self._entries.get(key)) is not None:
                entry.due = self._next_due(entry.subscription.interval, started_at)
        outcomes = (*reading.refs.values(), *reading.collections.values())
        positive: list[Answered] = [each for each in outcomes if isinstance(each, Resolved | CollectionRead)]
        positive += [self.answered] if self.answered is not None else []
        self.answered = max(positive, key=lambda each: each.asked, default=None)
        changed = self._store.add(reading)
        self._context.report_marks()
        return changed

    async def _ask(self, credential: CredentialProvider, questions: list[Question]) -> Reading:
        at, moment = now_utc(), clock()
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
            patterns = self._store.hold_aliases | self._context.marks.names.aliases
            return await self._resolver.read(api, questions, hold_aliases=patterns)
        return failed(questions, problem, at, moment)

    def _space_looks(self, key: Key) -> None:
        entry = self._entries[key]
        if self._store.is_answered(key):
            entry.look_delay = LOOK_SPACING.total_seconds()
        else:
            most = entry.subscription.interval.total_seconds()
            entry.look_delay = min(max(1.0, entry.look_delay * 2), most)
        entry.look_after = self._loop.time() + entry.look_delay

    def _notify(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if key in self._entries:
                self._on_change(key)

    def _next_due(self, interval: timedelta, after: float) -> float:
        return after + interval.total_seconds() * self._jitter()

    def _jitter(self) -> float:
        return 1 - JITTER * self._context.random_share()


class _HintSpacing:
    """Until when a pair sends no further look because of a webhook."""

    def __init__(self) -> None:
        self.until = 0.0
        """In seconds of the event loop's clock."""
        self._spacing = 0.0

    def started(self, now: float) -> None:
        """A look because of webhooks starts now."""
        first, most = (bound.total_seconds() for bound in HINT_SPACING)
        quiet = now >= self.until + most
        self._spacing = first if quiet else min(max(first, self._spacing * 2), most)
        self.until = now + self._spacing


class _Pause:
    """Until when nothing is sent to a server: because it asked to wait, or because it does not answer."""

    def __init__(self) -> None:
        self.asked_until = 0.0
        """Until when the server asked to wait, at most `graphql.MAX_SILENCE`."""
        self._silent_until = 0.0
        self._silences = 0

    @property
    def until(self) -> float:
        """In seconds of the event loop's clock."""
        return max(self.asked_until, self._silent_until)

    def learn(self, reading: Reading, now: float, jitter: float) -> None:
        """Update the pause from the result of a read."""
        outcomes = [*reading.refs.values(), *reading.collections.values(), *reading.artifacts.values()]
        if waits := [outcome.resume for outcome in outcomes if isinstance(outcome, Throttled)]:
            self.asked_until = max(self.asked_until, *waits)
        elif reading.silent:
            if now < self._silent_until:
                return  # a trial, or one of two reads at the same time: the back-off goes on as it was
            first, most = (bound.total_seconds() for bound in BACKOFF)
            self._silent_until = now + min(first * 2 ** min(self._silences, 30), most) * jitter
            self._silences += 1
        else:
            self._silences = 0
            self._silent_until = 0.0
