"""W&B's artifact manifest, version 1: writes and reads it, and computes the artifact's digest."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

import xxhash

from wandb_standin.model import DigestAlgorithm, Entry

HEADER: Final = "wandb-artifact-manifest-v1\n"


def artifact_digest(entries: Iterable[Entry], algorithm: DigestAlgorithm) -> str:
    """Hex digest over the header and the sorted `path:digest` lines, like the SDK's `ArtifactManifestV1.digest`."""
    lines = HEADER + "".join(f"{e.name}:{e.digest}\n" for e in sorted(entries, key=lambda e: e.name))
    if algorithm == "MANIFEST_XXH128":
        return xxhash.xxh128_hexdigest(lines.encode())
    return hashlib.md5(lines.encode(), usedforsecurity=False).hexdigest()


def dump(entries: Iterable[Entry]) -> bytes:
    """The manifest file as the SDK writes it."""
    contents: dict[str, dict[str, Any]] = {}
    for entry in sorted(entries, key=lambda e: e.name):
        line: dict[str, Any] = {"digest": entry.digest}
        if entry.birth_artifact_id:
            line["birthArtifactID"] = entry.birth_artifact_id
        if entry.ref:
            line["ref"] = entry.ref
        if entry.extra:
            line["extra"] = entry.extra
        contents[entry.name] = line | {"size": entry.size}
    document = {
        "version": 1,
        "storagePolicy": "wandb-storage-policy-v1",
        "storagePolicyConfig": {"storageLayout": "V2"},
        "contents": contents,
    }
    return json.dumps(document, sort_keys=True).encode()


def load(document: bytes) -> dict[str, Entry]:
    """The entries of a manifest file, by name.

    Raises:
        ValueError: not a version 1 manifest.
    """
    manifest = json.loads(document)
    if not isinstance(manifest, dict) or manifest.get("version") != 1:
        raise ValueError("not a version 1 artifact manifest")
    return {
        name: Entry(
            name=name,
            digest=line["digest"],
            size=int(line.get("size") or 0),
            birth_artifact_id=line.get("birthArtifactID"),
            ref=line.get("ref"),
            extra=line.get("extra") or {},
        )
        for name, line in manifest["contents"].items()
    }


def content_digest(content: bytes, algorithm: DigestAlgorithm) -> str:
    """Base64 digest of a file's content, as in a manifest."""
    if algorithm == "MANIFEST_XXH128":
        return base64.b64encode(xxhash.xxh128_digest(content)).decode()
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def hex_of(digest: str) -> str:
    """Base64 digest -> hex, as in storage paths."""
    return base64.b64decode(digest).hex()
