"""The folder that a pull publishes: its marker, its checks, and the atomic step that publishes it.

A folder is published when it contains the marker, and the marker is written only after every file was verified and
synced to the disk. The folder appears under its name by one rename, so that a kill or power failure at any moment
leaves either nothing under the name or the complete folder. Must never write into a published folder, nor remove
anything it did not create.
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
"""A marker is smaller than its manifest; a forged marker must not exhaust our memory."""


@dataclass(frozen=True, slots=True)
class Published:
    """The parsed marker of a published folder; the digest over `entries` was verified to be `digest`."""

    folder: Path
    digest: str
    algorithm: Algorithm
    entries: tuple[Entry, ...]
    """All with a size."""
    times: tuple[int, ...] = ()
    """Modification time of each entry when verified, in nanoseconds; empty if published by an older modelsync."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size or 0 for entry in self.entries)

    def check(self, *, content: bool = False) -> None:
        """Check that nothing has changed since publication. Raises PublishedChangedError.

        Compares sizes and modification times, which takes microseconds per file; a file whose time has changed is read
        again. With `content` all files are read.
        """
        if content:
            self.check_content()
            return
        for entry in self.check_sizes():
            self._check_bytes(entry)

    def check_sizes(self) -> list[Entry]:
        """Stat every file; return those whose modification time has changed. Raises PublishedChangedError."""
        touched = []
        for number, entry in enumerate(self.entries):
            try:
                found = os.lstat(self.folder / entry.path)
            except OSError:
                raise self._changed(entry, "is missing") from None
            if not stat.S_ISREG(found.st_mode):
                raise self._changed(entry, "is no longer a regular file")
            if found.st_size != entry.size:
                raise self._changed(entry, f"has {found.st_size} bytes, expected {entry.size}")
            if self.times and found.st_mtime_ns != self.times[number]:
                touched.append(entry)
        return touched

    def check_content(self) -> None:
        """Read every file again, and look for files that do not belong there. Raises PublishedChangedError."""
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
            raise self._changed(entry, f"has different content ({entry.algorithm} {found}, expected {entry.digest})")

    def _changed(self, entry: Entry, how: str) -> PublishedChangedError:
        return PublishedChangedError(
            f"{self.folder} was changed after it was published: {shown(entry.path)} {how}", file=entry.path
        )


def usable_target(folder: Path) -> Path:
    """Return the absolute path of `folder`, and create its parent. Raises TargetUnusableError."""
    if folder.is_symlink():
        raise TargetUnusableError(f"{folder} is a symbolic link; pass the folder itself")
    target = folder.parent.resolve() / folder.name if folder.name not in ("", "..") else folder.resolve()
    if target == Path(target.anchor) or Path.cwd().is_relative_to(target):
        raise TargetUnusableError(
            f"{target} is the working directory or a parent of it and cannot be replaced; pass a folder inside it, "
            f"such as {target / 'model'}"
        )
    if os.path.ismount(target):
        raise TargetUnusableError(
            f"{target} is a mount point, which cannot be published atomically; pass a folder inside it, such as "
            f"{target / 'model'}"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetUnusableError(
            f"{target.parent} cannot be created ({error.strerror}); pass another folder"
        ) from None
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise TargetUnusableError(
            f"{target.parent} is not writable by user {os.geteuid()}; pass a folder in a writable directory, or change "
            "its owner"
        )
    if target.exists() and not target.is_dir():
        raise TargetUnusableError(f"{target} is a file; pass a folder that does not exist yet")
    return target


def find_published(target: Path, *, digest: str | None) -> Published | None:
    """Return the published folder at `target`; None if it does not exist or is empty.

    Raises TargetUnusableError if it contains anything else, including a version other than `digest`.
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
            f"{target} contains another version (digest {published.digest}, requested {digest}); pass another folder, "
            "or remove this one first"
        )
    return published


def read_marker(folder: Path) -> Published | None:
    """Return the content of the marker in `folder`, if its digest is consistent; None for anything else."""
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
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, UnsafeNameError):
        return None
    if any(hex_of(entry.digest) is None for entry in entries) or digest_of(entries, algorithm) != document.get(
        "digest"
    ):
        return None
    return Published(folder, document["digest"], algorithm, entries, times if len(times) == len(entries) else ())


def write_marker(folder: Path, manifest: Manifest, *, artifact_id: str, sizes: dict[str, int]) -> None:
    """Mark `folder` as complete; `sizes` are the verified sizes of the files. Raises OSError."""
    document = {
        # Readers of this format ignore unknown keys: an older modelsync can read it too.
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
    """Rename `tree`, which is complete, marked and on the same file system, to `target`. Raises TargetUnusableError.

    A damaged folder there (`instead_of`) is renamed to `aside` first; processes with open files keep them.
    """
    for at, _, _ in os.walk(tree):
        os.chmod(at, 0o755)  # noqa: S103 - the server runs as another user than the puller, and needs read access only
        sync_folder(Path(at))
    if instead_of is not None and read_marker(target) == instead_of:
        with suppress(OSError):
            os.rename(target, aside)
    try:
        os.rename(tree, target)
    except OSError as error:
        raise TargetUnusableError(
            f"{target} could not be published ({error.strerror}): something else was created there meanwhile; remove "
            "it and pull again; fetched bytes are kept"
        ) from None
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Sync the directory entries of `folder` to the disk. Raises StorageFailedError."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageFailedError(f"{folder} could not be synced to the disk ({error.strerror}); pull again") from None
