"""References to W&B artifacts, as users write them: `entity/project/collection:alias`.

A registry is a project too: `org/wandb-registry-<registry>/<collection>:<alias>`, with the organization's entity name
in front. Names may contain spaces. The alias is required, since W&B does not document what a server does with a bare
collection; `:v12` always names the same version. Nothing here queries a server.
"""

import re
from dataclasses import dataclass
from typing import Self

REGISTRY_PREFIX = "wandb-registry-"
MAX_NAME = 128
"""Maximum length of a project, collection or alias name (wandb.sdk.artifacts._validators)."""

_NAME = r"[^/\\#?%:\s\x00-\x1f\x7f](?:[^/\\#?%:\x00-\x1f\x7f]{0,126}[^/\\#?%:\s\x00-\x1f\x7f])?"
_COLLECTION = r"[^/:\s\x00-\x1f\x7f](?:[^/:\x00-\x1f\x7f]{0,126}[^/:\s\x00-\x1f\x7f])?"
REFERENCE_PATTERN = rf"^{_NAME}/{_NAME}/{_COLLECTION}:{_COLLECTION}$"
"""For a CRD's `pattern` (RE2). It accepts everything that `ModelRef.parse` accepts; `parse` gives better errors."""

_PARTS = {"entity": _NAME, "project": _NAME, "collection": _COLLECTION, "alias": _COLLECTION}
_EXAMPLE = "acme/wandb-registry-model/chat llm:production"
_FORM = f"write entity/project/collection:alias, such as {_EXAMPLE!r}"


class InvalidReferenceError(ValueError):
    """A text is not a valid reference; the message says what is wrong, what is allowed, and what to write."""


def is_version(alias: str) -> bool:
    """Whether `alias` is a version name, which W&B assigns: `v0`, `v12`."""
    number = alias[1:]  # no regular expression: this runs for every alias of every collection on every poll
    return alias[:1] == "v" and number.isascii() and number.isdigit() and (number == "0" or number[0] != "0")


@dataclass(frozen=True, slots=True, order=True)
class CollectionRef:
    """A collection, which contains versions and aliases."""

    entity: str
    project: str
    collection: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `entity/project/collection`. Raises InvalidReferenceError."""
        if ":" in text:
            raise InvalidReferenceError(f"{text!r} has an alias; write entity/project/collection only")
        ref = ModelRef.parse(f"{text}:latest")
        return cls(ref.entity, ref.project, ref.collection)

    def at(self, alias: str) -> "ModelRef":
        """Return the reference to `alias` (or to a version, `v7`) in this collection."""
        return ModelRef(self.entity, self.project, self.collection, alias)

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}/{self.collection}"


@dataclass(frozen=True, slots=True, order=True)
class ModelRef:
    """One version in one collection, by an alias that may move or by the version's own name."""

    entity: str
    project: str
    collection: str
    alias: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `entity/project/collection:alias`. Raises InvalidReferenceError."""
        if "://" in text:
            raise InvalidReferenceError(f"{text!r} is a URL, not a reference; {_FORM}")
        path, colon, alias = text.partition(":")
        names = path.split("/")
        if not colon:
            raise InvalidReferenceError(
                f"{text!r} has no alias; add one, such as '{text}:production', or pin a version, such as '{text}:v12'"
            )
        if len(names) == 2 and names[0].startswith(REGISTRY_PREFIX):
            raise InvalidReferenceError(
                f"{text!r} names a registry without its organization; write the organization's entity name in front, "
                f"such as 'acme/{text}'"
            )
        if len(names) != 3:
            raise InvalidReferenceError(f"{text!r} needs 3 names before the alias, but has {len(names)}; {_FORM}")
        parts = dict(zip(_PARTS, (*names, alias), strict=True))
        for what, part in parts.items():
            if problem := _problem(what, part):
                raise InvalidReferenceError(f"{text!r}: the {what} {problem}; {_FORM}")
        return cls(**parts)

    @property
    def in_collection(self) -> CollectionRef:
        """The collection that the alias belongs to."""
        return CollectionRef(self.entity, self.project, self.collection)

    @property
    def is_pinned(self) -> bool:
        """Whether this names a version (`:v12`) instead of an alias, which may move."""
        return is_version(self.alias)

    @property
    def is_registry(self) -> bool:
        """Whether the project is an organization's registry."""
        return self.project.startswith(REGISTRY_PREFIX)

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}/{self.collection}:{self.alias}"


def _problem(what: str, name: str) -> str:
    """What is wrong with one name; empty if nothing is."""
    if not name:
        return "is empty"
    if name != name.strip():
        return f"{name!r} starts or ends with whitespace"
    if len(name) > MAX_NAME:
        return f"has {len(name)} characters; at most {MAX_NAME} are allowed"
    if what == "project" and name == REGISTRY_PREFIX:
        return f"{name!r} has no registry name after 'wandb-registry-'"
    if not re.fullmatch(_PARTS[what], name):
        forbidden = "/ :" if what in ("collection", "alias") else r"/ \ # ? % :"
        return (
            f"{name!r} contains a character that W&B does not allow (not allowed: {forbidden} and control characters)"
        )
    return ""
