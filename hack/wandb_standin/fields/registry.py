"""The registry of resolvers by field; a field without one is the attribute of the same name in `model`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

Input: TypeAlias = dict[str, Any]
Resolver: TypeAlias = Callable[..., Any]
RESOLVERS: Final[dict[tuple[str, str], Resolver]] = {}


def resolver(*fields: str) -> Callable[[Resolver], Resolver]:
    """Register a function `(source, context, **arguments)` for `Type.field`s; argument names are in snake case."""

    def register(function: Resolver) -> Resolver:
        for name in fields:
            type_name, field_name = name.split(".")
            RESOLVERS[type_name, field_name] = function
        return function

    return register
