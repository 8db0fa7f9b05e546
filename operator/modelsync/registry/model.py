"""The queries to a W&B server and their possible answers.

All frozen. Times are excluded from comparisons: two answers are equal when their content is. Those for people are aware
UTC datetimes. A failure is no evidence about what exists; only `Resolved`, `CollectionRead` and `ArtifactRead` may
cause a change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Literal, TypeAlias, TypeVar

from modelsync.api.hold import HoldMark, HoldSource
from modelsync.api.model_ref import CollectionRef, ModelRef

# --- questions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HoldNames:
    """Which registry names mean a hold: tags, and aliases as shell patterns (`regulatory-hold-*`). Kept in lower case,
    because names are compared without case: `Regulatory-Hold` must not be a mark that holds nothing."""

    tags: frozenset[str] = frozenset()
    aliases: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", frozenset(tag.lower() for tag in self.tags))
        object.__setattr__(self, "aliases", frozenset(alias.lower() for alias in self.aliases))


@dataclass(frozen=True, slots=True, order=True)
class ServedVersion:
    """A version that is exposed, warm or promoted: it is watched on its own, wherever its alias points."""

    collection: CollectionRef
    version: str
    """Its name in that collection, `v7`."""
    artifact_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class Question:
    """What one ModelDeployment needs to know from one server."""

    refs: frozenset[ModelRef]
    served: frozenset[ServedVersion] = frozenset()
    hold: HoldNames = HoldNames()
    latched: frozenset[HoldMark] = frozenset()
    """Marks seen before. Their collections are read too: only a positive read ends a hold."""

    @property
    def all_refs(self) -> frozenset[ModelRef]:
        """The requested aliases, each served version by its own name, and each version that had a mark of its own.

        The last may belong to another ModelDeployment, which may be gone: the mark ends when its version is read.
        """
        served = {served.collection.at(served.version) for served in self.served}
        marked = {
            home.at(mark.version)
            for mark in self.latched
            if mark.via is HoldSource.VERSION_TAG and (home := mark.home) is not None
        }
        return self.refs | served | marked

    @property
    def collections(self) -> frozenset[CollectionRef]:
        """Every collection whose tags and aliases are relevant."""
        named = {ref.in_collection for ref in self.all_refs}
        return frozenset(named | {home for mark in self.latched if (home := mark.home) is not None})


# --- positive answers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """An artifact's membership in one collection: its source sequence, or a collection that it was linked to."""

    collection: CollectionRef
    version: str
    """`v7`, as numbered in this collection: a registry's v3 may be the source's v7."""
    aliases: frozenset[str]
    """User-defined aliases, without W&B's own `v7`."""
    collection_tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Artifact:
    """The properties that are the same wherever the artifact is linked."""

    artifact_id: str
    digest: str
    digest_algorithm: str | None
    """`MANIFEST_MD5` or `MANIFEST_XXH128`; None from servers that know MD5 only."""
    state: str
    """`COMMITTED`, `PENDING` (still being logged) or `DELETED`."""
    size: int
    """Bytes, including references."""
    file_count: int
    type: str
    tags: frozenset[str]
    metadata: str
    """The JSON text as returned by the server; empty when there is none."""
    created_at: str
    """RFC 3339, as returned by the server."""
    updated_at: str = field(compare=False)
    """RFC 3339, as returned by the server; also changes for reasons that are irrelevant here."""
    source: CollectionRef | None
    """The sequence that it was logged to; None when this credential cannot see it (wandb/wandb#7201)."""
    source_version: str | None
    links: tuple[Link, ...]
    """Every link that this credential can see."""
    whole: bool = True
    """All links, and all tags of their collections, were read. If not, a mark that is missing proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """When a query was sent and answered. The answer does not cover changes after `asked_at`."""

    asked_at: datetime = field(compare=False)
    answered_at: datetime = field(compare=False)
    asked: float = field(default=0.0, compare=False)
    """`asked_at` in seconds of `graphql.clock`. Answers are ordered by this: a wall clock that steps back would make a
    new answer look older than a known one, and hide its holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved(Answered):
    """The version that the reference names."""

    ref: ModelRef
    collection_ref: CollectionRef
    """As the server names it, which differs for a migrated path or an organization's display name."""
    version_index: int
    aliases: frozenset[str]
    """Aliases of this version in this collection, without W&B's own `v7`."""
    collection_tags: frozenset[str]
    artifact: Artifact

    @property
    def whole(self) -> bool:
        """See Artifact.whole."""
        return self.artifact.whole

    @property
    def entity(self) -> str:
        """The entity that owns the collection."""
        return self.collection_ref.entity

    @property
    def project(self) -> str:
        """The project or registry of the collection."""
        return self.collection_ref.project

    @property
    def collection(self) -> str:
        """The collection's name."""
        return self.collection_ref.collection

    @property
    def alias(self) -> str:
        """The requested alias or version."""
        return self.ref.alias

    @property
    def version(self) -> str:
        """The version in this collection, `v7`."""
        return f"v{self.version_index}"

    @property
    def source_version(self) -> str | None:
        """The version in the source sequence."""
        return self.artifact.source_version

    @property
    def artifact_id(self) -> str:
        """The immutable id of the artifact."""
        return self.artifact.artifact_id

    @property
    def digest(self) -> str:
        """The digest of the artifact's manifest, hexadecimal."""
        return self.artifact.digest

    @property
    def digest_algorithm(self) -> str | None:
        """See Artifact.digest_algorithm."""
        return self.artifact.digest_algorithm

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self.artifact.size

    @property
    def file_count(self) -> int:
        """Number of files."""
        return self.artifact.file_count

    @property
    def tags(self) -> frozenset[str]:
        """Tags on the version itself; they are the same through every link."""
        return self.artifact.tags

    @property
    def metadata(self) -> str:
        """See Artifact.metadata."""
        return self.artifact.metadata

    @property
    def type(self) -> str:
        """The artifact's type, `model`."""
        return self.artifact.type

    @property
    def state(self) -> str:
        """See Artifact.state. Only `COMMITTED` can be pulled; `DELETED` versions are called withdrawn in the docs."""
        return self.artifact.state

    @property
    def created_at(self) -> str:
        """See Artifact.created_at."""
        return self.artifact.created_at

    @property
    def updated_at(self) -> str:
        """See Artifact.updated_at."""
        return self.artifact.updated_at

    @property
    def served(self) -> ServedVersion:
        """This version, as one to watch from now on."""
        return ServedVersion(self.ref.in_collection, self.version, self.artifact_id, self.digest)


