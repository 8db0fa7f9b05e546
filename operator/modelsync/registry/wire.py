"""The JSON shapes of W&B's responses, and their conversion to `registry.model`. Pure.

Responses are validated here, once: a part that does not match the schema raises UnexpectedShapeError with its path, and
never a KeyError somewhere else.

Servers cut lists into pages. A list is whole if its `pageInfo` says that nothing follows, or, where the server has no
`pageInfo` for it, if its length is not one at which servers usually cut (`_may_be_a_page`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from modelsync.api.model_ref import CollectionRef, ModelRef, is_version
from modelsync.registry.model import Artifact, ArtifactRead, Link, Resolved


class UnexpectedShapeError(Exception):
    """The server's response does not match its schema; the message names the part."""


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class _Named(_Wire):
    name: str


class _Project(_Wire):
    name: str
    entity: _Named


class _PageInfo(_Wire):
    has_next_page: bool
    end_cursor: str | None = None


class _List(_Wire):
    """What all connections have in common. `page_info` is None if the server has none for this one."""

    page_info: _PageInfo | None = None
    edges: Sequence[Any]

    @property
    def rest(self) -> "Rest | None":
        """Where the list goes on; None if it is whole."""
        if self.page_info is None:
            return Rest() if _may_be_a_page(len(self.edges)) else None
        return Rest(self.page_info.end_cursor or None) if self.page_info.has_next_page else None


class _TagEdge(_Wire):
    node: _Named


class _Tags(_List):
    edges: list[_TagEdge]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(edge.node.name for edge in self.edges)


class _Sequence(_Wire):
    name: str
    project: _Project | None

    @property
    def ref(self) -> CollectionRef | None:
        """None when this credential cannot see the project."""
        if self.project is None:
            return None
        return CollectionRef(self.project.entity.name, self.project.name, self.name)


class _Home(_Sequence):
    tags: _Tags


class _Alias(_Wire):
    alias: str


class _Link(_Wire):
    version_index: int | None
    aliases: list[_Alias]
    artifact_collection: _Home | None

    def model(self) -> Link | None:
        """None for a link without a name: not visible to this credential, or without a version number yet."""
        home = self.artifact_collection
        if home is None or home.ref is None or self.version_index is None:
            return None
        return Link(home.ref, f"v{self.version_index}", _given(self.aliases), home.tags.names)


class _LinkEdge(_Wire):
    node: _Link | None


class _Links(_List):
    edges: list[_LinkEdge]

    def models(self) -> list[Link]:
        return [link for edge in self.edges if edge.node is not None and (link := edge.node.model()) is not None]

    def cut_tags(self) -> "dict[CollectionRef, Rest]":
        homes = [edge.node.artifact_collection for edge in self.edges if edge.node is not None]
        return {home.ref: rest for home in homes if home and home.ref and (rest := home.tags.rest)}


class _Artifact(_Wire):
    id: str
    state: str
    digest: str
    digest_algorithm: str | None = None
    size: int
    file_count: int
    metadata: str | None
    version_index: int | None
    created_at: str
    updated_at: str | None
    tags: list[_Named]
    artifact_type: _Named
    artifact_sequence: _Sequence | None
    artifact_memberships: _Links | None

    def cut(self) -> "Cut":
        links = self.artifact_memberships
        if links is None:  # an error of the server: every artifact is linked to its source
            return Cut(links={self.id: Rest()})
        rest = links.rest
        return Cut(links={self.id: rest} if rest else {}, tags=links.cut_tags())

    def model(self, *, whole: bool) -> Artifact:
        links = self.artifact_memberships.models() if self.artifact_memberships else []
        return Artifact(
            artifact_id=self.id,
            digest=self.digest,
            digest_algorithm=self.digest_algorithm,
            state=self.state,
            size=self.size,
            file_count=self.file_count,
            type=self.artifact_type.name,
            tags=frozenset(tag.name for tag in self.tags),
            metadata=self.metadata or "",
            created_at=self.created_at,
            updated_at=self.updated_at or self.created_at,
            source=self.artifact_sequence.ref if self.artifact_sequence else None,
            source_version=f"v{self.version_index}" if self.version_index is not None else None,
            links=in_order(links),
            whole=whole,
        )


class _Membership(_Wire):
    version_index: int
    aliases: list[_Alias]
    artifact_collection: _Home | None
    artifact: _Artifact


class _AliasEdge(_Wire):
    node: _Alias | None


class _Aliases(_List):
    edges: list[_AliasEdge]


class _Collection(_Home):
    aliases: _Aliases


class _TagsOf(_Wire):
    tags: _Tags


class _LinksOf(_Wire):
    artifact_memberships: _Links


