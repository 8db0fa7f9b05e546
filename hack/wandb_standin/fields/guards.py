"""Finds the objects that a client wants to change, and checks its permission."""

from __future__ import annotations

from wandb_standin.context import Context
from wandb_standin.errors import not_found, permission_denied
from wandb_standin.fields.registry import Input
from wandb_standin.model import Artifact, Collection, Project, Role, Run


def writable_run(ctx: Context, input: Input) -> Run:
    project = ctx.writable_project(input["entity_name"], input["project_name"])
    run = project.runs.get(input["run_name"])
    if run is None:
        raise not_found("run")
    return run


def visible_artifact(ctx: Context, artifact_id: str) -> Artifact:
    ctx.require_user()
    artifact = ctx.store.node(Artifact, artifact_id)
    if not ctx.can_see_artifact(artifact):
        raise not_found(f"artifact {artifact_id!r}")
    ctx.refs.append(f"{artifact.artifact_sequence.path}:{artifact.id}")
    return artifact


def writable_artifact(ctx: Context, artifact_id: str) -> Artifact:
    """Writing a version needs permission in the project where it was logged, wherever it is linked."""
    artifact = visible_artifact(ctx, artifact_id)
    project = artifact.artifact_sequence.project
    if not ctx.can(Role.MEMBER, project):
        raise permission_denied()
    return artifact


def writable_collection(ctx: Context, spec: Input, *, alias: str | None = None) -> Collection:
    project = ctx.writable_project(spec["entity_name"], spec["project_name"])
    collection = project.collections.get(spec["artifact_collection_name"])
    if collection is None:
        raise not_found(f"artifact collection {spec['artifact_collection_name']!r}")
    if alias is not None:
        check_protected(ctx, project, alias)
    ctx.refs.append(f"{collection.path}:{alias}" if alias else collection.path)
    return collection


def check_protected(ctx: Context, project: Project, alias: str) -> None:
    if alias in project.protected_aliases and not ctx.can(Role.ADMIN, project):
        raise permission_denied()
