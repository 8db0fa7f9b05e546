"""`standin.json`: how the model in this folder behaves, and misbehaves.

The file is part of the artifact and the only source of faults. It is deterministic: rates are counted, not random. It
is validated before anything is loaded; an unknown key is an error, so that a misspelt fault does not go unnoticed.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

FAULTS_FILE = "standin.json"


class FaultsError(Exception):
    """`standin.json` is not valid; the message names the key and its allowed values."""


@dataclass(frozen=True)
class Faults:
    """The content of `standin.json`. Times in seconds, rates from 0 to 1, all optional."""

    load_seconds: float = 0.0
    """How long loading takes before the server listens."""
    ttft_seconds: float = 0.01
    """Time to the first token of each request."""
    token_seconds: float = 0.002
    """Time between two tokens."""
    tokens: int | None = None
    """Tokens after which the model stops; by default, as many as its text has words."""
    error_rate: float = 0.0
    """Share of requests answered 500. Counted: with 0.25, every 4th; below 1, the first request always succeeds."""
    stream_error_rate: float = 0.0
    """Share of streams that end with an error event instead of a finish_reason. Counted in the same way."""
    hang: bool = False
    """No request gets a token."""
    hang_after_requests: int | None = None
    """Requests after this many get no token. The request of the readiness probe counts."""
    never_ready: bool = False
    """Loading never finishes."""
    oom: bool = False
    """Loading fails as if the GPU had too little memory."""
    crash_on_load: bool = False
    """The process exits while loading."""
    crash_after_requests: int | None = None
    """The process crashes on the request after this many. The request of the readiness probe counts."""
    crash_after_seconds: float | None = None
    """The process crashes this long after it started to listen."""
    exit_code: int = 1
    """The exit code of these crashes."""

    def encode(self) -> bytes:
        """The file's content, without defaults."""
        defaults = asdict(Faults())
        content = {key: value for key, value in asdict(self).items() if value != defaults[key]}
        return (json.dumps(content, indent=2) + "\n").encode()


def parse_faults(raw: bytes) -> Faults:
    """The faults in the content of `standin.json`. Raises FaultsError."""
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise FaultsError(f"{FAULTS_FILE} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise FaultsError(f'{FAULTS_FILE} must be an object, e.g. {{"error_rate": 0.5}}')
    return make_faults(content)


def make_faults(content: Mapping[str, Any]) -> Faults:
    """The faults in a mapping in the form of `standin.json`. Raises FaultsError."""
    known = [field.name for field in fields(Faults)]
    for key, value in content.items():
        if key not in known:
            raise FaultsError(f"{FAULTS_FILE}: unknown key {key!r}; allowed are {', '.join(known)}")
        problem = _problem(key, value)
        if problem:
            raise FaultsError(f"{FAULTS_FILE}: {key} is {value!r}; it must be {problem}")
    return Faults(**content)


def _problem(key: str, value: Any) -> str | None:
    """What `key` must be if `value` is not valid, else None."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    whole = number and isinstance(value, int)
    if key.endswith("_rate"):
        return None if number and 0 <= value <= 1 else "a number from 0 to 1"
    if key.endswith("_seconds"):
        return None if number and value >= 0 else "a number of seconds, at least 0"
    if key.endswith("_requests"):
        return None if whole and value >= 0 else "a whole number, at least 0"
    if key == "tokens":
        return None if whole and value >= 1 else "a whole number, at least 1"
    if key == "exit_code":
        return None if whole and 1 <= value <= 255 else "a whole number from 1 to 255"
    return None if isinstance(value, bool) else "true or false"


def due(rate: float, count: int) -> bool:
    """Whether the `count`-th event (from 1) belongs to the share `rate`; evenly spread, the same in every run."""
    return math.floor(count * rate + 1e-9) > math.floor((count - 1) * rate + 1e-9)
