"""One request as its user saw it: what a client wrote down, and how the request ended."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a request ended."""

    OK = "ok"
    BLOCKED = "blocked"  # 503 without a version header: the gateway has no endpoint
    REFUSED = "refused"  # 451: a held version says no
    LOST = "lost"


class Way(StrEnum):
    """How a request travels."""

    KEPT = "HTTP/1.1, kept alive"
    NEW = "HTTP/1.1, new connection"
    HTTP2 = "HTTP/2"


@dataclass(slots=True)
class Answer:
    """One request. Times are `time.monotonic()` seconds; `last_byte` moves while a stream runs.

    `retries`: how often it was sent anew because the server said that it had not begun to process it (RFC 9113 §8.7).
    `late`: seconds that it was sent after it was due, which is the client's own lag.
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
