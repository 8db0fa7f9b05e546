"""Queries of collections and artifact types."""

from __future__ import annotations

from typing import Any

from wandb_standin.context import Context
from wandb_standin.fields.registry import resolver
from wandb_standin.fields.search import filtered_collections, filtered_memberships, ordered
from wandb_standin.model import Artifact, ArtifactType, Collection, Membership, Project
from wandb_standin.paging import connection


@resolver("Query.artifactCollection")
def collection_by_id(_: None, ctx: Context, id: str) -> Collection | None:
    found = ctx.store.nodes.get(id)
    return found if isinstance(found, Collection) and ctx.can_see_collection(found) else None


@resolver("Project.artifactCollection")
def collection_by_name(source: Project, ctx: Context, name: str) -> Collection | None:
    ctx.note_ref(f"{source.path}/{name}")
    return source.collections.get(name)


@resolver("Project.artifactCollections")
def project_collections(
    source: Project,
    ctx: Context,
    after: str | None = None,
    first: int | None = None,
    filters: str | None = None,
    order: str | None = None,
) -> Any:
    return connection(filtered_collections(list(source.collections.values()), filters, order), after, first)


@resolver("Project.artifactType")
def project_type(source: Project, ctx: Context, name: str) -> ArtifactType | None:
    return source.types.get(name)


@resolver("Project.artifactTypes")
def project_types(
    source: Project,
    ctx: Context,
    after: str | None = None,
    first: int | None = None,
    include_all: bool | None = None,
) -> Any:
    return connection(list(source.types.values()), after, first)


@resolver("ArtifactSequence.project", "ArtifactPortfolio.project")
def collection_project(source: Collection, ctx: Context) -> Project | None:
    """Null for a reader of a link who may not see the version's source project (wandb/wandb#7201)."""
    return source.project if ctx.can_see_collection(source) else None


@resolver("ArtifactSequence.tags", "ArtifactPortfolio.tags")
def collection_tags(source: Collection, ctx: Context, after: str | None = None, first: int | None = None) -> Any:
    return connection(source.tags, after, first, sizes=ctx.page_sizes)


@resolver("ArtifactSequence.aliases", "ArtifactPortfolio.aliases")
def collection_aliases(source: Collection, ctx: Context, after: str | None = None, first: int | None = None) -> Any:
    return connection([a for m in source.memberships for a in m.aliases], after, first, sizes=ctx.page_sizes)


@resolver("ArtifactSequence.artifactMembership", "ArtifactPortfolio.artifactMembership")
def collection_membership(source: Collection, ctx: Context, alias_name: str) -> Membership | None:
    ctx.note_ref(f"{source.path}:{alias_name}")
    return ctx.store.find_in_collection(source, alias_name)


@resolver("ArtifactSequence.artifactMemberships", "ArtifactPortfolio.artifactMemberships")
def collection_memberships(source: Collection, ctx: Context, after: str | None = None, first: int | None = None) -> Any:
    return connection(source.memberships, after, first, sizes=ctx.page_sizes)


@resolver("ArtifactSequence.artifacts", "ArtifactPortfolio.artifacts")
def collection_artifacts(
    source: Collection,
    ctx: Context,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
    filters: str | None = None,
) -> Any:
    newest_first = list(reversed(filtered_memberships(source.memberships, filters)))
    page = connection(ordered(newest_first, order), after, first)
    for edge in page["edges"]:
        edge["version"], edge["node"] = f"v{edge['node'].version_index}", edge["node"].artifact
    return page


@resolver("ArtifactSequence.latestArtifact")
def latest_artifact(source: Collection, ctx: Context) -> Artifact | None:
    found = ctx.store.find_in_collection(source, "latest")
    return found.artifact if found else None


@resolver("ArtifactType.artifactCollection")
def type_collection(source: ArtifactType, ctx: Context, name: str) -> Collection | None:
    found = source.project.collections.get(name)
    return found if found and found.default_artifact_type is source else None


@resolver("ArtifactType.artifactCollections")
def type_collections(
    source: ArtifactType,
    ctx: Context,
    after: str | None = None,
    first: int | None = None,
    filters: str | None = None,
    order: str | None = None,
) -> Any:
    ours = [c for c in source.project.collections.values() if c.default_artifact_type is source]
    return connection(filtered_collections(ours, filters, order), after, first)
