"""Mistakes in user input, with messages that tell the user how to fix them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """The field (`spec.serving.args[2]`), and a message with the value, what is allowed and what to do next."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class SpecError(ValueError):
    """A spec that is not valid. `problems` has one entry for each mistake; `str()` is all of them in one line."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)


_FIELD = re.compile("[A-Za-z][A-Za-z0-9]*")
_SENTENCES = {
    "missing": "is required; set it",
    "extra_forbidden": "is not a known field; remove it or check its spelling",
}


def explain(error: ValidationError, *, root: str) -> list[FieldProblem]:
    """Converts pydantic's errors to problems of fields below `root` (`spec`), with the JSON field names."""
    return [_problem(dict(item), root) for item in error.errors(include_url=False, include_context=False)]


def _problem(item: dict[str, object], root: str) -> FieldProblem:
    location = item["loc"]
    path = root
    for part in location if isinstance(location, tuple) else ():
        if part == "[key]":  # pydantic's marker for a map key; the key itself is the part before it
            continue
        plain = isinstance(part, str) and _FIELD.fullmatch(part)
        path += f"[{part}]" if not plain else f".{part}" if path else str(part)
    kind = str(item["type"])
    if kind in _SENTENCES:
        return FieldProblem(path, _SENTENCES[kind])
    text = str(item["msg"]).removeprefix("Value error, ")
    if kind == "value_error":
        return FieldProblem(path, text)
    return FieldProblem(path, f"{_shown(item.get('input'))} is not valid: {text[:1].lower()}{text[1:]}")


def _shown(value: object) -> str:
    try:
        shown = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or a number of more digits than Python prints
        return f"this {type(value).__name__}"
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
