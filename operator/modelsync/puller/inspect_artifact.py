"""Inspects an artifact without pulling it: the names of its files, and the content of a few small ones.

The result is verified as in a pull: the manifest against the artifact's digest, each file against the manifest. Must
never write to the disk.
"""

import asyncio
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from modelsync.api.model_ref import ModelRef
from modelsync.puller.catalog import Catalog, FileURLs
from modelsync.puller.digests import hasher, hex_of
from modelsync.puller.errors import CorruptFileError, ManifestMismatchError, NotFoundError, UnreachableError
from modelsync.puller.manifest import MAX_MANIFEST_BYTES, Entry, read_manifest
from modelsync.puller.object_store import AttemptError, ObjectStore
from modelsync.registry.graphql import GraphQL, user_agent

MAX_FILE_BYTES = 2**20
RETRY_SECONDS = 0.0
"""A single attempt: the caller retries."""


@dataclass(frozen=True, slots=True)
class InspectedArtifact:
    """The verified result of an inspection."""

    files: frozenset[str]
    """The paths of all files."""
    contents: Mapping[str, bytes]
    """The content of each requested file that exists."""


async def inspect_artifact(
    api: GraphQL,
    *,
    artifact_id: str,
    digest: str,
    ref: ModelRef,
    names: Collection[str],
    ssl_context: ssl.SSLContext | None = None,
) -> InspectedArtifact:
    """Read the names of the artifact's files, and the content of `names`, each at most MAX_FILE_BYTES.

    `ref` is a link to the version through which the key can read its files. Raises PullError.
    """
    catalog = Catalog(api, retry_for=RETRY_SECONDS, note=lambda text: None)
    store = ObjectStore(ssl_context=ssl_context, connections=1, user_agent=user_agent())
    try:
        info = await catalog.artifact(artifact_id)
        if info.digest != digest:
            raise ManifestMismatchError(
                f"artifact {artifact_id} has the digest {info.digest} at {api.base_url}, but {digest} was requested"
            )
        content = await _read(store, info.manifest_url, MAX_MANIFEST_BYTES, "the manifest")
        manifest = await asyncio.to_thread(read_manifest, content, digest=digest, algorithm=info.algorithm)
        entries = {entry.path: entry for entry in manifest.entries}
        wanted = {name: entries[name] for name in names if name in entries}
        urls = await _urls(FileURLs(catalog, artifact_id, ref), set(wanted))
        contents = {name: await _verified(store, urls[name], entry) for name, entry in wanted.items()}
        return InspectedArtifact(frozenset(entries), contents)
    finally:
        store.close()


async def _urls(pages: FileURLs, wanted: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    if wanted:
        async for page in pages.pages():
            found |= {name: url for name, url in page.items() if name in wanted}
            if found.keys() == wanted:
                break
    if missing := wanted - found.keys():
        raise NotFoundError(
            f"{min(missing)}: the manifest lists the file, but the server returned no URL; log the artifact again"
        )
    return found


async def _verified(store: ObjectStore, url: str, entry: Entry) -> bytes:
    content = await _read(store, url, MAX_FILE_BYTES, entry.path)
    digest = hasher(entry.algorithm)
    digest.update(content)
    if digest.hexdigest() != hex_of(entry.digest):
        raise CorruptFileError(
            f"{entry.path}: the object store's bytes do not match the manifest; log the artifact again",
            file=entry.path,
        )
    return content


async def _read(store: ObjectStore, url: str, most: int, what: str) -> bytes:
    try:
        return await asyncio.to_thread(store.read_all, url, most=most)
    except AttemptError as error:
        raise UnreachableError(f"{what}: {error}; check the network from here to the object store") from None
