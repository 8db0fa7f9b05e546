"""Reads JSON that somebody else wrote: a server, a pod, an artifact's author, a tenant.

Bounded in size and depth, linear, and with one kind of error. Python's own reader takes `NaN`, numbers that become
infinite, repeated keys (another reader would take the first, so that one text has two meanings), and nesting up to the
recursion limit, where whoever walks the result fails.
"""

import json
import re
from typing import Any

MAX_DEPTH = 32
"""Deeper than anything that modelsync reads."""

KUBERNETES_DEPTH = 100
"""The API's own objects are nested at most 20 deep, in a list."""

MAX_DIGITS = 300
"""Of an integer. Longer ones take quadratic time to read, and `float` raises OverflowError for them."""

# A string that never ends goes up to the end of the text, or each of its quotes would be tried as a beginning.
_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)


class ForeignJSONError(ValueError):
    """The text is not JSON that modelsync reads. The message is one line and quotes nothing of the text but a key."""


class RepeatedKeyError(ForeignJSONError):
    """An object has a key twice."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key[:100]!r} is there twice")
        self.key = key


def read_json(text: str | bytes, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> Any:
    """Parse `text`, at most `max_bytes` long. Objects become dicts, numbers are finite. Raises ForeignJSONError."""
    if len(text) > max_bytes:
        raise ForeignJSONError(f"it has more than {max_bytes} bytes")
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError:
        raise ForeignJSONError("it is not UTF-8") from None
    _check_depth(decoded, max_depth)
    try:
        return json.loads(
            decoded, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
        )
    except json.JSONDecodeError as error:
        raise ForeignJSONError(f"{error.msg} at character {error.pos}") from None
    except RecursionError:  # unbalanced brackets within strings that never end
        raise ForeignJSONError("it is nested too deeply") from None


def read_object(text: str | bytes, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """`read_json` of a text that must be an object. Raises ForeignJSONError."""
    found = read_json(text, max_bytes=max_bytes, max_depth=max_depth)
    if not isinstance(found, dict):
        raise ForeignJSONError("it is not a JSON object")
    return found


def read_shallow(text: str, max_depth: int = KUBERNETES_DEPTH) -> Any:
    """Parse JSON with null for what is nested too deeply for Python: one object in a list must not hide the others.

    Raises ValueError.
    """
    try:
        return json.loads(text)
    except RecursionError:
        pass
    try:
        return json.loads(without_deep_values(text, max_depth))
    except RecursionError:  # brackets that never close
        raise ForeignJSONError("it is nested too deeply") from None


def is_deep(text: str, max_depth: int) -> bool:
    """Whether values in `text` are nested more than `max_depth` deep."""
    try:
        _check_depth(text, max_depth)
    except ForeignJSONError:
        return True
    return False


def without_deep_values(text: str, max_depth: int) -> str:
    """`text` with null instead of each value that is nested more than `max_depth` deep. Linear."""
    kept, start, depth = [], 0, 0
    for token in _TOKENS.finditer(text):
        first = text[token.start()]
        if first in "[{":
            if depth == max_depth:
                kept.append(text[start : token.start()])
            depth += 1
        elif first != '"':
            depth -= 1
            if depth == max_depth:
                kept.append("null")
                start = token.end()
    return "".join((*kept, text[start:])) if depth <= max_depth else text


def _check_depth(text: str, max_depth: int) -> None:
    if text.count("[") + text.count("{") <= max_depth:
        return
    depth = 0
    for token in _TOKENS.finditer(text):
        first = text[token.start()]
        if first in "[{":
            depth += 1
            if depth > max_depth:
                raise ForeignJSONError(f"it is nested more than {max_depth} deep")
        elif first != '"':
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RepeatedKeyError(_repeated(pairs))
    return found


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    return ""


def _constant(name: str) -> Any:
    raise ForeignJSONError(f"{name} is not a JSON number")


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ForeignJSONError("a number is too large")
    return value


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ForeignJSONError(f"a number has more than {MAX_DIGITS} digits")
    return int(digits)
