"""How the fields of the schema are read. A field that is not here is the attribute of the same name in `model`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from wandb_standin import filters
from wandb_standin.context import Context
from wandb_standin.errors import not_logged_in, permission_denied
from wandb_standin.model import (
    Artifact,
    ArtifactType,
    Collection,
    Entity,
    Entry,
    Manifest,
    Membership,
    Organization,
    Project,
    Role,
    Run,
    User,
    global_id,
)
from wandb_standin.paging import connection

Resolver = Callable[..., Any]
RESOLVERS: Final[dict[tuple[str, str], Resolver]] = {}


def resolver(*fields: str) -> Callable[[Resolver], Resolver]:
    """Register a function `(source, context, **arguments)` for `Type.field`s."""

    def register(function: Resolver) -> Resolver:
        for name in fields:
            type_name, field_name = name.split(".")
            RESOLVERS[type_name, field_name] = function
        return function

    return register


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
    return connection(_visible_projects(ctx, found), after, first) if found else None


@resolver("Query.artifact")
def artifact_by_id(_: None, ctx: Context, id: str) -> Artifact | None:
    found = ctx.store.nodes.get(id)
    if not isinstance(found, Artifact) or not ctx.can_see_artifact(found):
        return None
    sequence = found.artifact_sequence
    version = f"v{found.version_index}" if found.version_index is not None else found.id
    ctx.note_ref(f"{sequence.path}:{version}")
    return found


@resolver("Query.artifactCollection")
def collection_by_id(_: None, ctx: Context, id: str) -> Collection | None:
    found = ctx.store.nodes.get(id)
    return found if isinstance(found, Collection) and ctx.can_see_collection(found) else None


@resolver("Query.clientIDMapping")
def client_id_mapping(_: None, ctx: Context, client_id: str) -> dict[str, str] | None:
    found = ctx.store.client_ids.get(client_id)
    return {"serverID": found.id} if found and ctx.can_see_artifact(found) else None


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
    visible = [p for e in ctx.store.entities.values() for p in _visible_projects(ctx, e)]
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
    return connection(_filtered_projects(ctx, source, filters, order), after, first)


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
        for p in _filtered_projects(ctx, source, project_filters, None)
        for c in _filtered_collections(list(p.collections.values()), filters, None)
        if c.kind in wanted
    ]
    return connection(_ordered(hits, order), after, first)


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
        for p in _filtered_projects(ctx, source, project_filters, None)
        for c in _filtered_collections(list(p.collections.values()), collection_filters, None)
        if c.kind == "ArtifactPortfolio"
        for m in _filtered_memberships(c.memberships, filters)
    ]
    return connection(_ordered(hits, order), after, first)


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


@resolver("Project.artifactCollectionMembership")
def membership_by_name(source: Project, ctx: Context, name: str) -> Membership | None:
    ctx.note_ref(f"{source.path}/{name}")
    return ctx.store.find_membership(source, name)


@resolver("Project.artifact")
def artifact_by_name(source: Project, ctx: Context, name: str, enable_tracking: bool | None = None) -> Artifact | None:
    ctx.note_ref(f"{source.path}/{name}")
    found = ctx.store.find_membership(source, name)
    return found.artifact if found else None


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
    return connection(_filtered_collections(list(source.collections.values()), filters, order), after, first)


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
    return connection(_ordered(_filtered_runs(source, filters), order), after, first)


@resolver("Project.runCount")
def project_run_count(source: Project, ctx: Context, filters: str | None = None) -> int:
    return len(_filtered_runs(source, filters))


@resolver("Project.triggers")
def project_triggers(source: Project, ctx: Context) -> list[Any]:
    return [t for t in ctx.automations.triggers.values() if t.project is source]


@resolver("ArtifactSequence.project", "ArtifactPortfolio.project")
def collection_project(source: Collection, ctx: Context) -> Project | None:
    """Null for a reader of a link who may not see where the version was born (wandb/wandb#7201)."""
    return source.project if ctx.can_see_collection(source) else None


@resolver("ArtifactSequence.tags", "ArtifactPortfolio.tags")
def collection_tags(source: Collection, ctx: Context) -> dict[str, Any]:
    return {"edges": [{"node": tag} for tag in source.tags]}


@resolver("ArtifactSequence.aliases", "ArtifactPortfolio.aliases")
def collection_aliases(source: Collection, ctx: Context, after: str | None = None, first: int | None = None) -> Any:
    return connection([a for m in source.memberships for a in m.aliases], after, first)


@resolver("ArtifactSequence.artifactMembership", "ArtifactPortfolio.artifactMembership")
def collection_membership(source: Collection, ctx: Context, alias_name: str) -> Membership | None:
    ctx.note_ref(f"{source.path}:{alias_name}")
    return ctx.store.find_in_collection(source, alias_name)


@resolver("ArtifactSequence.artifactMemberships", "ArtifactPortfolio.artifactMemberships")
def collection_memberships(source: Collection, ctx: Context, after: str | None = None, first: int | None = None) -> Any:
    return connection(source.memberships, after, first)


@resolver("ArtifactSequence.artifacts", "ArtifactPortfolio.artifacts")
def collection_artifacts(
    source: Collection,
    ctx: Context,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
    filters: str | None = None,
) -> Any:
    newest_first = list(reversed(_filtered_memberships(source.memberships, filters)))
    page = connection(_ordered(newest_first, order), after, first)
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
    return connection(_filtered_collections(ours, filters, order), after, first)


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
    return connection(visible, after, first)


@resolver("Artifact.files")
def artifact_files(
    source: Artifact,
    ctx: Context,
    names: list[str] | None = None,
    after: str | None = None,
    first: int | None = None,
) -> Any:
    entries = [e for n, e in sorted(source.entries.items()) if not names or n in names]
    return connection(entries, after, first, show=lambda e: _entry_file(ctx, source, e))


@resolver("ArtifactCollectionMembership.files")
def membership_files(
    source: Membership,
    ctx: Context,
    names: list[str] | None = None,
    after: str | None = None,
    first: int | None = None,
) -> Any:
    return artifact_files(source.artifact, ctx, names, after, first)


@resolver("Artifact.filesByManifestEntries")
def files_by_manifest_entries(
    source: Artifact,
    ctx: Context,
    storage_layout: str,
    manifest_version: str,
    entries: list[dict[str, Any]] | None = None,
    storage_region: str | None = None,
    after: str | None = None,
    first: int | None = None,
) -> Any:
    wanted = [source.entries[e["name"]] for e in entries or [] if e["name"] in source.entries]
    return connection(wanted, after, first or 10_000, show=lambda e: _entry_file(ctx, source, e))


@resolver("ArtifactManifest.file")
def manifest_file(source: Manifest, ctx: Context) -> dict[str, Any]:
    blob = ctx.store.blobs.get(source.storage_key)
    md5 = blob.md5_base64 if blob else source.digest
    return {
        "id": source.id,
        "name": source.name,
        "displayName": source.name,
        "url": lambda info, upload=None: _download_url(ctx, source.artifact, source.storage_key),
        "directUrl": lambda info: _download_url(ctx, source.artifact, source.storage_key),
        "sizeBytes": blob.size if blob else 0,
        "storagePath": source.storage_key,
        "mimetype": "application/json",
        "updatedAt": source.artifact.updated_at,
        "digest": md5,
        "md5": md5,
        "uploadUrl": ctx.signer.url(ctx.base_url, "PUT", source.storage_key),
        "uploadHeaders": [f"Content-MD5:{source.digest}", "Content-Type:application/json"],
        "artifact": source.artifact,
    }


@resolver("File.uploadHeaders")
def file_upload_headers(source: dict[str, Any], ctx: Context) -> list[str]:
    headers: list[str] = source.get("uploadHeaders", [])
    return headers


@resolver("Run.files")
def run_files(
    source: Run,
    ctx: Context,
    names: list[str | None] | None = None,
    after: str | None = None,
    first: int | None = None,
    pattern: str | None = None,
) -> Any:
    stored = [n for n in sorted(source.storage_keys) if ctx.store.blobs.get(source.storage_keys[n])]
    return connection(
        [n for n in stored if not names or n in names], after, first, show=lambda n: run_file(ctx, source, n)
    )


def run_file(ctx: Context, run: Run, name: str) -> dict[str, Any]:
    """A file of a run, as the API shows it."""
    key = run.storage_keys[name]
    blob = ctx.store.blobs.get(key)
    read = ctx.signer.url(ctx.base_url, "GET", key)
    write = ctx.signer.url(ctx.base_url, "PUT", key)
    return {
        "id": global_id("File", abs(hash((run.id, name)))),
        "name": name,
        "displayName": name,
        "url": lambda info, upload=None: write if upload else read,
        "directUrl": read,
        "sizeBytes": blob.size if blob else 0,
        "storagePath": key,
        "updatedAt": run.updated_at,
        "md5": blob.md5_base64 if blob else None,
        "digest": blob.md5_base64 if blob else None,
        "uploadUrl": write,
    }


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


def _entry_file(ctx: Context, artifact: Artifact, entry: Entry) -> dict[str, Any]:
    key = ctx.store.file_key(entry)
    blob = ctx.store.blobs.get(key) if key else None

    def url(info: object, upload: bool | None = None) -> str:
        return entry.ref or _download_url(ctx, artifact, key or "")

    return {
        "id": global_id("File", abs(hash((artifact.id, entry.name)))),
        "name": entry.name,
        "displayName": entry.name,
        "url": url,
        "directUrl": url,
        "sizeBytes": entry.size,
        "storagePath": key,
        "updatedAt": artifact.updated_at,
        "digest": entry.digest,
        "md5": blob.md5_base64 if blob else None,
        "artifact": artifact,
    }


def _download_url(ctx: Context, artifact: Artifact, key: str) -> str:
    if not ctx.can_download(artifact):
        raise permission_denied()
    return ctx.signer.url(ctx.base_url, "GET", key)


def _visible_projects(ctx: Context, source: Entity) -> list[Project]:
    return [p for p in source.projects_by_name.values() if ctx.can(Role.RESTRICTED, p)]


def _filtered_projects(ctx: Context, source: Entity, condition: str | None, order: str | None) -> list[Project]:
    wanted = filters.parse(condition)
    hits = [p for p in _visible_projects(ctx, source) if filters.matches(wanted, {"name": p.name})]
    return _ordered(hits, order)


def _filtered_collections(found: list[Collection], condition: str | None, order: str | None) -> list[Collection]:
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
    return _ordered(hits, order)


def _filtered_memberships(found: list[Membership], condition: str | None) -> list[Membership]:
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


def _filtered_runs(source: Project, condition: str | None) -> list[Run]:
    wanted = filters.parse(condition)
    return [
        r
        for r in source.runs.values()
        if filters.matches(
            wanted,
            {"name": r.name, "displayName": r.display_name, "state": r.state, "tags": r.tags, "jobType": r.job_type},
        )
    ]


def _ordered(found: list[Any], order: str | None) -> list[Any]:
    """`+created_at`, `-name`: by an attribute where the things have it, else as they are."""
    attribute = (order or "").lstrip("+-")
    attribute = {"createdAt": "created_at", "updatedAt": "updated_at", "versionIndex": "version_index"}.get(
        attribute, attribute
    )
    if not attribute or not all(hasattr(item, attribute) for item in found):
        return found
    return sorted(found, key=lambda item: getattr(item, attribute), reverse=(order or "").startswith("-"))
