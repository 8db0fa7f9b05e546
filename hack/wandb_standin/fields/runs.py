"""Queries of runs."""

from __future__ import annotations

from typing import Any

from wandb_standin.context import Context
from wandb_standin.fields.registry import resolver
from wandb_standin.fields.search import filtered_runs, ordered
from wandb_standin.model import Project, Role, Run
from wandb_standin.paging import connection


@resolver("Project.run")
def project_run(source: Project, ctx: Context, name: str) -> Run | None:
    return source.runs.get(name)


@resolver("Project.bucket")
def project_bucket(source: Project, ctx: Context, name: str, missing_ok: bool | None = None) -> Run | None:
    return source.runs.get(name)


@resolver("Project.runs")
def project_runs(
    source: Project,
    ctx: Context,
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> Any:
    return connection(ordered(filtered_runs(source, filters), order), after, first)


@resolver("Project.runCount")
def project_run_count(source: Project, ctx: Context, filters: str | None = None) -> int:
    return len(filtered_runs(source, filters))


@resolver("Run.readOnly")
def run_read_only(source: Run, ctx: Context) -> bool:
    return not ctx.can(Role.MEMBER, source.project)


@resolver("Run.historyTail", "Run.eventsTail")
def run_tail(source: Run, ctx: Context) -> str:
    return "[]"


@resolver("Run.historyKeys")
def run_history_keys(source: Run, ctx: Context) -> dict[str, Any]:
    return {"keys": {}, "sets": [], "lastStep": -1}


@resolver("Run.wandbConfig")
def run_wandb_config(source: Run, ctx: Context, keys: list[str] | None = None) -> str:
    return "{}"


@resolver("Run.fileCount")
def run_file_count(source: Run, ctx: Context) -> int:
    return sum(1 for key in source.storage_keys.values() if ctx.store.blobs.get(key))


@resolver("Run.inputArtifacts")
def run_input_artifacts(source: Run, ctx: Context, after: str | None = None, first: int | None = None) -> Any:
    return connection([a for a in source.input_versions if ctx.can_see_artifact(a)], after, first)


@resolver("Run.outputArtifacts")
def run_output_artifacts(source: Run, ctx: Context, after: str | None = None, first: int | None = None) -> Any:
    return connection([a for a in source.output_versions if ctx.can_see_artifact(a)], after, first)
