"""What keeps the log readable and harmless: the same trouble is told once a minute, and a key never.

Processors of structlog. They may drop a line or blank a part of it, and must never raise for one.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from datetime import timedelta
from typing import Any

import structlog

QUIET = timedelta(minutes=1)
MAX_REMEMBERED = 2000
TROUBLE = frozenset({"warning", "error", "critical"})
CHANGING = frozenset({"timestamp", "retry_seconds", "milliseconds", "remaining"})
"""Fields in which two lines may differ and still say the same."""

REDACTED = "[redacted]"
_SECRETS = re.compile(
    r"(?P<scheme>\b(?:Basic|Bearer)\s+)[A-Za-z0-9+/=._~-]{8,}"
    r"|\b(?:local-)?[0-9a-f]{40}\b"  # W&B's API keys
    r"|\bwandb_v1_\w{20,}"
    r"|(?P<parameter>[?&](?:X-Amz-Signature|X-Amz-Credential|X-Goog-Signature|Signature|sig|token)=)[^&\s'\"]+"
    r"|(?P<user>://)[^/\s:@]+:[^/\s@]+(?=@)"
)

Event = MutableMapping[str, Any]


class Quieter:
    """Drops a warning or an error that says what was said within `QUIET`; the next one that is told says how many."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()

    def __call__(self, _logger: Any, method: str, event: Event) -> Event:
        if method not in TROUBLE:
            return event
        said = tuple(f"{name}={value}" for name, value in sorted(event.items()) if name not in CHANGING)
        now = self._clock()
        at, dropped = self._told.get(said, (float("-inf"), 0))
        if now - at < QUIET.total_seconds():
            self._told[said] = (at, dropped + 1)
            raise structlog.DropEvent
        self._told[said] = (now, 0)
        self._told.move_to_end(said)
        if len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)
        if dropped:
            event["repeated"] = dropped
        return event


def without_secrets(_logger: Any, _method: str, event: Event) -> Event:
    """Blank what looks like a credential: messages come from servers and libraries, and may hold what was sent."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _SECRETS.sub(_blanked, value)
    return event


def _blanked(found: re.Match[str]) -> str:
    kept = found["scheme"] or found["parameter"] or found["user"] or ""
    return f"{kept}{REDACTED}"
