"""An artifact's manifest: parsed from the object store's bytes, and verified against the artifact's digest.

Verified means: the digest over all names and file digests equals the registry's, so that someone who can write to the
object store alone cannot add, drop, rename or swap a file. Must never do I/O.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from modelsync.api.foreign_json import ForeignJSONError, RepeatedKeyError, read_json
from modelsync.api.foreign_text import foreign_text
from modelsync.puller.digests import Algorithm, hasher, hex_of
from modelsync.puller.errors import BadManifestError, ManifestMismatchError, UnsafeNameError, UnsupportedReferenceError
from modelsync.puller.file_names import check_names, shown

MAX_MANIFEST_BYTES = 10 * 2**20
"""About 75,000 files. A model has dozens; the puller's memory is bounded: at worst 26 bytes for each of these."""

_HEADER = b"wandb-artifact-manifest-v1\n"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an artifact."""

    path: str
    digest: str
    """base64, as in the manifest."""
    algorithm: Algorithm
    size: int | None
    """Bytes; None if the manifest does not contain it."""

    @property
    def content_key(self) -> str:
        """A name for the content: the same for the same bytes in every version."""
        size = "" if self.size is None else f"-{self.size}"
        return f"{self.algorithm.lower()}-{hex_of(self.digest)}{size}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A verified manifest, with safe names only, and all files stored by W&B."""

    digest: str
    algorithm: Algorithm
    entries: tuple[Entry, ...]
    """Sorted by name."""

    @property
    def size(self) -> int:
        """Bytes of all files whose size is known."""
        return sum(entry.size or 0 for entry in self.entries)


def read_manifest(content: bytes, *, digest: str, algorithm: Algorithm) -> Manifest:
    """Parse `content` and verify that it is the manifest of the artifact with `digest`. Linear in time and memory.

    Raises BadManifestError, ManifestMismatchError, UnsafeNameError, UnsupportedReferenceError.
    """
    contents = _contents(content)
    found = _manifest_digest(((path, str(entry.get("digest"))) for path, entry in contents.items()), algorithm)
    if found != digest:
        raise ManifestMismatchError(
            f"the manifest has the {algorithm} digest {found}, but the artifact's digest is {digest}: it is not the "
            "manifest of this artifact; nothing was published; pull again; if the error persists, the object store "
            "returns wrong bytes and the artifact must be logged again"
        )
    check_names(contents)
    return Manifest(digest, algorithm, tuple(_entry(path, contents[path], algorithm) for path in sorted(contents)))


def digest_of(entries: Iterable[Entry], algorithm: Algorithm) -> str:
    """Compute the artifact's digest, hex, over `entries`, as wandb.sdk.artifacts.artifact_manifests does."""
    return _manifest_digest(((entry.path, entry.digest) for entry in entries), algorithm)


def _manifest_digest(digests: Iterable[tuple[str, str]], algorithm: Algorithm) -> str:
    hashed = hasher(algorithm)
    hashed.update(_HEADER)
    for path, digest in sorted(digests):
        # Lone surrogates are rejected by check_names; here they must only not raise.
        hashed.update(f"{path}:{digest}\n".encode(errors="surrogatepass"))
    return hashed.hexdigest()


def _quoted(value: Any) -> str:
    """What the author wrote, for a message."""
    return foreign_text(repr(value))


def _contents(content: bytes) -> dict[str, dict[str, Any]]:
    try:
        document = read_json(content, max_bytes=MAX_MANIFEST_BYTES)
    except RepeatedKeyError as error:
        # json.loads keeps the last of two, another reader the first: two readers, two artifacts.
        raise UnsafeNameError(
            f"the manifest names {shown(error.key)} twice; nothing was published; the artifact must be logged again",
            file=shown(error.key),
        ) from None
    except ForeignJSONError as error:
        raise BadManifestError(
            f"the manifest is not JSON ({shown(str(error))}); nothing was published; pull again; if the error "
            "persists, the artifact must be logged again"
        ) from None
    version = document.get("version") if isinstance(document, dict) else None
    if version != 1:
        raise BadManifestError(
            f"the manifest has version {_quoted(version)}; this modelsync reads version 1; use a newer modelsync"
        )
    contents = document.get("contents")
    if not isinstance(contents, dict) or not all(isinstance(entry, dict) for entry in contents.values()):
        raise BadManifestError("the manifest's `contents` is not a map of files; the artifact must be logged again")
    return contents


def _entry(path: str, fields: dict[str, Any], artifact_algorithm: Algorithm) -> Entry:
    if (ref := fields.get("ref")) is not None:
        target = foreign_text(str(ref))  # maybe a signed URL
        raise UnsupportedReferenceError(
            f"{shown(path)} is a reference to {target}, not a file stored by W&B, and references are not "
            "pulled; nothing was published; log the artifact with its files (`artifact.add_file` or `add_dir`)",
            file=path,
        )
    extra = fields.get("extra")
    named = extra.get("alg") if isinstance(extra, dict) else None
    if named not in (None, *Algorithm):
        raise BadManifestError(
            f"{shown(path)} has a digest of type {_quoted(named)}; this modelsync verifies "
            f"{' and '.join(Algorithm)}; use a newer modelsync",
            file=path,
        )
    algorithm = Algorithm(named) if named else Algorithm.MD5
    if algorithm is not artifact_algorithm and artifact_algorithm is Algorithm.MD5:
        # The artifact's digest does not cover `extra`: someone who can only write to the object store must not be
        # able to replace MD5 by an algorithm for which collisions are cheap.
        raise BadManifestError(
            f"{shown(path)} has an {algorithm} digest in an artifact whose digests are {artifact_algorithm}; nothing "
            "was published; the artifact must be logged again",
            file=path,
        )
    digest = fields.get("digest")
    if not isinstance(digest, str) or hex_of(digest) is None:
        raise BadManifestError(
            f"{shown(path)} has the digest {_quoted(digest)}, which is not the base64 of 16 bytes; the artifact "
            "must be logged again",
            file=path,
        )
    size = fields.get("size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise BadManifestError(
            f"{shown(path)} has the size {_quoted(size)}, which is not a number of bytes; the artifact must be "
            "logged again",
            file=path,
        )
    return Entry(path, digest, algorithm, size)
