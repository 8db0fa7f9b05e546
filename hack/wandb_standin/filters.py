"""The Mongo-like filters of W&B's searches and automations, as far as the SDK uses them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from wandb_standin.errors import RefusedError


def parse(text: str | None) -> dict[str, Any]:
    """A filter from its JSON text; an empty one matches everything.

    Raises:
        RefusedError: not a JSON object.
    """
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise RefusedError(f"a filter is a JSON object, not {text!r}")
    return value


def matches(condition: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether the facts satisfy the condition. A list matches if any item does; dotted names select nested fields.

    Raises:
        RefusedError: an unknown operator.
    """
    for key, wanted in condition.items():
        if key == "$and":
            good = all(matches(c, facts) for c in wanted)
        elif key == "$or":
            good = not wanted or any(matches(c, facts) for c in wanted)
        elif key == "$nor":
            good = not any(matches(c, facts) for c in wanted)
        elif key == "$not":
            good = not matches(wanted, facts)
        elif key.startswith("$"):
            raise RefusedError(f"unknown filter operator {key!r}")
        else:
            good = _holds(_fact(facts, key), wanted)
        if not good:
            return False
    return True


def _fact(facts: Mapping[str, Any], name: str) -> list[Any]:
    value: Any = facts.get(name)
    if value is None and "." in name:
        value = facts
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, list) else [] if value is None else [value]


def _holds(values: list[Any], wanted: Any) -> bool:
    if not isinstance(wanted, Mapping):
        return wanted in values
    return all(_operator(values, operator, operand) for operator, operand in wanted.items())


def _operator(values: list[Any], operator: str, operand: Any) -> bool:
    match operator:
        case "$eq":
            return operand in values
        case "$ne":
            return operand not in values
        case "$in":
            return any(v in operand for v in values)
        case "$nin":
            return all(v not in operand for v in values)
        case "$exists":
            return bool(values) == bool(operand)
        case "$contains":
            return any(str(operand) in str(v) for v in values)
        case "$regex":
            return any(re.search(operand, str(v)) for v in values)
        case "$gt":
            return any(v > operand for v in values)
        case "$gte":
            return any(v >= operand for v in values)
        case "$lt":
            return any(v < operand for v in values)
        case "$lte":
            return any(v <= operand for v in values)
        case "$not":
            return not _holds(values, operand)
    raise RefusedError(f"unknown filter operator {operator!r}")
