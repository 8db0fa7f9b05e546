"""Lists with the Mongo-like filters and orders of the search fields; only what the caller may see."""

from __future__ import annotations

from typing import Any

from wandb_standin import filters
from wandb_standin.context import Context
from wandb_standin.model import Collection, Entity, Membership, Project, Role, Run


def visible_projects(ctx: Context, source: Entity) -> list[Project]:
    return [p for p in source.projects_by_name.values() if ctx.can(Role.RESTRICTED, p)]


def filtered_projects(ctx: Context, source: Entity, condition: str | None, order: str | None) -> list[Project]:
    wanted = filters.parse(condition)
    hits = [p for p in visible_projects(ctx, source) if filters.matches(wanted, {"name": p.name})]
    return ordered(hits, order)


def filtered_collections(found: list[Collection], condition: str | None, order: str | None) -> list[Collection]:
    wanted = filters.parse(condition)
    hits = [
        c
        for c in found
        if filters.matches(
            wanted,
            {
                "name": c.name,
                "tag": [t.name for t in c.tags],
                "description": c.description,
                "created_at": c.created_at.isoformat(),
                "updated_at": c.updated_at.isoformat(),
            },
        )
    ]
    return ordered(hits, order)


def filtered_memberships(found: list[Membership], condition: str | None) -> list[Membership]:
    wanted = filters.parse(condition)
    return [m for m in found if filters.matches(wanted, _membership_facts(m))] if wanted else list(found)


def _membership_facts(membership: Membership) -> dict[str, Any]:
    artifact = membership.artifact
    return {
        "alias": [a.alias for a in membership.aliases],
        "tag": [t.name for t in artifact.tags],
        "created_at": membership.created_at.isoformat(),
        "updated_at": artifact.updated_at.isoformat(),
        "metadata": artifact.metadata_object,
        "state": artifact.state,
    }


def filtered_runs(source: Project, condition: str | None) -> list[Run]:
    wanted = filters.parse(condition)
    return [
        r
        for r in source.runs.values()
        if filters.matches(
            wanted,
            {"name": r.name, "displayName": r.display_name, "state": r.state, "tags": r.tags, "jobType": r.job_type},
        )
    ]


def ordered(found: list[Any], order: str | None) -> list[Any]:
    """Sort by `+created_at` or `-name`; unsorted if the items lack the attribute."""
    attribute = (order or "").lstrip("+-")
    attribute = {"createdAt": "created_at", "updatedAt": "updated_at", "versionIndex": "version_index"}.get(
        attribute, attribute
    )
    if not attribute or not all(hasattr(item, attribute) for item in found):
        return found
    return sorted(found, key=lambda item: getattr(item, attribute), reverse=(order or "").startswith("-"))
