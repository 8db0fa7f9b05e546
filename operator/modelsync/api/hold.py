"""Holds: the marks in the registry that forbid a version to serve, what a hold does, and `spec.hold`.

The one place that lists the kinds of marks. A new kind is a member of `HoldSource` with its wording here; how it is
read, and when it counts as gone, is in `registry.holds`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelsync.api.base import ApiModel, Matches, Unique
from modelsync.api.model_ref import CollectionRef, InvalidReferenceError

Tag = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Matches("^[-A-Za-z0-9_]+( +[-A-Za-z0-9_]+)*$", "is no W&B tag; tags hold letters, digits, -, _ and single spaces"),
]
AliasPattern = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Matches(r"^[^/:\[\]]+$", "is no W&B alias; leave out / and :, and of patterns use * and ? only"),
]


class HoldSource(StrEnum):
    """What carries a hold mark in the registry."""

    VERSION_TAG = "VersionTag"
    COLLECTION_TAG = "CollectionTag"
    ALIAS = "Alias"


@dataclass(frozen=True, slots=True)
class SourceWording:
    """How messages name a source. `removal` takes the fields of a `HoldMark`."""

    owner: str
    """Before the mark's name: `its tag 'regulatory-hold'`."""
    place: str
    """Before the version: `a tag on the version acme/models/chat:v7`."""
    removal: str
    """What a person does to end the hold."""


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
    """`v7`, as that collection counts."""
    via: HoldSource
    name: str
    """The tag or alias, as it stands there: `regulatory-hold`, `regulatory-hold v7`."""

    @property
    def home(self) -> CollectionRef | None:
        """The collection, to be asked about; None when its name is no reference, so that nothing can be."""
        try:
            return CollectionRef.parse(self.collection)
        except InvalidReferenceError:
            return None


class HoldAction(StrEnum):
    """What a hold on the version that serves does. `Block` is the stronger; the administrator may demand it."""

    FALLBACK = "Fallback"
    BLOCK = "Block"


class Hold(ApiModel):
    """Marks in the registry that forbid a version to serve. They add to the administrator's and never weaken them."""

    tags: Annotated[list[Tag], Field(max_length=16), Unique()] = Field(
        default_factory=list,
        description="Tags that hold: on a version; on a collection, all of it; on a collection as `<tag> v7`, that "
        "version.",
    )
    aliases: Annotated[list[AliasPattern], Field(max_length=16), Unique()] = Field(
        default_factory=list,
        description="Aliases that hold the version they are on. `*` and `?` stand for any characters, since an alias "
        "can be on one version of a collection only.",
    )
    action: HoldAction = Field(
        HoldAction.FALLBACK,
        description="When the version that serves is held: Fallback serves the newest promoted version that is not "
        "held, and nothing if there is none; Block serves nothing. The administrator may demand Block.",
    )
