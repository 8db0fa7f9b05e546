"""The JSON shapes of W&B's responses, and their conversion to `registry.model`. Pure.

Responses are validated here, once: a part that does not match the schema raises UnexpectedShapeError with its path, and
never a KeyError somewhere else.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

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


class _TagEdge(_Wire):
    node: _Named


class _Tags(_Wire):
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


class _Links(_Wire):
    edges: list[_LinkEdge]


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

    def model(self) -> Artifact:
        edges = self.artifact_memberships.edges if self.artifact_memberships else []
        links = [link for edge in edges if edge.node is not None and (link := edge.node.model()) is not None]
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
            links=tuple(sorted(links, key=lambda link: (link.collection, link.version))),
        )


class _Membership(_Wire):
    version_index: int
    aliases: list[_Alias]
    artifact_collection: _Home | None
    artifact: _Artifact


class _PageInfo(_Wire):
    has_next_page: bool
    end_cursor: str | None


class _AliasEdge(_Wire):
    node: _Alias | None


class _Aliases(_Wire):
    page_info: _PageInfo
    edges: list[_AliasEdge]


class _Collection(_Home):
    aliases: _Aliases


@dataclass(frozen=True, slots=True)
class AliasesPage:
    """One page of a collection's aliases, with its tags."""

    tags: frozenset[str]
    aliases: frozenset[str]
    """User-defined aliases."""
    next: str | None
    """The cursor of the next page; None on the last."""


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
        artifact=wire.artifact.model(),
        asked_at=asked_at,
        answered_at=answered_at,
        asked=asked,
    )


def artifact_read(data: Any, asked_at: datetime, answered_at: datetime, asked: float = 0.0) -> ArtifactRead:
    """Convert an artifact. Raises UnexpectedShapeError."""
    return ArtifactRead(
        artifact=_parse(_Artifact, data).model(), asked_at=asked_at, answered_at=answered_at, asked=asked
    )


def aliases_page(data: Any) -> AliasesPage:
    """Convert a collection's tags and one page of its aliases. Raises UnexpectedShapeError."""
    wire = _parse(_Collection, data)
    info = wire.aliases.page_info
    if info.has_next_page and not info.end_cursor:
        raise UnexpectedShapeError("aliases.pageInfo: there is a next page but no cursor")
    return AliasesPage(
        tags=wire.tags.names,
        aliases=_given([edge.node for edge in wire.aliases.edges if edge.node is not None]),
        next=info.end_cursor if info.has_next_page else None,
    )


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
