"""What a pod answers when its fuse is blown. A pod of the model is a tenant's: what cannot be read proves nothing."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """One pod's answer: whether every server process in it is silent, and when the last byte left, if one did."""

    whole: bool
    last_byte: datetime | None


def read_acknowledgement(body: bytes, now: datetime) -> Acknowledgement:
    """What the middleware says. Any answer of success means that the process which gave it is silent.

    The last byte's age counts and not its time: the node's clock may be another than ours.
    """
    try:
        said: Any = json.loads(body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        return Acknowledgement(whole=False, last_byte=None)
    age: Any = said.get("lastByteAge")
    known = isinstance(age, int | float) and 0 <= age < 10**9
    return Acknowledgement(
        # Without numbers it is the middleware of an earlier version, which knew of one process.
        whole=said.get("processes") == said.get("acknowledged"),
        last_byte=now - timedelta(seconds=age) if known else None,
    )
