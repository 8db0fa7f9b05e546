"""Inspects an artifact without pulling it: the names of its files, and the content of a few small ones.

What it reads was written by the artifact's author, and is verified as in a pull: the manifest against the artifact's
digest, each file against the manifest. It has no key, only the signed URLs that `locate_artifact.py` asked for. In the
operator it must only run in a process of its own (effects/adapter_process.py). Must never write to the disk.
"""

import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from modelsync.puller.digests import Algorithm, hasher, hex_of
from modelsync.puller.errors import BadManifestError, CorruptFileError, NotFoundError, UnreachableError
from modelsync.puller.manifest import Entry, read_manifest
from modelsync.puller.object_store import AttemptError, ObjectStore, WrongLengthError

MAX_MANIFEST_BYTES = 4 * 2**20
"""About 30,000 files; an adapter has a dozen. A pull may have more."""
MAX_FILE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Location:
    """Where an artifact's bytes are, for some minutes. The URLs are signed: whoever has them can read the files."""

    digest: str
    algorithm: Algorithm
    manifest_url: str
    urls: Mapping[str, str]
    """Of each requested file that the registry lists."""


@dataclass(frozen=True, slots=True)
class InspectedArtifact:
    """The verified result of an inspection."""

    files: frozenset[str]
    """The paths of all files."""
    contents: Mapping[str, bytes]
    """The content of each requested file that exists."""


def inspect(
    location: Location, *, names: Collection[str], user_agent: str, ssl_context: ssl.SSLContext | None = None
) -> InspectedArtifact:
    """Read the names of the artifact's files, and the content of `names`, each at most MAX_FILE_BYTES.

    Blocks, for as long as the object store wants. Raises PullError.
    """
    store = ObjectStore(ssl_context=ssl_context, connections=1, user_agent=user_agent)
    try:
        content = _read(store, location.manifest_url, MAX_MANIFEST_BYTES, "the manifest")
        manifest = read_manifest(content, digest=location.digest, algorithm=location.algorithm)
        entries = {entry.path: entry for entry in manifest.entries}
        wanted = {name: entries[name] for name in names if name in entries}
        if missing := wanted.keys() - location.urls.keys():
            raise NotFoundError(
                f"{min(missing)}: the manifest lists the file, but the server returned no URL; log the artifact again"
            )
        contents = {name: _verified(store, location.urls[name], entry) for name, entry in wanted.items()}
        return InspectedArtifact(frozenset(entries), contents)
    finally:
        store.close()


def _verified(store: ObjectStore, url: str, entry: Entry) -> bytes:
    content = _read(store, url, MAX_FILE_BYTES, entry.path)
    digest = hasher(entry.algorithm)
    digest.update(content)
    if digest.hexdigest() != hex_of(entry.digest):
        raise CorruptFileError(
            f"{entry.path}: the object store's bytes do not match the manifest; log the artifact again",
            file=entry.path,
        )
    return content


def _read(store: ObjectStore, url: str, most: int, what: str) -> bytes:
    try:
        return store.read_all(url, most=most)
    except WrongLengthError as error:
        raise BadManifestError(f"{what}: {error}; log the artifact again with fewer or smaller files") from None
    except AttemptError as error:
        raise UnreachableError(f"{what}: {error}; check the network from here to the object store") from None
