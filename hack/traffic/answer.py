"""The record of one request from the client's view, and its outcome."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of a request."""

    OK = "ok"
    BLOCKED = "blocked"  # 503 without a version header: the gateway has no endpoint
    REFUSED = "refused"  # 451: refused by a held version
    LOST = "lost"


class Way(StrEnum):
    """The transport of a request."""

    KEPT = "HTTP/1.1, kept alive"
    NEW = "HTTP/1.1, new connection"
    HTTP2 = "HTTP/2"


@dataclass(slots=True)
class Answer:
    """One request. Times are `time.monotonic()` seconds; `last_byte` moves while a stream runs.

    `retries`: how often it was resent because the server had not started to process it (RFC 9113 §8.7).
    `late`: seconds by which it was sent too late, which is the client's own lag.
    """

    stream: bool
    sent: float
    way: Way = Way.KEPT
    first_byte: float | None = None
    last_byte: float | None = None
    done: float | None = None
    status: int | None = None
    revision: str | None = None
    outcome: Outcome | None = None
    detail: str = ""
    retries: int = 0
    late: float = 0.0
