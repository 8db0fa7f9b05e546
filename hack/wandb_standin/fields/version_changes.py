"""Mutations of versions: aliases, links, tags, metadata, use by a run, deletion."""

from __future__ import annotations

from typing import Any

from wandb_standin.context import Context
from wandb_standin.errors import not_found, permission_denied
from wandb_standin.fields.guards import (
    check_protected,
    visible_artifact,
    writable_artifact,
    writable_collection,
    writable_run,
)
from wandb_standin.fields.registry import Input, resolver
from wandb_standin.model import Artifact, Collection, Project, Role


@resolver("Mutation.updateArtifact")
def update_artifact(_: None, ctx: Context, input: Input) -> dict[str, Artifact]:
    artifact = writable_artifact(ctx, input["artifact_id"])
    for attribute in ("description", "metadata"):
        if attribute in input:
            setattr(artifact, attribute, input[attribute])
    if input.get("ttl_duration_seconds") is not None:
        artifact.ttl_duration_seconds = input["ttl_duration_seconds"]
        artifact.ttl_is_inherited = False
    ctx.store.change_tags(
        artifact,
        add=[t["tag_name"] for t in input.get("tags_to_add") or []],
        remove=[t["tag_name"] for t in input.get("tags_to_delete") or []],
        author=ctx.user,
    )
    if input.get("aliases") is not None:
        membership = ctx.store.membership_of(artifact.artifact_sequence, artifact)
        ctx.store.set_aliases(membership, [a["alias"] for a in input["aliases"]], author=ctx.user)
    return {"artifact": artifact}


@resolver("Mutation.deleteArtifact")
def delete_artifact(_: None, ctx: Context, input: Input) -> dict[str, Artifact]:
    artifact = writable_artifact(ctx, input["artifact_id"])
    return {"artifact": ctx.store.delete_artifact(artifact, delete_aliases=bool(input.get("delete_aliases")))}


@resolver("Mutation.useArtifact")
def use_artifact(_: None, ctx: Context, input: Input) -> dict[str, Artifact]:
    run = writable_run(ctx, input)
    artifact = visible_artifact(ctx, input["artifact_id"])
    if not ctx.can_download(artifact):
        raise permission_denied()
    if run not in artifact.used_by:
        artifact.used_by.append(run)
        run.input_versions.append(artifact)
    return {"artifact": artifact}


@resolver("Mutation.addAliases")
def add_aliases(_: None, ctx: Context, input: Input) -> dict[str, bool]:
    artifact = visible_artifact(ctx, input["artifact_id"])
    for spec in input["aliases"]:
        collection = writable_collection(ctx, spec, alias=spec["alias"])
        ctx.store.set_aliases(ctx.store.membership_of(collection, artifact), [spec["alias"]], author=ctx.user)
    return {"success": True}


@resolver("Mutation.deleteAliases")
def delete_aliases(_: None, ctx: Context, input: Input) -> dict[str, bool]:
    artifact = visible_artifact(ctx, input["artifact_id"])
    for spec in input["aliases"]:
        collection = writable_collection(ctx, spec, alias=spec["alias"])
        ctx.store.remove_alias(ctx.store.membership_of(collection, artifact), spec["alias"])
    return {"success": True}


@resolver("Mutation.linkArtifact")
def link_artifact(_: None, ctx: Context, input: Input) -> dict[str, Any]:
    if input.get("artifact_id"):
        artifact = visible_artifact(ctx, input["artifact_id"])
    else:
        found = ctx.store.client_ids.get(input.get("client_id") or "")
        if found is None or not ctx.can_see_artifact(found):
            raise not_found("artifact")
        artifact = found
    if input.get("artifact_portfolio_id"):
        portfolio = ctx.store.node(Collection, input["artifact_portfolio_id"])
        project, name = portfolio.project, portfolio.name
        ctx.require(Role.MEMBER, project)
    else:
        name = input.get("artifact_portfolio_name") or ""
        project = _link_target(ctx, input)
    aliases = [a["alias"] for a in input.get("aliases") or []]
    for alias in aliases:
        check_protected(ctx, project, alias)
    membership = ctx.store.link_artifact(artifact, project, name, aliases, ctx.user)
    return {"versionIndex": membership.version_index, "artifactMembership": membership}


@resolver("Mutation.unlinkArtifact")
def unlink_artifact(_: None, ctx: Context, input: Input) -> dict[str, bool]:
    portfolio = ctx.store.node(Collection, input["artifact_portfolio_id"])
    ctx.require(Role.MEMBER, portfolio.project)
    ctx.store.unlink_artifact(visible_artifact(ctx, input["artifact_id"]), portfolio, ctx.user)
    return {"success": True}


def _link_target(ctx: Context, input: Input) -> Project:
    user = ctx.require_user()
    entity_name, name = input.get("entity_name") or user.entity, input.get("project_name") or "uncategorized"
    project = ctx.store.find_project(entity_name, name)
    if project is None and name.startswith("wandb-registry-"):
        raise not_found(f"registry {name!r} of {entity_name!r}")
    return ctx.ensure_writable_project(entity_name, name)
