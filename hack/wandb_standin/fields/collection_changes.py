"""Mutations of collections."""

from __future__ import annotations

from typing import Any

from wandb_standin.context import Context
from wandb_standin.fields.guards import writable_collection
from wandb_standin.fields.registry import Input, resolver
from wandb_standin.model import Collection, Role


@resolver("Mutation.createArtifactCollectionTagAssignments")
def add_collection_tags(_: None, ctx: Context, input: Input) -> dict[str, Any]:
    collection = writable_collection(ctx, input)
    ctx.store.change_collection_tags(collection, add=[t["tag_name"] for t in input["tags"]], author=ctx.user)
    return {"tags": collection.tags}


@resolver("Mutation.deleteArtifactCollectionTagAssignments")
def delete_collection_tags(_: None, ctx: Context, input: Input) -> dict[str, bool]:
    collection = writable_collection(ctx, input)
    ctx.store.change_collection_tags(collection, remove=[t["tag_name"] for t in input["tags"]], author=ctx.user)
    return {"success": True}


@resolver("Mutation.updateArtifactSequence")
def update_sequence(_: None, ctx: Context, input: Input) -> dict[str, Collection]:
    return _update_collection(ctx, input["artifact_sequence_id"], input)


@resolver("Mutation.updateArtifactPortfolio")
def update_portfolio(_: None, ctx: Context, input: Input) -> dict[str, Collection]:
    return _update_collection(ctx, input["artifact_portfolio_id"], input)


@resolver("Mutation.deleteArtifactSequence")
def delete_sequence(_: None, ctx: Context, input: Input) -> dict[str, Collection]:
    return _delete_collection(ctx, input["artifact_sequence_id"])


@resolver("Mutation.deleteArtifactPortfolio")
def delete_portfolio(_: None, ctx: Context, input: Input) -> dict[str, Collection]:
    return _delete_collection(ctx, input["artifact_portfolio_id"])


def _update_collection(ctx: Context, collection_id: str, input: Input) -> dict[str, Collection]:
    collection = ctx.store.node(Collection, collection_id)
    ctx.require(Role.MEMBER, collection.project)
    if input.get("description") is not None:
        collection.description = input["description"]
    if input.get("name") and input["name"] != collection.name:
        ctx.store.rename_collection(collection, input["name"])
    return {"artifactCollection": collection}


def _delete_collection(ctx: Context, collection_id: str) -> dict[str, Collection]:
    collection = ctx.store.node(Collection, collection_id)
    ctx.require(Role.MEMBER, collection.project)
    ctx.store.delete_collection(collection)
    return {"artifactCollection": collection}
