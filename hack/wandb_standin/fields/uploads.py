"""Mutations that create a version: create it, upload its files and manifest, commit it."""

from __future__ import annotations

import secrets
from typing import Any

from wandb_standin.context import Context
from wandb_standin.errors import RefusedError, not_found
from wandb_standin.fields.files import file_id
from wandb_standin.fields.guards import writable_artifact
from wandb_standin.fields.registry import Input, resolver
from wandb_standin.model import Artifact, Manifest, Role


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
    artifact = writable_artifact(ctx, input["artifact_id"])
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
    writable_artifact(ctx, input["artifact_id"])
    key, parts = input["storage_path"], sorted(input["completed_parts"], key=lambda p: p["part_number"])
    part_keys = [_part_key(key, input["upload_id"], part["part_number"]) for part in parts]
    for part, part_key in zip(parts, part_keys, strict=True):
        blob = ctx.store.blobs.get(part_key)
        if blob is None or blob.md5_hex != part["hex_md5"].strip('"'):
            raise RefusedError(f"part {part['part_number']} of {key!r} is missing or not what its ETag says")
    return {"digest": ctx.store.blobs.join(key, part_keys).md5_base64}


@resolver("Mutation.commitArtifact")
def commit_artifact(_: None, ctx: Context, input: Input) -> dict[str, Artifact]:
    artifact = writable_artifact(ctx, input["artifact_id"])
    return {"artifact": ctx.store.commit_artifact(artifact, ctx.user)}


def _upload(ctx: Context, spec: Input) -> dict[str, Any]:
    artifact = writable_artifact(ctx, spec["artifact_id"])
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
        "id": file_id(artifact.id, spec["name"]),
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


def _part_key(key: str, upload_id: str, part_number: int) -> str:
    return f"{key}.part-{upload_id}-{part_number}"
