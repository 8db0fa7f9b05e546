"""structlog processors that drop repeated warnings and redact credentials.

They may drop a line or redact a part of it. They must never raise anything but DropEvent.
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
FILTERED_LEVELS = frozenset({"warning", "error", "critical"})
IGNORED_FIELDS = frozenset({"timestamp", "retry_seconds", "milliseconds", "remaining"})
"""Two lines that differ only in these fields count as the same line."""

REDACTED = "[redacted]"
_SECRETS = re.compile(
    r"(?P<scheme>\b(?:Basic|Bearer)\s+)[A-Za-z0-9+/=._~-]{8,}"
    r"|\b(?:local-)?[0-9a-f]{40}\b"  # W&B's API keys
    r"|\bwandb_v1_\w{20,}"
    r"|(?P<parameter>[?&](?:X-Amz-Signature|X-Amz-Credential|X-Goog-Signature|Signature|sig|token)=)[^&\s'\"]+"
    r"|(?P<user>://)[^/\s:@]+:[^/\s@]+(?=@)"
)

Event = MutableMapping[str, Any]


class RepeatFilter:
    """Drops a warning or an error that was logged within `QUIET`; the next one that is logged has their number."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()

    def __call__(self, _logger: Any, method: str, event: Event) -> Event:
        if method not in FILTERED_LEVELS:
            return event
        line = tuple(f"{name}={value}" for name, value in sorted(event.items()) if name not in IGNORED_FIELDS)
        now = self._clock()
        at, dropped = self._seen.get(line, (float("-inf"), 0))
        if now - at < QUIET.total_seconds():
            self._seen[line] = (at, dropped + 1)
            raise structlog.DropEvent
        self._seen[line] = (now, 0)
        self._seen.move_to_end(line)
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        if dropped:
            event["repeated"] = dropped
        return event


def without_secrets(_logger: Any, _method: str, event: Event) -> Event:
    """Redact what looks like a credential: messages of servers and libraries may contain what was sent to them."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _SECRETS.sub(_redacted, value)
    return event


def _redacted(found: re.Match[str]) -> str:
    kept = found["scheme"] or found["parameter"] or found["user"] or ""
    return f"{kept}{REDACTED}"
