"""Reads the API server's answers. They contain what others wrote, and the API server bounds its size but not its depth.

`data` of a ControllerRevision may be nested 10,000 deep. Python's reader fails there, for the whole list or watch that
the object is in: anyone who may create one with our label would stop the operator. So values that are nested deeper
than the API nests its own become null, and only their object suffers.
"""

from typing import Any

from modelsync.api.foreign_json import KUBERNETES_DEPTH, is_deep, read_shallow, without_deep_values

_SAFE_BRACKETS = 400
"""A text with so few brackets can't be nested too deep for Python, whoever calls its reader."""


def parse(content: bytes) -> Any:
    """Parse an answer. Raises ValueError if it is no JSON."""
    return read_shallow(content.decode())


def bounded_line(line: bytes) -> bytes:
    """One line of a watch, such that any reader of JSON can read it."""
    if not is_too_deep(text := line.decode(errors="replace")):
        return line
    return without_deep_values(text, KUBERNETES_DEPTH).encode()


def is_too_deep(text: str) -> bool:
    """Whether some reader or writer of JSON could fail at the depth of `text`."""
    return text.count("[") + text.count("{") > _SAFE_BRACKETS and is_deep(text, KUBERNETES_DEPTH)
