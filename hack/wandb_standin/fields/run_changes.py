"""Mutations of projects and runs."""

from __future__ import annotations

from typing import Any

from wandb_standin.context import Context
from wandb_standin.errors import RefusedError
from wandb_standin.fields.files import run_file
from wandb_standin.fields.guards import writable_run
from wandb_standin.fields.registry import Input, resolver
from wandb_standin.model import Role, Run

_RUN_FIELDS = {
    "description": "description",
    "display_name": "display_name",
    "notes": "notes",
    "config": "config",
    "summary_metrics": "summary_metrics",
    "tags": "tags",
    "state": "state",
    "commit": "commit",
    "sweep": "sweep_name",
    "group_name": "group",
    "job_type": "job_type",
}


@resolver("Mutation.upsertModel")
def upsert_model(_: None, ctx: Context, input: Input) -> dict[str, Any]:
    user = ctx.require_user()
    entity_name, name = input.get("entity_name") or user.entity, input.get("name")
    if not name:
        raise RefusedError("name is required")
    existing = ctx.store.find_project(entity_name, name)
    project = ctx.ensure_writable_project(entity_name, name)
    for attribute in ("description", "access", "views", "is_benchmark", "allow_all_artifact_types_in_registry"):
        if input.get(attribute) is not None:
            setattr(project, attribute, input[attribute])
    for artifact_type in input.get("artifact_types") or []:
        ctx.store.ensure_type(project, artifact_type["name"])
    return {"project": project, "model": project, "inserted": existing is None}


@resolver("Mutation.upsertBucket")
def upsert_bucket(_: None, ctx: Context, input: Input) -> dict[str, Any]:
    if input.get("id"):
        run, inserted = ctx.store.node(Run, input["id"]), False
        ctx.require(Role.MEMBER, run.project)
    else:
        project = ctx.ensure_writable_project(input.get("entity_name"), input.get("model_name"))
        run, inserted = ctx.store.upsert_run(project, input.get("name"), ctx.user)
    for field, attribute in _RUN_FIELDS.items():
        if input.get(field) is not None:
            setattr(run, attribute, input[field])
    return {"bucket": run, "inserted": inserted}


@resolver("Mutation.createRunFiles")
def create_run_files(_: None, ctx: Context, input: Input) -> dict[str, Any]:
    run = writable_run(ctx, input)
    for name in input["files"]:
        run.storage_keys.setdefault(name, f"runs/{run.id.rstrip('=')}/{name}")
    files = [run_file(ctx, run, name) for name in input["files"]]
    return {"runID": run.id, "uploadHeaders": [], "files": files}


@resolver("Mutation.markRunFilesUploaded")
def mark_run_files_uploaded(_: None, ctx: Context, input: Input) -> dict[str, bool]:
    run = writable_run(ctx, input)
    return {"success": all(name in run.storage_keys for name in input["files"])}
