"""The folder that a pull publishes: what makes it published, and how it becomes so in one step.

A folder is published when it holds the marker, and it holds the marker only after every file in it was verified and is
on the disk. It appears under its name by one rename, so that a kill or a power cut at any moment leaves either nothing
under the name or the whole. Must never write into a published folder, nor remove anything it did not make.
"""

import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modelsync.puller.digests import Algorithm, hash_file, hex_of
from modelsync.puller.errors import PublishedChangedError, StorageFailedError, TargetUnusableError, UnsafeNameError
from modelsync.puller.file_names import MARKER, check_names, shown
from modelsync.puller.manifest import MAX_MANIFEST_BYTES, Entry, Manifest, digest_of

_FORMAT = 1
_MAX_MARKER_BYTES = 2 * MAX_MANIFEST_BYTES
"""A marker holds less than its manifest; whoever can write beside the target must not fill our memory."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a published folder says that it is, and can prove: `entries` have the digest `digest`."""

    folder: Path
    digest: str
    algorithm: Algorithm
    entries: tuple[Entry, ...]
    """Every size is known."""
    times: tuple[int, ...] = ()
    """Modification time of each entry as it was verified, in nanoseconds; empty if an older modelsync published."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size or 0 for entry in self.entries)

    def check(self, *, content: bool = False) -> None:
        """Prove that nothing has changed since every byte was verified. Raises PublishedChangedError.

        Sizes and modification times say so in microseconds a file; a file whose time has changed is read again.
        With `content` all are.
        """
        if content:
            self.check_content()
            return
        for entry in self.check_sizes():
            self._check_bytes(entry)

    def check_sizes(self) -> list[Entry]:
        """Look at every file; return those whose modification time has changed. Raises PublishedChangedError."""
        touched = []
        for number, entry in enumerate(self.entries):
            try:
                found = os.lstat(self.folder / entry.path)
            except OSError:
                raise self._changed(entry, "is gone") from None
            if not stat.S_ISREG(found.st_mode):
                raise self._changed(entry, "is no longer a plain file")
            if found.st_size != entry.size:
                raise self._changed(entry, f"has {found.st_size} bytes and had {entry.size}")
            if self.times and found.st_mtime_ns != self.times[number]:
                touched.append(entry)
        return touched

    def check_content(self) -> None:
        """Read every file again, and find files that do not belong there. Raises PublishedChangedError."""
        self.check_sizes()
        for entry in self.entries:
            self._check_bytes(entry)
        known = {entry.path for entry in self.entries} | {MARKER}
        for at, _, files in os.walk(self.folder):
            for file in files:
                path = os.path.relpath(os.path.join(at, file), self.folder)
                if path not in known:
                    raise self._changed(Entry(path, "", self.algorithm, 0), "does not belong to the artifact")

    def _check_bytes(self, entry: Entry) -> None:
        try:
            found = hash_file(str(self.folder / entry.path), entry.algorithm)
        except OSError as error:
            raise self._changed(entry, f"cannot be read ({error.strerror})") from None
        if found != entry.digest:
            raise self._changed(entry, f"has other bytes ({entry.algorithm} {found} and had {entry.digest})")

    def _changed(self, entry: Entry, how: str) -> PublishedChangedError:
        return PublishedChangedError(
            f"{self.folder} was published and changed since: {shown(entry.path)} {how}", file=entry.path
        )


def usable_target(folder: Path) -> Path:
    """Return `folder` as the absolute path to publish, its parent made. Raises TargetUnusableError."""
    if folder.is_symlink():
        raise TargetUnusableError(f"{folder} is a symbolic link; pass the folder itself")
    target = folder.parent.resolve() / folder.name if folder.name not in ("", "..") else folder.resolve()
    if target == Path(target.anchor) or Path.cwd().is_relative_to(target):
        raise TargetUnusableError(
            f"{target} is the working folder or above it and cannot be replaced; pass a folder inside it, "
            f"as in {target / 'model'}"
        )
    if os.path.ismount(target):
        raise TargetUnusableError(
            f"{target} is a mount point, and a mount point cannot appear in one step; pass a folder inside it, as in "
            f"{target / 'model'}"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetUnusableError(f"{target.parent} cannot be made ({error.strerror}); pass another folder") from None
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise TargetUnusableError(
            f"{target.parent} may not be written to by user {os.geteuid()}; pass a folder in a place that may, or "
            "change its owner"
        )
    if target.exists() and not target.is_dir():
        raise TargetUnusableError(f"{target} is a file; pass a folder that does not exist yet")
    return target


def find_published(target: Path, *, digest: str | None) -> Published | None:
    """Return what is published at `target`; None if it does not exist or is an empty folder.

    Raises TargetUnusableError if it holds something else, also another version than `digest`.
    """
    try:
        with os.scandir(target) as found:
            if next(found, None) is None:
                return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TargetUnusableError(f"{target} cannot be read ({error.strerror}); pass another folder") from None
    published = read_marker(target)
    if published is None:
        raise TargetUnusableError(
            f"{target} is not empty and was not published by modelsync; pass a folder that does not exist yet, or "
            "empty it"
        )
    if digest is not None and published.digest != digest:
        raise TargetUnusableError(
            f"{target} holds another version (digest {published.digest}, asked for {digest}); pass another folder, or "
            "remove this one first"
        )
    return published


def read_marker(folder: Path) -> Published | None:
    """Return what the marker in `folder` says, if it proves itself; None for anything else."""
    try:
        with open(os.open(folder / MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            content = file.read(_MAX_MARKER_BYTES + 1)
        if len(content) > _MAX_MARKER_BYTES:
            return None
        document = json.loads(content)
        if document["format"] != _FORMAT:
            return None
        algorithm = Algorithm(document["algorithm"])
        entries = tuple(
            Entry(str(path), str(digest), Algorithm(kind), int(size)) for path, digest, kind, size in document["files"]
        )
        check_names(entry.path for entry in entries)
        times = tuple(int(time) for time in document.get("times", ()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, UnsafeNameError):
        return None
    if any(hex_of(entry.digest) is None for entry in entries) or digest_of(entries, algorithm) != document.get(
        "digest"
    ):
        return None
    return Published(folder, document["digest"], algorithm, entries, times if len(times) == len(entries) else ())


def write_marker(folder: Path, manifest: Manifest, *, artifact_id: str, sizes: dict[str, int]) -> None:
    """Mark `folder` as whole; `sizes` are the bytes of each file as they were verified. Raises OSError."""
    document = {
        # Readers of this format take what they do not know for nothing: an older modelsync reads it too.
        "format": _FORMAT,
        "digest": manifest.digest,
        "algorithm": manifest.algorithm,
        "artifactID": artifact_id,
        "files": [[entry.path, entry.digest, entry.algorithm, sizes[entry.path]] for entry in manifest.entries],
        "times": [os.lstat(folder / entry.path).st_mtime_ns for entry in manifest.entries],
    }
    with open(folder / MARKER, "x", encoding="utf-8") as file:
        json.dump(document, file, separators=(",", ":"))
        file.write("\n")
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())


def publish(tree: Path, target: Path, *, instead_of: Published | None = None, aside: Path) -> None:
    """Give `tree`, whole, marked and on the same file system, the name `target`. Raises TargetUnusableError.

    A damaged folder that is there (`instead_of`) is renamed to `aside` first; who has its files open keeps them.
    """
    for at, _, _ in os.walk(tree):
        os.chmod(at, 0o755)  # noqa: S103 - the server runs as another user than the puller, and may only read
        sync_folder(Path(at))
    if instead_of is not None and read_marker(target) == instead_of:
        with suppress(OSError):
            os.rename(target, aside)
    try:
        os.rename(tree, target)
    except OSError as error:
        raise TargetUnusableError(
            f"{target} could not be put in place ({error.strerror}): something else was put there meanwhile; remove it "
            "and pull again, what was fetched is kept"
        ) from None
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk. Raises StorageFailedError."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageFailedError(f"{folder} could not be synced to the disk ({error.strerror}); pull again") from None
