"""Describes a revision's parts: the versions that it is made of, and the changes from one revision to another.

A revision's name contains only its model's version, so messages show the rest. For messages only: the planner must
never decide by these texts.
"""

from collections.abc import Sequence

from modelsync.api.parts import MODEL, part_label
from modelsync.rollout.model import Part

_MOST = 4
"""Parts listed in one message; the status has all of them."""


def versions(version: str, parts: Sequence[Part]) -> str:
    """`v7`, or `v7 with artifact prompts v2`."""
    others = [f"{part_label(part.key)} {part.version}" for part in parts if part.key != MODEL]
    return f"{version} with {_listed(others)}" if others else version


def difference(before: Sequence[Part], after: Sequence[Part]) -> str:
    """`artifact prompts v2 -> v3`; empty if there is only a model, or nothing changed."""
    old, new = {part.key: part for part in before}, {part.key: part for part in after}
    if not (old.keys() | new.keys()) - {MODEL}:
        return ""
    changes = []
    for key in dict.fromkeys((*new, *old)):
        one, other = old.get(key), new.get(key)
        if one is None and other is not None:
            changes.append(f"{part_label(key)} {other.version} added")
        elif one is not None and other is None:
            changes.append(f"{part_label(key)} removed")
        elif one is not None and other is not None and one.digest != other.digest:
            changes.append(f"{part_label(key)} {one.version} -> {other.version}")
    return _listed(changes)


def _listed(items: Sequence[str]) -> str:
    more = len(items) - _MOST
    return ", ".join(items[:_MOST]) + (f" and {more} more" if more > 0 else "")
