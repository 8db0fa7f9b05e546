"""References to what W&B holds, as people write them: `entity/project/collection:alias`.

A registry is a project too: `org/wandb-registry-<registry>/<collection>:<alias>`, with the organization's entity name
in front. Names may hold spaces. The alias is required, since what a server does with a bare collection is not
documented; `:v12` names one version for good. Nothing here asks a server.
"""

import re
from dataclasses import dataclass
from typing import Self

REGISTRY_PREFIX = "wandb-registry-"
MAX_NAME = 128
"""Characters of a project, a collection or an alias (wandb.sdk.artifacts._validators)."""

_NAME = r"[^/\\#?%:\s\x00-\x1f\x7f](?:[^/\\#?%:\x00-\x1f\x7f]{0,126}[^/\\#?%:\s\x00-\x1f\x7f])?"
_COLLECTION = r"[^/:\s\x00-\x1f\x7f](?:[^/:\x00-\x1f\x7f]{0,126}[^/:\s\x00-\x1f\x7f])?"
REFERENCE_PATTERN = rf"^{_NAME}/{_NAME}/{_COLLECTION}:{_COLLECTION}$"
"""For a CRD's `pattern` (RE2). It refuses nothing that `ModelRef.parse` accepts; `parse` says what is wrong."""

_PARTS = {"entity": _NAME, "project": _NAME, "collection": _COLLECTION, "alias": _COLLECTION}
_EXAMPLE = "acme/wandb-registry-model/chat llm:production"
_FORM = f"write entity/project/collection:alias, as in {_EXAMPLE!r}"


class InvalidReferenceError(ValueError):
    """A text is no reference; the message says what is wrong, what is allowed, and what to write."""


def is_version(alias: str) -> bool:
    """Tell whether `alias` is one of the names that W&B itself gives to versions: `v0`, `v12`."""
    number = alias[1:]  # no pattern: this is asked for every alias of every collection on every poll
    return alias[:1] == "v" and number.isascii() and number.isdigit() and (number == "0" or number[0] != "0")


@dataclass(frozen=True, slots=True, order=True)
class CollectionRef:
    """A collection: the home of versions and aliases."""

    entity: str
    project: str
    collection: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `entity/project/collection`. Raises InvalidReferenceError."""
        if ":" in text:
            raise InvalidReferenceError(f"{text!r} names an alias; write entity/project/collection only")
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
            raise InvalidReferenceError(f"{text!r} is a URL and no reference; {_FORM}")
        path, colon, alias = text.partition(":")
        names = path.split("/")
        if not colon:
            raise InvalidReferenceError(
                f"{text!r} names no alias; add one, as in '{text}:production', or pin a version, as in '{text}:v12'"
            )
        if len(names) == 2 and names[0].startswith(REGISTRY_PREFIX):
            raise InvalidReferenceError(
                f"{text!r} names a registry without its organization; write the organization's entity name in front, "
                f"as in 'acme/{text}'"
            )
        if len(names) != 3:
            raise InvalidReferenceError(f"{text!r} has {len(names)} names before the alias where 3 are needed; {_FORM}")
        parts = dict(zip(_PARTS, (*names, alias), strict=True))
        for what, part in parts.items():
            if problem := _problem(what, part):
                raise InvalidReferenceError(f"{text!r}: the {what} {problem}; {_FORM}")
        return cls(**parts)

    @property
    def in_collection(self) -> CollectionRef:
        """The collection that the alias stands in."""
        return CollectionRef(self.entity, self.project, self.collection)

    @property
    def is_pinned(self) -> bool:
        """Whether this names a version for good (`:v12`) instead of an alias that may move."""
        return is_version(self.alias)

    @property
    def is_registry(self) -> bool:
        """Whether the project is a registry of an organization."""
        return self.project.startswith(REGISTRY_PREFIX)

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}/{self.collection}:{self.alias}"


def _problem(what: str, name: str) -> str:
    """Say what is wrong with one name, or return an empty text."""
    if not name:
        return "is empty"
    if name != name.strip():
        return f"{name!r} begins or ends with white space"
    if len(name) > MAX_NAME:
        return f"has {len(name)} characters, at most {MAX_NAME} are allowed"
    if what == "project" and name == REGISTRY_PREFIX:
        return f"{name!r} names no registry after 'wandb-registry-'"
    if not re.fullmatch(_PARTS[what], name):
        forbidden = "/ :" if what in ("collection", "alias") else r"/ \ # ? % :"
        return (
            f"{name!r} holds a character that W&B allows in no {what} (not allowed: {forbidden} and control characters)"
        )
    return ""
