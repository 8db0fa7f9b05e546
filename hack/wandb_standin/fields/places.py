"""Queries of users, organizations, entities and projects."""

from __future__ import annotations

from typing import Any

from wandb_standin.context import Context
from wandb_standin.errors import not_logged_in
from wandb_standin.fields.registry import resolver
from wandb_standin.fields.search import (
    filtered_collections,
    filtered_memberships,
    filtered_projects,
    ordered,
    visible_projects,
)
from wandb_standin.model import Entity, Organization, Project, Role, User, global_id
from wandb_standin.paging import connection


@resolver("Query.viewer")
def viewer(_: None, ctx: Context) -> User | None:
    return ctx.user


@resolver("Query.serverInfo")
def server_info(_: None, ctx: Context) -> dict[str, Any]:
    return {
        "features": [{"name": name, "isEnabled": on} for name, on in sorted(ctx.features.items())],
        "cliVersionInfo": '{"max_cli_version": "0.31.0"}',
        "latestLocalVersionInfo": None,
    }


@resolver("Query.entity")
def entity(_: None, ctx: Context, name: str | None = None) -> Entity | None:
    found = ctx.store.entities.get(name or (ctx.user.entity if ctx.user else ""))
    return found if found and ctx.can_see_entity(found) else None


@resolver("Query.organization")
def organization(_: None, ctx: Context, name: str | None = None) -> Organization | None:
    return ctx.store.organizations.get(name or "") if ctx.user else None


@resolver("Query.project", "Query.model")
def project(_: None, ctx: Context, name: str | None = None, entity_name: str | None = None) -> Project | None:
    ctx.check_ref(f"{entity_name or (ctx.user.entity if ctx.user else '')}/{name}")
    return ctx.visible_project(entity_name, name)


@resolver("Query.models")
def models(
    _: None, ctx: Context, entity_name: str | None = None, after: str | None = None, first: int | None = None
) -> Any:
    found = entity(None, ctx, entity_name)
    return connection(visible_projects(ctx, found), after, first) if found else None


@resolver("Query.users")
def users(_: None, ctx: Context, query: str | None = None) -> dict[str, Any]:
    if ctx.user is None:
        raise not_logged_in()
    hits = [u for u in ctx.store.users.values() if not query or query in (u.username, u.email)]
    return {"edges": [{"node": u} for u in hits]}


@resolver("User.flags")
def user_flags(user: User, ctx: Context) -> str:
    return "{}"


@resolver("User.deletedAt", "Run.systemMetrics", "Organization.coreWeaveOrganizationId")
def always_null(source: object, ctx: Context) -> None:
    return None


@resolver("User.teams")
def user_teams(user: User, ctx: Context) -> dict[str, Any]:
    teams = [e for e in ctx.store.entities.values() if e.is_team and (user.roles.keys() & {e.name, "*"})]
    return {"edges": [{"node": team} for team in teams]}


@resolver("User.organizations")
def user_organizations(user: User, ctx: Context) -> list[Organization]:
    return ctx.store.organizations_of(user)


@resolver("User.apiKeys")
def user_api_keys(user: User, ctx: Context) -> dict[str, Any]:
    key = {"id": global_id("ApiKey", 1), "name": f"...{user.api_key[-4:]}", "description": None}
    return {"edges": [{"node": key}] if user is ctx.user else []}


@resolver("User.projects")
def user_projects(user: User, ctx: Context, after: str | None = None, first: int | None = None) -> Any:
    visible = [p for e in ctx.store.entities.values() for p in visible_projects(ctx, e)]
    return connection(visible, after, first)


@resolver("Organization.advancedRegistryFeatures")
def advanced_registry_features(org: Organization, ctx: Context) -> dict[str, bool]:
    return {"advancedSearch": False}


@resolver("Organization.featureFlags")
def feature_flags(org: Organization, ctx: Context, ramp_id_type: str) -> list[Any]:
    return []


@resolver("Organization.triggers")
def organization_triggers(
    org: Organization,
    ctx: Context,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
    filters: str | None = None,
) -> Any:
    entities = {e.id for e in ctx.store.entities.values() if e.organization is org}
    found = [t for t in ctx.automations.triggers.values() if t.entity.id in entities]
    return connection(found, after, first)


@resolver("Entity.readOnly")
def entity_read_only(source: Entity, ctx: Context) -> bool:
    return False


@resolver("Entity.project")
def entity_project(source: Entity, ctx: Context, name: str | None = None) -> Project | None:
    return ctx.visible_project(source.name, name)


@resolver("Entity.projects")
def entity_projects(
    source: Entity,
    ctx: Context,
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> Any:
    return connection(filtered_projects(ctx, source, filters, order), after, first)


@resolver("Entity.artifactCollections")
def entity_collections(
    source: Entity,
    ctx: Context,
    project_filters: str | None = None,
    filters: str | None = None,
    collection_types: list[str] | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> Any:
    kinds = {"PORTFOLIO": "ArtifactPortfolio", "SEQUENCE": "ArtifactSequence"}
    wanted = {kinds[t] for t in collection_types or kinds}
    hits = [
        c
        for p in filtered_projects(ctx, source, project_filters, None)
        for c in filtered_collections(list(p.collections.values()), filters, None)
        if c.kind in wanted
    ]
    return connection(ordered(hits, order), after, first)


@resolver("Entity.artifactMemberships")
def entity_memberships(
    source: Entity,
    ctx: Context,
    project_filters: str | None = None,
    collection_filters: str | None = None,
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> Any:
    hits = [
        m
        for p in filtered_projects(ctx, source, project_filters, None)
        for c in filtered_collections(list(p.collections.values()), collection_filters, None)
        if c.kind == "ArtifactPortfolio"
        for m in filtered_memberships(c.memberships, filters)
    ]
    return connection(ordered(hits, order), after, first)


@resolver("Entity.integrations")
def entity_integrations(source: Entity, ctx: Context, after: str | None = None, first: int | None = None) -> Any:
    found = [i for i in ctx.automations.integrations.values() if i.entity is source]
    return connection(found, after, first)


@resolver("Entity.triggers")
def entity_triggers(
    source: Entity,
    ctx: Context,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
    filters: str | None = None,
) -> Any:
    return connection([t for t in ctx.automations.triggers.values() if t.entity is source], after, first)


@resolver("Project.entityName")
def project_entity_name(source: Project, ctx: Context) -> str:
    return source.entity.name


@resolver("Project.user")
def project_user(source: Project, ctx: Context) -> User | None:
    return source.entity.user


@resolver("Project.readOnly")
def project_read_only(source: Project, ctx: Context) -> bool:
    return not ctx.can(Role.MEMBER, source)


@resolver("Project.triggers")
def project_triggers(source: Project, ctx: Context) -> list[Any]:
    return [t for t in ctx.automations.triggers.values() if t.project is source]
