"""The GraphQL documents that the resolver sends. Pure.

Only fields that wandb's released client 0.31 requests too: the schema is private, and what the client uses is the
closest thing to a contract. Everything about one project is under one `project` field.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from modelsync.api.model_ref import CollectionRef, ModelRef

ALIASES_PAGE = 1000
"""Aliases per request, as in wandb's client. W&B's own `v0`, `v1`, … count too."""

PAGE = 100
"""Links of an artifact, and tags of a collection, that the first request asks for: some have more, few have many."""
NEXT_PAGE = 1000
"""Links or tags of each further page."""

# What not every server has. A server that rejects one is asked without it from then on (`refused_parts`).
DIGEST_ALGORITHM = "digestAlgorithm"
"""Rejected by servers without the feature ARTIFACT_DIGEST_ALGORITHM."""
TAGS_FIRST = "tags(first)"
TAGS_PAGE_INFO = "tags.pageInfo"
LINKS_FIRST = "artifactMemberships(first)"
"""W&B's published types of 2023 and 2024 have no arguments here, and list all links."""
LINKS_PAGE_INFO = "artifactMemberships.pageInfo"


@dataclass(frozen=True, slots=True)
class CollectionPage:
    """Request a collection's tags and one page of its aliases."""

    collection: CollectionRef
    after: str | None = None


@dataclass(frozen=True, slots=True)
class ArtifactById:
    """Request an artifact, wherever it is linked."""

    artifact_id: str


@dataclass(frozen=True, slots=True)
class TagsPage:
    """Request a further page of a collection's tags."""

    collection: CollectionRef
    after: str


@dataclass(frozen=True, slots=True)
class LinksPage:
    """Request a further page of an artifact's links."""

    artifact_id: str
    after: str


Unit: TypeAlias = ModelRef | CollectionPage | ArtifactById | TagsPage | LinksPage
"""One thing to query; a ModelRef queries which version it names."""

Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One request: the text, its variables, and the path of each unit's part in the response."""

    query: str
    variables: Mapping[str, Any]
    paths: Mapping[Unit, Path]


OPERATION = "ModelsyncResolve"

_PAGE_INFO = "pageInfo { hasNextPage endCursor }"
_HOME = """
fragment Home on ArtifactCollection { __typename name project { name entity { name } } TAGS }"""
_LINK = """
fragment Link on ArtifactCollectionMembership { versionIndex aliases { alias } artifactCollection { ...Home } }"""
_VERSION = """
fragment Version on Artifact {
  id state digest DIGEST_ALGORITHM size fileCount metadata versionIndex createdAt updatedAt
  tags { name } artifactType { name } artifactSequence { name project { name entity { name } } }
  LINKS
}"""
_MEMBERSHIP = """
fragment Membership on ArtifactCollectionMembership {
  versionIndex aliases { alias } artifactCollection { ...Home } artifact { ...Version }
}"""


def document(units: Collection[Unit], *, without: Collection[str] = ()) -> Document:
    """Build one request for all `units`; `without` names what this server does not have (DIGEST_ALGORITHM, …)."""
    writer = _Writer()
    for unit in units:
        writer.add(unit)
    versions = any(isinstance(unit, ModelRef | ArtifactById) for unit in units)
    fragments = []  # an unused fragment makes a document invalid
    if any(not isinstance(unit, TagsPage) for unit in units):
        fragments.append(_HOME.replace("TAGS", _tags("" if TAGS_FIRST in without else f"(first: {PAGE})", without)))
    if versions or any(isinstance(unit, LinksPage) for unit in units):
        fragments.append(_LINK)
    if versions:
        algorithm = "" if DIGEST_ALGORITHM in without else DIGEST_ALGORITHM
        links = _links("" if LINKS_FIRST in without else f"(first: {PAGE})", without)
        fragments.append(_VERSION.replace("DIGEST_ALGORITHM", algorithm).replace("LINKS", links))
    if any(isinstance(unit, ModelRef) for unit in units):
        fragments.append(_MEMBERSHIP)
    return writer.finish("".join(fragments))


def refused_parts(messages: Iterable[str]) -> frozenset[str]:
    """Which of DIGEST_ALGORITHM, TAGS_FIRST, … a server says that it does not have, in its words for a bad query."""
    return frozenset(part for text in messages for part in _refused_by(text))


