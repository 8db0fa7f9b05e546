"""The GraphQL documents that the resolver sends. Pure.

Only fields that wandb's released client 0.31 requests too: the schema is private, and what the client uses is the
closest thing to a contract. Everything about one project is under one `project` field.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from modelsync.api.model_ref import CollectionRef, ModelRef

ALIASES_PAGE = 1000
"""Aliases per request, as in wandb's client. W&B's own `v0`, `v1`, … count too."""

DIGEST_ALGORITHM = "digestAlgorithm"
"""The one field that servers without the feature ARTIFACT_DIGEST_ALGORITHM reject."""


@dataclass(frozen=True, slots=True)
class CollectionPage:
    """Request a collection's tags and one page of its aliases."""

    collection: CollectionRef
    after: str | None = None


@dataclass(frozen=True, slots=True)
class ArtifactById:
    """Request an artifact, wherever it is linked."""

    artifact_id: str


Unit: TypeAlias = ModelRef | CollectionPage | ArtifactById
"""One thing to query; a ModelRef queries which version it names."""

Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One request: the text, its variables, and the path of each unit's part in the response."""

    query: str
    variables: Mapping[str, Any]
    paths: Mapping[Unit, Path]


OPERATION = "ModelsyncResolve"

_HOME = """
fragment Home on ArtifactCollection {
  __typename name project { name entity { name } } tags { edges { node { name } } }
}"""
_VERSION = """
fragment Version on Artifact {
  id state digest DIGEST_ALGORITHM size fileCount metadata versionIndex createdAt updatedAt
  tags { name } artifactType { name } artifactSequence { name project { name entity { name } } }
  artifactMemberships { edges { node { versionIndex aliases { alias } artifactCollection { ...Home } } } }
}"""
_MEMBERSHIP = """
fragment Membership on ArtifactCollectionMembership {
  versionIndex aliases { alias } artifactCollection { ...Home } artifact { ...Version }
}"""


def document(units: Collection[Unit], *, without: Collection[str] = ()) -> Document:
    """Build one request for all `units`; `without` names fields that this server does not have."""
    writer = _Writer()
    for unit in units:
        writer.add(unit)
    fragments = [_HOME]  # an unused fragment makes a document invalid
    if any(not isinstance(unit, CollectionPage) for unit in units):
        fragments.append(_VERSION.replace("DIGEST_ALGORITHM", "" if DIGEST_ALGORITHM in without else DIGEST_ALGORITHM))
    if any(isinstance(unit, ModelRef) for unit in units):
        fragments.append(_MEMBERSHIP)
    return writer.finish("".join(fragments))


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
                    f"{page} {{ pageInfo {{ hasNextPage endCursor }} edges {{ node {{ alias }} }} }} }}"
                )
                self._under_project(unit, unit.collection, field)
            case ArtifactById():
                key, name = f"a{len(self._paths)}", self._variable("ID!", unit.artifact_id)
                self._fields.append(f"  {key}: artifact(id: {name}) {{ ...Version }}")
                self._paths[unit] = (key,)

    def finish(self, fragments: str) -> Document:
        fields = [*self._fields]
        for opening, inner in self._projects.values():
            fields += [opening, *inner, "  }"]
        text = f"query {OPERATION}({', '.join(self._declared)}) {{\n" + "\n".join(fields) + "\n}" + fragments + "\n"
        return Document(text, self._variables, self._paths)

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
