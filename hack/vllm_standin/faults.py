"""`standin.json`: how the model in this folder behaves, and misbehaves.

The file is part of the artifact, the only source of faults, and deterministic: rates are counted, not drawn. It is
checked before anything is loaded; an unknown key is an error, so that a misspelt fault cannot pass for a good version.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

FAULTS_FILE = "standin.json"


class FaultsError(Exception):
    """`standin.json` is not valid; the message names the key and what it may hold."""


@dataclass(frozen=True)
class Faults:
    """What `standin.json` may say. Times in seconds, rates from 0 to 1, all optional."""

    load_seconds: float = 0.0
    """How long loading takes before the server listens."""
    ttft_seconds: float = 0.01
    """Time to the first token of each request."""
    token_seconds: float = 0.002
    """Time between two tokens."""
    tokens: int | None = None
    """Tokens the model says before it stops by itself; without it, as many as its text has words."""
    error_rate: float = 0.0
    """Share of requests answered 500. Counted: with 0.25, each 4th; below 1 the first request always succeeds."""
    stream_error_rate: float = 0.0
    """Share of streams that end in an error event instead of a finish_reason. Counted in the same way."""
    hang: bool = False
    """No request ever gets a token."""
    hang_after_requests: int | None = None
    """The requests after that many get no token. The readiness probe's request counts as one."""
    never_ready: bool = False
    """Loading never ends."""
    oom: bool = False
    """Loading ends as when the GPU's memory does not suffice."""
    crash_on_load: bool = False
    """The process exits while loading."""
    crash_after_requests: int | None = None
    """The process dies on the request after that many. The readiness probe's request counts as one."""
    crash_after_seconds: float | None = None
    """The process dies so long after it began to listen."""
    exit_code: int = 1
    """The exit code of any of these crashes."""

    def encode(self) -> bytes:
        """The file's content, without what is default."""
        defaults = asdict(Faults())
        said = {key: value for key, value in asdict(self).items() if value != defaults[key]}
        return (json.dumps(said, indent=2) + "\n").encode()


def parse_faults(raw: bytes) -> Faults:
    """The faults in the content of `standin.json`. Raises FaultsError."""
    try:
        said = json.loads(raw)
    except ValueError as error:
        raise FaultsError(f"{FAULTS_FILE} is not JSON: {error}") from None
    if not isinstance(said, dict):
        raise FaultsError(f'{FAULTS_FILE} must hold an object, e.g. {{"error_rate": 0.5}}')
    return make_faults(said)


def make_faults(said: Mapping[str, Any]) -> Faults:
    """The faults in a mapping as `standin.json` holds it. Raises FaultsError."""
    known = [field.name for field in fields(Faults)]
    for key, value in said.items():
        if key not in known:
            raise FaultsError(f"{FAULTS_FILE}: unknown key {key!r}; allowed are {', '.join(known)}")
        problem = _problem(key, value)
        if problem:
            raise FaultsError(f"{FAULTS_FILE}: {key} is {value!r}; it must be {problem}")
    return Faults(**said)


def _problem(key: str, value: Any) -> str | None:
    """What `key` must hold when `value` is not that, else None."""
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
    """Whether the `count`-th event (from 1) is one of the `rate` share: spread evenly, the same in each run."""
    return math.floor(count * rate + 1e-9) > math.floor((count - 1) * rate + 1e-9)
