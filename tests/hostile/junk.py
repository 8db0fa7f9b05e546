"""Values that somebody else might put anywhere: what hypothesis draws from in this folder."""

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]
"""The way to a node of a JSON document: keys and indexes."""


def nested(depth: int) -> Any:
    """A list in a list, `depth` times."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


STRINGS = (
    "",
    " ",
    "\x00",
    "\ud800",
    "null",
    "9" * 401,
    "1e999",
    "NaN",
    "2026-11-21T08:00:00Z",
    "2026-11-21T08:00:00",
    "2026-11-21T08:00:00.999999999Z",
    "2026-02-30T25:61:61Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "modelsync.dev",
    "chat-blocked",
    "chat-v7-00000000",
    "http://[1]",
    "((((((((",
    '{"digest":"x","files":1e999}',
    '{"outcome":"Pulled","digest":"a","files":1,"bytes":2,"seconds":' + "9" * 401 + "}",
    '{"digest":' + "[" * 2000,
    "v" + "9" * 5000,
    "x" * 70_000,
)

NUMBERS = (0, -1, 1 << 31, 1 << 63, -(1 << 63) - 1, 10**400, 10**4000, 0.5, -0.0, 1e308, float("inf"), float("nan"))

scalars = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(STRINGS), st.text(max_size=20), st.integers()
)
values = st.one_of(
    scalars,
    st.sampled_from([[], {}, [None], [[]], [{}], {"": None}, nested(40), nested(400)]),
    st.lists(scalars, max_size=3),
    st.dictionaries(st.text(max_size=8), scalars, max_size=3),
    st.lists(st.dictionaries(st.sampled_from(["name", "type", "status", "uid"]), scalars, max_size=2), max_size=2),
)
"""Any JSON, and what JSON can't hold but Python's reader takes."""


def paths(document: Any, within: Path = ()) -> Iterator[Path]:
    """The way to every node of `document` but the document itself."""
    children: Iterator[tuple[str | int, Any]]
    if isinstance(document, dict):
        children = iter(document.items())
    elif isinstance(document, list):
        children = iter(enumerate(document))
    else:
        return
    for key, child in children:
        yield (*within, key)
        yield from paths(child, (*within, key))


GONE = object()
"""Instead of a value: remove the node."""


def replaced(document: Any, path: Path, value: Any) -> Any:
    """A copy of `document` with `value` at `path`."""
    if not path:
        return value
    copy: Any = dict(document) if isinstance(document, dict) else list(document)
    if len(path) == 1 and value is GONE:
        del copy[path[0]]
    else:
        copy[path[0]] = replaced(document[path[0]], path[1:], value)
    return copy


def as_text(document: Any) -> bytes:
    """`document` as a careless server writes it: with NaN, and with lone surrogates escaped."""
    return json.dumps(document).encode()
