"""Whether more connections would help: only while threads wait for the network more than they work on what it brings.

Where the cores are the limit, another connection costs time: its bytes come out of order, leave the cache, and are
read back to be hashed. Where a store limits each connection, as the large ones do, they add up.
"""

import threading
import time
from collections.abc import Callable

STARVED = 2.0
"""Seconds of waiting for one of work from which on another connection is worth it."""
EVERY_SECONDS = 0.05
"""One connection is added at a time, so that its effect can be seen before the next."""
_MEMORY_SECONDS = 0.5


class Pace:
    """What the threads of one transfer did lately. Every method may be called from any thread."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        """Begin without knowing anything: until something is recorded, nothing is starved."""
        self._now = now
        self._lock = threading.Lock()
        self._waited = 0.0
        self._worked = 0.0
        self._added_at = now()

    def record(self, *, waited: float, worked: float) -> None:
        """Count what one thread did with one chunk, in seconds; older records fade."""
        with self._lock:
            self._waited += waited
            self._worked += worked
            if self._waited + self._worked > _MEMORY_SECONDS:
                self._waited /= 2
                self._worked /= 2

    def may_add(self) -> bool:
        """Whether one more connection is worth it now; True counts as one that is added."""
        with self._lock:
            now = self._now()
            if now - self._added_at < EVERY_SECONDS or self._waited + self._worked == 0:
                return False
            if self._waited < STARVED * self._worked:
                return False
            self._added_at = now
            return True
