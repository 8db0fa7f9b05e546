"""Queries of versions."""

from __future__ import annotations

from typing import Any

from wandb_standin.context import Context
from wandb_standin.fields.registry import resolver
from wandb_standin.model import Artifact, Manifest, Membership, Project, Role
from wandb_standin.paging import connection


@resolver("Query.artifact")
def artifact_by_id(_: None, ctx: Context, id: str) -> Artifact | None:
    found = ctx.store.nodes.get(id)
    if not isinstance(found, Artifact) or not ctx.can_see_artifact(found):
        return None
    sequence = found.artifact_sequence
    version = f"v{found.version_index}" if found.version_index is not None else found.id
    ctx.note_ref(f"{sequence.path}:{version}")
    return found


@resolver("Query.clientIDMapping")
def client_id_mapping(_: None, ctx: Context, client_id: str) -> dict[str, str] | None:
    found = ctx.store.client_ids.get(client_id)
    return {"serverID": found.id} if found and ctx.can_see_artifact(found) else None


@resolver("Project.artifactCollectionMembership")
def membership_by_name(source: Project, ctx: Context, name: str) -> Membership | None:
    ctx.note_ref(f"{source.path}/{name}")
    return ctx.store.find_membership(source, name)


@resolver("Project.artifact")
def artifact_by_name(source: Project, ctx: Context, name: str, enable_tracking: bool | None = None) -> Artifact | None:
    ctx.note_ref(f"{source.path}/{name}")
    found = ctx.store.find_membership(source, name)
    return found.artifact if found else None


@resolver("Artifact.aliases")
def artifact_aliases(source: Artifact, ctx: Context) -> list[Any]:
    return [a for m in source.memberships if ctx.can_see_collection(m.artifact_collection) for a in m.aliases]


@resolver("Artifact.currentManifest")
def artifact_manifest(source: Artifact, ctx: Context) -> Manifest | None:
    return ctx.store.current_manifest(source)


@resolver("Artifact.usedBy")
def artifact_used_by(source: Artifact, ctx: Context, after: str | None = None, first: int | None = None) -> Any:
    visible = [r for r in source.used_by if ctx.can(Role.RESTRICTED, r.project)]
    return connection(visible, after, first)


@resolver("Artifact.artifactMemberships")
def artifact_memberships(source: Artifact, ctx: Context, after: str | None = None, first: int | None = None) -> Any:
    visible = [m for m in source.memberships if ctx.can_see_collection(m.artifact_collection)]
    return connection(visible, after, first, sizes=ctx.page_sizes)
