"""Queries of the files of versions and runs: names, sizes and presigned URLs."""

from __future__ import annotations

import base64
from typing import Any

from wandb_standin.context import Context
from wandb_standin.errors import permission_denied
from wandb_standin.fields.registry import resolver
from wandb_standin.model import Artifact, Entry, Manifest, Membership, Run
from wandb_standin.paging import connection


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
    """A file of a run in the API's form."""
    key = run.storage_keys[name]
    blob = ctx.store.blobs.get(key)
    read = ctx.signer.url(ctx.base_url, "GET", key)
    write = ctx.signer.url(ctx.base_url, "PUT", key)
    return {
        "id": file_id(run.id, name),
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


def _entry_file(ctx: Context, artifact: Artifact, entry: Entry) -> dict[str, Any]:
    key = ctx.store.file_key(entry)
    blob = ctx.store.blobs.get(key) if key else None

    def url(info: object, upload: bool | None = None) -> str:
        return entry.ref or _download_url(ctx, artifact, key or "")

    return {
        "id": file_id(artifact.id, entry.name),
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


def file_id(owner_id: str, name: str) -> str:
    """The id of a file of a version or run."""
    return base64.b64encode(f"File:{owner_id}:{name}".encode()).decode()
