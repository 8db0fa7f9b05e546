"""What a client may change, after the check that it may: each mutation of the schema, handed on to the store."""

from __future__ import annotations

import base64
import secrets
from typing import Any

from wandb_standin.context import Context
from wandb_standin.errors import RefusedError, not_found, permission_denied
from wandb_standin.model import Artifact, Collection, Manifest, Project, Role, Run
from wandb_standin.queries import resolver, run_file

Input = dict[str, Any]

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
    run = _writable_run(ctx, input)
    for name in input["files"]:
        run.storage_keys.setdefault(name, f"runs/{run.id.rstrip('=')}/{name}")
    files = [run_file(ctx, run, name) for name in input["files"]]
    return {"runID": run.id, "uploadHeaders": [], "files": files}


@resolver("Mutation.markRunFilesUploaded")
def mark_run_files_uploaded(_: None, ctx: Context, input: Input) -> dict[str, bool]:
    run = _writable_run(ctx, input)
    return {"success": all(name in run.storage_keys for name in input["files"])}


@resolver("Mutation.createArtifactType")
def create_artifact_type(_: None, ctx: Context, input: Input) -> dict[str, Any]:
    project = ctx.ensure_writable_project(input["entity_name"], input["project_name"])
    return {"artifactType": ctx.store.ensure_type(project, input["name"])}


@resolver("Mutation.createArtifact")
def create_artifact(_: None, ctx: Context, input: Input) -> dict[str, Artifact]:
    project = ctx.ensure_writable_project(input["entity_name"], input["project_name"])
    names = [n for n in [input.get("artifact_collection_name"), *(input.get("artifact_collection_names") or [])] if n]
    if not names:
        raise RefusedError("artifactCollectionName is required")
    run = None
    if input.get("run_name"):
        run = project.runs.get(input["run_name"])
        if run is None:
            raise not_found(f"run {input['run_name']!r} of {project.path!r}")
    artifact = ctx.store.create_artifact(
        project,
        type_name=input["artifact_type_name"],
        collection_name=names[0],
        digest=input["digest"],
        digest_algorithm=input["digest_algorithm"],
        run=run,
        user=ctx.user,
        description=input.get("description"),
        metadata=input.get("metadata"),
        aliases=[a["alias"] for a in input.get("aliases") or []],
        tags=[t["tag_name"] for t in input.get("tags") or []],
        history_step=input.get("history_step"),
        ttl_seconds=input.get("ttl_duration_seconds"),
        client_id=input.get("client_id"),
        deduplicate=bool(input.get("enable_digest_deduplication")),
    )
    return {"artifact": artifact}


@resolver("Mutation.createArtifactManifest")
def create_artifact_manifest(_: None, ctx: Context, input: Input) -> dict[str, Manifest]:
    artifact = _writable_artifact(ctx, input["artifact_id"])
    if input.get("type") not in (None, "FULL"):
        raise RefusedError(f"this server takes FULL manifests, not {input['type']}")
    manifest = ctx.store.create_manifest(artifact, name=input["name"], digest=input["digest"], kind="FULL")
    return {"artifactManifest": manifest}


@resolver("Mutation.updateArtifactManifest")
def update_artifact_manifest(_: None, ctx: Context, input: Input) -> dict[str, Manifest]:
    manifest = ctx.store.node(Manifest, input["artifact_manifest_id"])
    ctx.require(Role.MEMBER, manifest.artifact.artifact_sequence.project)
    manifest.digest = input.get("digest") or manifest.digest
    return {"artifactManifest": manifest}


@resolver("Mutation.createArtifactFiles")
def create_artifact_files(_: None, ctx: Context, input: Input) -> dict[str, Any]:
    edges = [{"cursor": str(i), "node": _upload(ctx, spec)} for i, spec in enumerate(input["artifact_files"])]
    page = {"endCursor": None, "hasNextPage": False}
    return {"files": {"totalCount": len(edges), "pageInfo": page, "edges": edges}}