@dataclass(frozen=True, slots=True)
class Rest:
    """A list goes on, or may do so."""

    after: str | None = None
    """The cursor of the next page; None if the server gives none."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The lists of an answer that are not whole."""

    links: Mapping[str, Rest] = field(default_factory=dict)
    """By artifact id."""
    tags: Mapping[CollectionRef, Rest] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.links or self.tags)


@dataclass(frozen=True, slots=True)
class AliasesPage:
    """One page of a collection's aliases, with the first page of its tags."""

    tags: frozenset[str]
    tags_rest: Rest | None
    aliases: frozenset[str]
    """User-defined aliases."""
    rest: Rest | None
    """Where the aliases go on; None on the last page."""


_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[_Item]):
    """A further page of a list."""

    items: frozenset[_Item]
    rest: Rest | None
    """Where the list goes on; None on the last page."""
    cut_tags: Mapping[CollectionRef, Rest] = field(default_factory=dict)
    """The lists of tags in it that are not whole."""


def resolved(data: Any, ref: ModelRef, asked_at: datetime, answered_at: datetime, asked: float = 0.0) -> Resolved:
    """Convert a collection membership. Raises UnexpectedShapeError."""
    wire = _parse(_Membership, data)
    home = wire.artifact_collection
    return Resolved(
        ref=ref,
        collection_ref=(home.ref if home else None) or ref.in_collection,
        version_index=wire.version_index,
        aliases=_given(wire.aliases),
        collection_tags=home.tags.names if home else frozenset(),
        artifact=wire.artifact.model(whole=not _cut(wire, ref)),
        asked_at=asked_at,
        answered_at=answered_at,
        asked=asked,
    )


def artifact_read(data: Any, asked_at: datetime, answered_at: datetime, asked: float = 0.0) -> ArtifactRead:
    """Convert an artifact. Raises UnexpectedShapeError."""
    wire = _parse(_Artifact, data)
    return ArtifactRead(
        artifact=wire.model(whole=not wire.cut()), asked_at=asked_at, answered_at=answered_at, asked=asked
    )


def cut_of_membership(data: Any, ref: ModelRef) -> Cut:
    """What a collection membership leaves out. Raises UnexpectedShapeError."""
    return _cut(_parse(_Membership, data), ref)


def cut_of_artifact(data: Any) -> Cut:
    """What an artifact leaves out. Raises UnexpectedShapeError."""
    return _parse(_Artifact, data).cut()


def aliases_page(data: Any) -> AliasesPage:
    """Convert a collection's tags and one page of its aliases. Raises UnexpectedShapeError."""
    wire = _parse(_Collection, data)
    return AliasesPage(
        tags=wire.tags.names,
        tags_rest=wire.tags.rest,
        aliases=_given([edge.node for edge in wire.aliases.edges if edge.node is not None]),
        rest=wire.aliases.rest,
    )


def tags_page(data: Any) -> Page[str]:
    """Convert a further page of a collection's tags. Raises UnexpectedShapeError."""
    tags = _parse(_TagsOf, data).tags
    return Page(tags.names, tags.rest)


def links_page(data: Any) -> Page[Link]:
    """Convert a further page of an artifact's links. Raises UnexpectedShapeError."""
    links = _parse(_LinksOf, data).artifact_memberships
    return Page(frozenset(links.models()), links.rest, links.cut_tags())


def in_order(links: Iterable[Link]) -> tuple[Link, ...]:
    """Sort links, each once: answers are compared with the ones before."""
    return tuple(sorted(set(links), key=lambda link: (link.collection, link.version, sorted(link.aliases))))


def _cut(wire: _Membership, ref: ModelRef) -> Cut:
    cut, home = wire.artifact.cut(), wire.artifact_collection
    if home is not None and (rest := home.tags.rest):
        return Cut(cut.links, {**cut.tags, home.ref or ref.in_collection: rest})
    return cut


def _may_be_a_page(length: int) -> bool:
    """Whether a list without `pageInfo` may have been cut: its length is a usual size of pages, or a multiple of one.

    That is safe rather than sharp. A server that cuts at another length hides what follows; a list that is whole and
    has such a length leaves the holds unknown until it gets longer or shorter.
    """
    return length >= 20 and (length % 10 == 0 or length % 25 == 0 or length & (length - 1) == 0)


def _given(aliases: list[_Alias]) -> frozenset[str]:
    """Drop the version names that W&B assigns itself, as wandb's client does."""
    return frozenset(each.alias for each in aliases if not is_version(each.alias))


_Shape = TypeVar("_Shape", bound=_Wire)


def _parse(shape: type[_Shape], data: Any) -> _Shape:
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        problem = f"{'.'.join(str(step) for step in first['loc']) or 'the response'}: {first['msg']}"
    raise UnexpectedShapeError(problem)