@dataclass(frozen=True, slots=True)
class AliasedVersion:
    """Which version carries an alias."""

    alias: str
    version: str
    artifact_id: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionRead(Answered):
    """The tags and aliases of an existing collection."""

    collection: CollectionRef
    tags: frozenset[str]
    aliases: frozenset[str]
    """Every alias of every version, without W&B's own `v7`."""
    hold_aliases: frozenset[AliasedVersion]
    """The versions that carry an alias matching a hold pattern, as far as they could be read."""
    whole: bool = True
    """All tags and aliases were read. If not, a mark that is missing proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRead(Answered):
    """A served version, read by its id because its collection no longer shows it under its name."""

    artifact: Artifact

    @property
    def whole(self) -> bool:
        """See Artifact.whole."""
        return self.artifact.whole


# --- failures -------------------------------------------------------------------------------------------------------

Subject: TypeAlias = ModelRef | CollectionRef | str
"""What was queried; a string is an artifact's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing(Answered):
    """The subject does not exist or is not visible with this credential; the server does not distinguish the two."""

    subject: Subject
    what: Literal["project", "collection", "alias", "version"]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied(Answered):
    """The key is wrong, or has no access to the subject."""

    subject: Subject
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled(Answered):
    """The server asks to send nothing with this credential before `until`."""

    subject: Subject
    until: datetime
    resume: float = field(default=0.0, compare=False)
    """When holds are read again, in seconds of `graphql.clock`; can be before `until`."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable(Answered):
    """No usable answer: network, TLS, 5xx, a login page, or a rejected query."""

    subject: Subject
    message: str


Failure: TypeAlias = Missing | Denied | Throttled | Unreachable
Outcome: TypeAlias = Resolved | Failure
CollectionOutcome: TypeAlias = CollectionRead | Failure
ArtifactOutcome: TypeAlias = ArtifactRead | Failure


@dataclass(frozen=True, slots=True)
class Reading:
    """The answers of one query round. `artifacts` holds only served versions that had to be read by id."""

    refs: Mapping[ModelRef, Outcome]
    collections: Mapping[CollectionRef, CollectionOutcome]
    artifacts: Mapping[str, ArtifactOutcome]
    silent: bool = False
    """The server did not answer at all."""


# --- what is kept between query rounds ------------------------------------------------------------------------------

Positive = TypeVar("Positive", Resolved, CollectionRead, ArtifactRead)


@dataclass(frozen=True, slots=True)
class Kept(Generic[Positive]):
    """The newest answer about one subject, and the newest positive one."""

    latest: Positive | Failure
    positive: Positive | None
    since: datetime
    """Since when the answers have been of the same kind as `latest`."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known for one question. A missing key has not been answered yet."""

    refs: Mapping[ModelRef, Kept[Resolved]]
    collections: Mapping[CollectionRef, Kept[CollectionRead]]
    artifacts: Mapping[str, Kept[ArtifactRead]]