@resolver("Mutation.completeMultipartUploadArtifact")
def complete_multipart_upload(_: None, ctx: Context, input: Input) -> dict[str, str]:
    _writable_artifact(ctx, input["artifact_id"])
    key, parts = input["storage_path"], sorted(input["completed_parts"], key=lambda p: p["part_number"])
    part_keys = [_part_key(key, input["upload_id"], part["part_number"]) for part in parts]
    for part, part_key in zip(parts, part_keys, strict=True):
        blob = ctx.store.blobs.get(part_key)
        if blob is None or blob.md5_hex != part["hex_md5"].strip('"'):
            raise RefusedError(f"part {part['part_number']} of {key!r} is missing or not what its ETag says")
    return {"digest": ctx.store.blobs.join(key, part_keys).md5_base64}


@resolver("Mutation.commitArtifact")
def commit_artifact(_: None, ctx: Context, input: Input) -> dict[str, Artifact]:
    artifact = _writable_artifact(ctx, input["artifact_id"])
    return {"artifact": ctx.store.commit_artifact(artifact, ctx.user)}


@resolver("Mutation.updateArtifact")
def update_artifact(_: None, ctx: Context, input: Input) -> dict[str, Artifact]:
    artifact = _writable_artifact(ctx, input["artifact_id"])
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
    artifact = _writable_artifact(ctx, input["artifact_id"])
    return {"artifact": ctx.store.delete_artifact(artifact, delete_aliases=bool(input.get("delete_aliases")))}


@resolver("Mutation.useArtifact")
def use_artifact(_: None, ctx: Context, input: Input) -> dict[str, Artifact]:
    run = _writable_run(ctx, input)
    artifact = _visible_artifact(ctx, input["artifact_id"])
    if not ctx.can_download(artifact):
        raise permission_denied()
    if run not in artifact.used_by:
        artifact.used_by.append(run)
        run.input_versions.append(artifact)
    return {"artifact": artifact}


@resolver("Mutation.addAliases")
def add_aliases(_: None, ctx: Context, input: Input) -> dict[str, bool]:
    artifact = _visible_artifact(ctx, input["artifact_id"])
    for spec in input["aliases"]:
        collection = _writable_collection(ctx, spec, alias=spec["alias"])
        ctx.store.set_aliases(ctx.store.membership_of(collection, artifact), [spec["alias"]], author=ctx.user)
    return {"success": True}


@resolver("Mutation.deleteAliases")
def delete_aliases(_: None, ctx: Context, input: Input) -> dict[str, bool]:
    artifact = _visible_artifact(ctx, input["artifact_id"])
    for spec in input["aliases"]:
        collection = _writable_collection(ctx, spec, alias=spec["alias"])
        ctx.store.remove_alias(ctx.store.membership_of(collection, artifact), spec["alias"])
    return {"success": True}


@resolver("Mutation.linkArtifact")
def link_artifact(_: None, ctx: Context, input: Input) -> dict[str, Any]:
    if input.get("artifact_id"):
        artifact = _visible_artifact(ctx, input["artifact_id"])
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
        _check_protected(ctx, project, alias)
    membership = ctx.store.link_artifact(artifact, project, name, aliases, ctx.user)
    return {"versionIndex": membership.version_index, "artifactMembership": membership}


@resolver("Mutation.unlinkArtifact")
def unlink_artifact(_: None, ctx: Context, input: Input) -> dict[str, bool]:
    portfolio = ctx.store.node(Collection, input["artifact_portfolio_id"])
    ctx.require(Role.MEMBER, portfolio.project)
    ctx.store.unlink_artifact(_visible_artifact(ctx, input["artifact_id"]), portfolio, ctx.user)
    return {"success": True}


@resolver("Mutation.createArtifactCollectionTagAssignments")
def add_collection_tags(_: None, ctx: Context, input: Input) -> dict[str, Any]:
    collection = _writable_collection(ctx, input)
    ctx.store.change_collection_tags(collection, add=[t["tag_name"] for t in input["tags"]], author=ctx.user)
    return {"tags": collection.tags}


