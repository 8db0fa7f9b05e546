"""A work queue modelled on client-go's: one entry and one worker per key, delayed adds, and a back-off for each key.

A key that is added while it is being worked on is queued again afterwards, so that no event is lost and no key has two
workers. Keys with `Priority.HIGH` go first, so that a hold does not wait behind ten thousand keys of a resync. It must
not hold state that would be missed after a restart.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Hashable
from datetime import timedelta
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)

BASE_DELAY = timedelta(milliseconds=50)
"""Short, since most failures are conflicts with another write, and a retry succeeds at once."""
MAX_DELAY = timedelta(minutes=5)
MAX_DOUBLINGS = 30
JITTER = 0.2


class Priority(IntEnum):
    """Keys with a lower value go first."""

    HIGH = 0
    """Something has changed: an object, an alias, a hold; or a timer set by a plan is due."""
    LOW = 1
    """Nothing is known to have changed: startup and resync."""


class Observer(Protocol[K_contra]):
    """Called for each step of a key in the queue. Must not block."""

    def added(self, key: K_contra) -> None:
        """`key` was queued."""

    def taken(self, key: K_contra) -> None:
        """A worker took `key`."""

    def done(self, key: K_contra) -> None:
        """The worker has finished with `key`."""

    def retried(self, key: K_contra) -> None:
        """`key` will be queued again after its back-off."""

    def emptied(self) -> None:
        """The waiting keys were dropped."""


class _NullObserver:
    """Ignores every call."""

    def added(self, key: object) -> None: ...
    def taken(self, key: object) -> None: ...
    def done(self, key: object) -> None: ...
    def retried(self, key: object) -> None: ...
    def emptied(self) -> None: ...


class ShutDownError(Exception):
    """The queue was shut down and is empty."""


class WorkQueue(Generic[K]):
    """Keys to work on. Must only be used in the event loop's thread."""

    def __init__(
        self,
        *,
        base: timedelta = BASE_DELAY,
        cap: timedelta = MAX_DELAY,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        observer: Observer[K] | None = None,
    ) -> None:
        self._observer: Observer[K] = observer or _NullObserver()
        self._base = base
        self._cap = cap
        self._clock = clock
        self._jitter = jitter
        self._ready: dict[Priority, deque[K]] = {priority: deque() for priority in Priority}
        self._dirty: dict[K, Priority] = {}
        """Keys to be worked on, with the highest priority they were added with."""
        self._busy: dict[K, float] = {}
        """Keys being worked on, with their start times."""
        self._delayed: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._retry_at: dict[K, float] = {}
        self._order = itertools.count()
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    def add(self, key: K, priority: Priority = Priority.HIGH) -> None:
        """Queue `key`."""
        if self._closing:
            return
        queued = self._dirty.get(key)
        if queued is not None and queued <= priority:
            return
        self._dirty[key] = priority
        if queued is None:
            self._observer.added(key)
        if key not in self._busy:
            # A key that moves up stays in the lower deque too; `get` skips what is no longer dirty at that priority.
            self._ready[priority].append(key)
            self._changed.set()

    def add_after(self, key: K, delay: timedelta) -> None:
        """Queue `key` after `delay`. Of several calls for a key, the earliest due time counts."""
        if self._closing:
            return
        due = self._clock() + max(0.0, delay.total_seconds())
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._delayed, (due, next(self._order), key))
        self._arm()

    def retry(self, key: K, *, at_least: timedelta = timedelta(0)) -> timedelta:
        """Queue `key` after its back-off, which doubles with each failure. Returns the delay.

        A failure before the back-off is over (an event queued the key meanwhile) does not extend it: otherwise a burst
        of events could delay a key for minutes, and with it the report of a hold.
        """
        left = timedelta(seconds=self._retry_at.get(key, 0.0) - self._clock())
        if left > timedelta(0):
            left = max(at_least, left)
            self.add_after(key, left)
            return left
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait: timedelta = min(self._cap, self._base * 2 ** min(failures - 1, MAX_DOUBLINGS))
        wait = max(at_least, wait * (1 + JITTER * (2 * self._jitter() - 1)))
        self._observer.retried(key)
        self._retry_at[key] = self._clock() + wait.total_seconds()
        self.add_after(key, wait)
        return wait

    def succeeded(self, key: K) -> None:
        """Reset the back-off of `key`."""
        self._failures.pop(key, None)
        self._retry_at.pop(key, None)

    def forget(self, key: K) -> None:
        """Drop the back-off and the timer of a key whose object was deleted."""
        self._failures.pop(key, None)
        self._retry_at.pop(key, None)
        self._due.pop(key, None)

    async def get(self) -> K:
        """Wait for the next key and mark it busy; call `done` afterwards. Raises ShutDownError.

        One key is handed out in a turn of the event loop. A pass that writes nothing never waits, and with a thousand
        such keys ready the lease would not be renewed and no hold seen until the last of them.
        """
        while True:
            async with self._turn:
                await asyncio.sleep(0)
                for priority, ready in self._ready.items():
                    while ready:
                        key = ready.popleft()
                        if key not in self._busy and self._dirty.get(key) == priority:
                            del self._dirty[key]
                            self._busy[key] = self._clock()
                            self._observer.taken(key)
                            return key
            if self._closing:
                raise ShutDownError
            await self._change()

    def done(self, key: K) -> None:
        """Mark `key` as no longer busy; if it was added meanwhile, it is ready again."""
        if self._busy.pop(key, None) is not None:
            self._observer.done(key)
        if (priority := self._dirty.get(key)) is not None:
            self._ready[priority].append(key)
        self._changed.set()

    async def shut_down(self, *, drain: timedelta) -> bool:
        """Accept no more keys, drop the waiting ones, and wait at most `drain` for the busy ones. Returns whether all
        ended."""
        self._closing = True
        self._dirty.clear()
        self._observer.emptied()
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._changed.set()
        try:
            async with asyncio.timeout(drain.total_seconds()):
                while self._busy:
                    await self._change()
        except TimeoutError:
            return False
        return True

    def __len__(self) -> int:
        """Return how many keys are ready to be worked on."""
        return sum(1 for key in self._dirty if key not in self._busy)

    @property
    def longest_running(self) -> timedelta:
        """How long the oldest key has been busy; this grows when a worker is stuck."""
        now = self._clock()
        return timedelta(seconds=max((now - since for since in self._busy.values()), default=0.0))

    async def _change(self) -> None:
        # Nothing is awaited between the caller's check and `clear`, so no change is missed.
        self._changed.clear()
        await self._changed.wait()

    def _arm(self) -> None:
        """Set the one timer to the earliest key that is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._delayed and self._due.get(self._delayed[0][2]) != self._delayed[0][0]:
            heapq.heappop(self._delayed)
        if self._delayed:
            delay = max(0.0, self._delayed[0][0] - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        self._arm()