def _refused_by(text: str) -> Iterable[str]:
    if DIGEST_ALGORITHM in text:
        yield DIGEST_ALGORITHM
    if "pageInfo" in text and "Alias" not in text:  # "Cannot query field 'pageInfo' on type 'TagConnection'."
        if "Membership" not in text:
            yield TAGS_PAGE_INFO
        if "Tag" not in text:
            yield LINKS_PAGE_INFO
    elif re.search(r"\bfirst\b", text):  # "Unknown argument 'first' on field 'Artifact.artifactMemberships'."
        if re.search(r"\btags\b", text):
            yield TAGS_FIRST
        if "artifactMemberships" in text:
            yield LINKS_FIRST


def _tags(arguments: str, without: Collection[str] = ()) -> str:
    info = "" if TAGS_PAGE_INFO in without else f"{_PAGE_INFO} "
    return f"tags{arguments} {{ {info}edges {{ node {{ name }} }} }}"


def _links(arguments: str, without: Collection[str] = ()) -> str:
    info = "" if LINKS_PAGE_INFO in without else f"{_PAGE_INFO} "
    return f"artifactMemberships{arguments} {{ {info}edges {{ node {{ ...Link }} }} }}"


class _Writer:
    """Collects fields and variables. Values are passed as variables only: a name must never become query text."""

    def __init__(self) -> None:
        self._variables: dict[str, Any] = {}
        self._declared: list[str] = []
        self._projects: dict[tuple[str, str], tuple[str, list[str]]] = {}
        self._fields: list[str] = []
        self._paths: dict[Unit, Path] = {}

    def add(self, unit: Unit) -> None:
        match unit:
            case ModelRef():
                name = self._variable("String!", f"{unit.collection}:{unit.alias}")
                field = f"artifactCollectionMembership(name: {name}) {{ ...Membership }}"
                self._under_project(unit, unit.in_collection, field)
            case CollectionPage():
                name = self._variable("String!", unit.collection.collection)
                page = f"aliases(first: {ALIASES_PAGE}, after: {self._variable('String', unit.after)})"
                field = (
                    f"artifactCollection(name: {name}) {{ ...Home "
                    f"{page} {{ {_PAGE_INFO} edges {{ node {{ alias }} }} }} }}"
                )
                self._under_project(unit, unit.collection, field)
            case TagsPage():
                name = self._variable("String!", unit.collection.collection)
                field = f"artifactCollection(name: {name}) {{ {_tags(self._next(unit))} }}"
                self._under_project(unit, unit.collection, field)
            case ArtifactById():
                self._artifact(unit, "...Version")
            case LinksPage():
                self._artifact(unit, _links(self._next(unit)))

    def finish(self, fragments: str) -> Document:
        fields = [*self._fields]
        for opening, inner in self._projects.values():
            fields += [opening, *inner, "  }"]
        text = f"query {OPERATION}({', '.join(self._declared)}) {{\n" + "\n".join(fields) + "\n}" + fragments + "\n"
        return Document(text, self._variables, self._paths)

    def _next(self, unit: TagsPage | LinksPage) -> str:
        return f"(first: {NEXT_PAGE}, after: {self._variable('String', unit.after)})"

    def _artifact(self, unit: ArtifactById | LinksPage, selected: str) -> None:
        key, name = f"a{len(self._paths)}", self._variable("ID!", unit.artifact_id)
        self._fields.append(f"  {key}: artifact(id: {name}) {{ {selected} }}")
        self._paths[unit] = (key,)

    def _variable(self, kind: str, value: str | None) -> str:
        name = f"x{len(self._variables)}"
        self._variables[name] = value
        self._declared.append(f"${name}: {kind}")
        return f"${name}"

    def _under_project(self, unit: Unit, home: CollectionRef, field: str) -> None:
        where = (home.entity, home.project)
        key = f"p{list(self._projects).index(where) if where in self._projects else len(self._projects)}"
        if where not in self._projects:
            entity, project = self._variable("String!", home.entity), self._variable("String!", home.project)
            self._projects[where] = (f"  {key}: project(entityName: {entity}, name: {project}) {{", [])
        name = f"f{len(self._paths)}"
        self._projects[where][1].append(f"    {name}: {field}")
        self._paths[unit] = (key, name)