@resolver("Mutation.deleteArtifactCollectionTagAssignments")
def delete_collection_tags(_: None, ctx: Context, input: Input) -> dict[str, bool]:
    collection = _writable_collection(ctx, input)
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


def _writable_run(ctx: Context, input: Input) -> Run:
    project = ctx.writable_project(input["entity_name"], input["project_name"])
    run = project.runs.get(input["run_name"])
    if run is None:
        raise not_found("run")
    return run


def _visible_artifact(ctx: Context, artifact_id: str) -> Artifact:
    ctx.require_user()
    artifact = ctx.store.node(Artifact, artifact_id)
    if not ctx.can_see_artifact(artifact):
        raise not_found(f"artifact {artifact_id!r}")
    ctx.refs.append(f"{artifact.artifact_sequence.path}:{artifact.id}")
    return artifact


def _writable_artifact(ctx: Context, artifact_id: str) -> Artifact:
    """A version is written with the rights on the project that it was born in, wherever it is linked."""
    artifact = _visible_artifact(ctx, artifact_id)
    project = artifact.artifact_sequence.project
    if not ctx.can(Role.MEMBER, project):
        raise permission_denied()
    return artifact


def _writable_collection(ctx: Context, spec: Input, *, alias: str | None = None) -> Collection:
    project = ctx.writable_project(spec["entity_name"], spec["project_name"])
    collection = project.collections.get(spec["artifact_collection_name"])
    if collection is None:
        raise not_found(f"artifact collection {spec['artifact_collection_name']!r}")
    if alias is not None:
        _check_protected(ctx, project, alias)
    ctx.refs.append(f"{collection.path}:{alias}" if alias else collection.path)
    return collection


def _check_protected(ctx: Context, project: Project, alias: str) -> None:
    if alias in project.protected_aliases and not ctx.can(Role.ADMIN, project):
        raise permission_denied()


def _link_target(ctx: Context, input: Input) -> Project:
    user = ctx.require_user()
    entity_name, name = input.get("entity_name") or user.entity, input.get("project_name") or "uncategorized"
    project = ctx.store.find_project(entity_name, name)
    if project is None and name.startswith("wandb-registry-"):
        raise not_found(f"registry {name!r} of {entity_name!r}")
    return ctx.ensure_writable_project(entity_name, name)


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


def _part_key(key: str, upload_id: str, part_number: int) -> str:
    return f"{key}.part-{upload_id}-{part_number}"


def _upload(ctx: Context, spec: Input) -> dict[str, Any]:
    artifact = _writable_artifact(ctx, spec["artifact_id"])
    if artifact.state != "PENDING":
        raise RefusedError(f"cannot add files to an artifact that is {artifact.state}")
    digest = spec.get("digest") or spec["md5"]
    key, birth_id, stored = ctx.store.reserve_file(artifact, spec["name"], digest)
    parts = spec.get("upload_parts_input")
    multipart = None
    if parts and not stored:
        upload_id = secrets.token_hex(8)
        multipart = {
            "uploadID": upload_id,
            "uploadUrlParts": [
                {
                    "partNumber": part["part_number"],
                    "uploadUrl": ctx.signer.url(ctx.base_url, "PUT", _part_key(key, upload_id, part["part_number"])),
                }
                for part in parts
            ],
        }
    headers = ["Content-Type:application/octet-stream"]
    if spec["md5"]:
        headers.append(f"Content-MD5:{spec['md5']}")
    return {
        "id": base64.b64encode(f"File:{key}".encode()).decode(),
        "name": spec["name"],
        "displayName": spec["name"],
        "directUrl": ctx.signer.url(ctx.base_url, "GET", key),
        "sizeBytes": 0,
        "storagePath": key,
        "digest": digest,
        "md5": spec["md5"] or None,
        "uploadUrl": None if stored else ctx.signer.url(ctx.base_url, "PUT", key),
        "uploadHeaders": headers,
        "uploadMultipartUrls": multipart,
        "artifact": ctx.store.node(Artifact, birth_id),
    }
