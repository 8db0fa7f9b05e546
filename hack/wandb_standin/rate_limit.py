"""A rate limit per caller with a fixed window, reported in W&B's headers (RateLimit-*, on a scale of 1000)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import ceil
from typing import Final

SCALE: Final = 1000


@dataclass(frozen=True)
class Verdict:
    """Whether this request exceeds the limit, and the headers of the answer."""

    refused: bool
    headers: dict[str, str]


class RateLimiter:
    """Unlimited until `limit` is set (requests per window of `window_seconds`)."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self.window_seconds = 60.0
        self.send_retry_after = False
        self._windows: dict[str, tuple[float, int]] = {}

    def configure(self, limit: int | None, window_seconds: float, *, send_retry_after: bool) -> None:
        """Set or (with None) remove the limit; all windows restart."""
        self.limit, self.window_seconds, self.send_retry_after = limit, window_seconds, send_retry_after
        self._windows.clear()

    def take(self, caller: str) -> Verdict:
        """Count a request of the caller."""
        if self.limit is None:
            return Verdict(False, _headers(SCALE, 1))
        moment = time.monotonic()
        began, used = self._windows.get(caller, (moment, 0))
        if moment - began >= self.window_seconds:
            began, used = moment, 0
        self._windows[caller] = (began, used + 1)
        left = max(0, self.limit - used - 1)
        reset = ceil(self.window_seconds - (moment - began))
        refused = used >= self.limit
        headers = _headers(left * SCALE // max(1, self.limit), reset)
        if refused and self.send_retry_after:
            headers["Retry-After"] = str(reset)
        return Verdict(refused, headers)


def _headers(remaining: int, reset: int) -> dict[str, str]:
    return {"RateLimit-Limit": str(SCALE), "RateLimit-Remaining": str(remaining), "RateLimit-Reset": str(reset)}
