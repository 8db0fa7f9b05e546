"""Reads a pod's answer when its fuse is triggered. The pod is a tenant's: an unreadable answer proves nothing."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelsync.api.foreign_json import ForeignJSONError, read_object

MAX_BYTES = 4096
"""Of an answer; more is cut, and then unreadable."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """One pod's answer: whether all its server processes are silent, and when it sent the last byte, if any."""

    whole: bool
    last_byte: datetime | None


def read_acknowledgement(body: bytes, now: datetime) -> Acknowledgement:
    """Read the middleware's answer. Any successful response means that the process that sent it is silent.

    The answer contains the age of the last byte instead of its time, since the clocks of node and operator may differ.
    """
    try:
        answer = read_object(body, max_bytes=MAX_BYTES)
    except ForeignJSONError:
        return Acknowledgement(whole=False, last_byte=None)
    age: Any = answer.get("lastByteAge")
    known = isinstance(age, int | float) and 0 <= age < 10**9
    return Acknowledgement(
        # An older middleware, which supports only one process, sends no numbers.
        whole=answer.get("processes") == answer.get("acknowledged"),
        last_byte=now - timedelta(seconds=age) if known else None,
    )
