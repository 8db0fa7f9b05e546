"""Retry policy: exponential back-off with full jitter, never shorter than the server's Retry-After. It gives up after a
time without any success.
"""

import random
import time
from collections.abc import Callable

FIRST_SECONDS = 0.25
CAP_SECONDS = 20.0


class Backoff:
    """Counts the failures since the last success. One per retried operation."""

    def __init__(self, retry_for: float, *, now: Callable[[], float] = time.monotonic) -> None:
        """`retry_for`: seconds without success after which to give up."""
        self._retry_for = retry_for
        self._now = now
        self._failing_since: float | None = None
        self.failures = 0

    def succeeded(self) -> None:
        """Reset after a success."""
        self._failing_since = None
        self.failures = 0

    def failed(self, *, retry_after: float = 0.0) -> float | None:
        """Return the seconds to wait before the next attempt, at least `retry_after`; None to give up."""
        now = self._now()
        if self._failing_since is None:
            self._failing_since = now
        ceiling = min(CAP_SECONDS, FIRST_SECONDS * 2 ** min(self.failures, 16))
        self.failures += 1
        wait = max(retry_after, random.uniform(0, ceiling))  # noqa: S311 - jitter, not a secret
        return wait if now + wait - self._failing_since <= self._retry_for else None
