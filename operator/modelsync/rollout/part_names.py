"""A revision's parts in words: which versions it is made of, and what changed from one revision to another.

A revision is named by its model's version only, so people are told the rest here. Nothing is decided by these words.
"""

from collections.abc import Sequence

from modelsync.api.parts import MODEL, part_label
from modelsync.rollout.model import Part

_MOST = 4
"""Parts told in one sentence; the status has them all."""


def versions(version: str, parts: Sequence[Part]) -> str:
    """`v7`, or `v7 with artifact prompts v2`."""
    others = [f"{part_label(part.key)} {part.version}" for part in parts if part.key != MODEL]
    return f"{version} with {_listed(others)}" if others else version


def difference(before: Sequence[Part], after: Sequence[Part]) -> str:
    """`artifact prompts v2 -> v3`; empty where there is nothing but a model, or nothing changed."""
    old, new = {part.key: part for part in before}, {part.key: part for part in after}
    if not (old.keys() | new.keys()) - {MODEL}:
        return ""
    changes = []
    for key in dict.fromkeys((*new, *old)):
        one, other = old.get(key), new.get(key)
        if one is None and other is not None:
            changes.append(f"{part_label(key)} {other.version} is new")
        elif one is not None and other is None:
            changes.append(f"{part_label(key)} is gone")
        elif one is not None and other is not None and one.digest != other.digest:
            changes.append(f"{part_label(key)} {one.version} -> {other.version}")
    return _listed(changes)


def _listed(items: Sequence[str]) -> str:
    more = len(items) - _MOST
    return ", ".join(items[:_MOST]) + (f" and {more} more" if more > 0 else "")
