"""Holds: the marks in the registry that forbid a version to serve, what a hold does, and `spec.hold`.

The only list of the kinds of marks. A new kind needs a member of `HoldSource` and its wording here; `registry.holds`
defines how it is read and when it counts as removed.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelsync.api.base import ApiModel, Matches, Unique
from modelsync.api.duration import Between
from modelsync.api.model_ref import CollectionRef, InvalidReferenceError

Tag = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Matches(
        "^[-A-Za-z0-9_]+( +[-A-Za-z0-9_]+)*$",
        "is not a valid W&B tag; tags contain letters, digits, -, _ and single spaces",
    ),
]
AliasPattern = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Matches(r"^[^/:\[\]]+$", "is not a valid W&B alias or pattern; do not use /, :, [ or ]; the wildcards are * and ?"),
]


class HoldSource(StrEnum):
    """The kind of a hold mark."""

    VERSION_TAG = "VersionTag"
    COLLECTION_TAG = "CollectionTag"
    ALIAS = "Alias"


@dataclass(frozen=True, slots=True)
class SourceWording:
    """How messages describe a kind of mark. `removal` is a format string with the fields of a `HoldMark`."""

    owner: str
    """Goes before the mark's name: `its tag 'regulatory-hold'`."""
    place: str
    """Goes before the version: `a tag on the version acme/models/chat:v7`."""
    removal: str
    """What a user must do to end the hold."""


WORDING: dict[HoldSource, SourceWording] = {
    HoldSource.VERSION_TAG: SourceWording(
        owner="its tag",
        place="a tag on the version",
        removal="take the tag {name!r} off the version {collection}:{version}",
    ),
    HoldSource.COLLECTION_TAG: SourceWording(
        owner="the collection's tag",
        place="a tag on the collection of",
        removal="take the tag {name!r} off the collection {collection}",
    ),
    HoldSource.ALIAS: SourceWording(
        owner="its alias",
        place="an alias of",
        removal="take the alias {name!r} off {collection}:{version}; moving it to another version does not lift it",
    ),
}


@dataclass(frozen=True, slots=True, order=True)
class HoldMark:
    """One reason in the registry why a digest must not serve."""

    digest: str
    collection: str
    """`entity/project/collection`."""
    version: str
    """Version in that collection, such as `v7`."""
    via: HoldSource
    name: str
    """The tag or alias exactly as in the registry: `regulatory-hold`, `regulatory-hold v7`."""

    @property
    def home(self) -> CollectionRef | None:
        """The collection to query; None when its name is not valid, so that it cannot be queried."""
        try:
            return CollectionRef.parse(self.collection)
        except InvalidReferenceError:
            return None

    @property
    def effect(self) -> str:
        """What the mark does, for an event: `acme/models/chat:v7 must not serve: its tag 'x' puts it on hold`."""
        because = f"{WORDING[self.via].owner} {self.name!r}"
        return f"{self.collection}:{self.version} must not serve: {because} puts it on hold"


class HoldAction(StrEnum):
    """What a hold on the serving version does. `Block` is stricter; the administrator may require it."""

    FALLBACK = "Fallback"
    BLOCK = "Block"


class OnStale(StrEnum):
    """What becomes of what serves while its marks have not been read for longer than `maxStaleness`. Only the
    administrator decides it."""

    SERVE = "Serve"
    BLOCK = "Block"


MaxStaleness = Annotated[timedelta, Between("1m", "24h")]
"""Not shorter than two default poll intervals, or one lost request would count as silence."""


class Hold(ApiModel):
    """Marks in the registry that forbid a version to serve, in addition to the administrator's, which always apply."""

    tags: Annotated[list[Tag], Field(max_length=16), Unique()] = Field(
        default_factory=list,
        description="Tags that put a version on hold. On a version: that version. On a collection: all its versions. "
        "On a collection as `<tag> v7`: version v7. Case does not matter.",
    )
    aliases: Annotated[list[AliasPattern], Field(max_length=16), Unique()] = Field(
        default_factory=list,
        description="Aliases that put the version they point to on hold. `*` matches any characters and `?` one "
        "character: an alias can point to only one version of a collection, so several holds need several aliases. "
        "Case does not matter.",
    )
    action: HoldAction = Field(
        HoldAction.FALLBACK,
        description="What happens when the serving version is put on hold. Fallback: the newest promoted version that "
        "is not on hold serves, or nothing if there is none. Block: nothing serves. The administrator may require "
        "Block.",
    )
    max_staleness: MaxStaleness | None = Field(
        None,
        description="How long the registry may leave it unknown whether a version is on hold. After that nothing moves "
        "forward to the version, and the condition HoldsKnown is False. The administrator's limit applies if it is "
        "shorter, or if none is set here.",
    )
