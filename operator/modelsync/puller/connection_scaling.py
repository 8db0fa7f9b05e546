"""Decides whether another connection helps: only while threads spend more time waiting for the network than processing.

When the CPU is the limit, another connection costs time: its bytes arrive out of order, leave the cache, and are read
back to be hashed. When the store limits each connection, as the large ones do, more connections add up.
"""

import threading
import time
from collections.abc import Callable

STARVED = 2.0
"""Ratio of waiting to processing time above which another connection is added."""
EVERY_SECONDS = 0.05
"""Minimum time between two additions, so that the effect of one shows before the next."""
_MEMORY_SECONDS = 0.5


class ConnectionScaling:
    """Recent waiting and processing time of one transfer's threads. Thread-safe."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        """Start empty: until something is recorded, no connection is added."""
        self._now = now
        self._lock = threading.Lock()
        self._waited = 0.0
        self._worked = 0.0
        self._added_at = now()

    def record(self, *, waited: float, worked: float) -> None:
        """Add one thread's seconds for one chunk; older records decay."""
        with self._lock:
            self._waited += waited
            self._worked += worked
            if self._waited + self._worked > _MEMORY_SECONDS:
                self._waited /= 2
                self._worked /= 2

    def may_add(self) -> bool:
        """Whether to add a connection now; True counts it as added."""
        with self._lock:
            now = self._now()
            if now - self._added_at < EVERY_SECONDS or self._waited + self._worked == 0:
                return False
            if self._waited < STARVED * self._worked:
                return False
            self._added_at = now
            return True
