"""Where files wait until all of them are there: a hidden folder beside the target, on its file system.

Files lie here by content, so that a restarted container, or the pull of the next version into the same place, finds
what was already fetched. What has its final name here was verified and synced; everything else ends in `.part`.
One puller at a time owns the folder, by a lock that the kernel drops when its process dies.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from modelsync.puller.errors import NoSpaceError, PullError, StorageFailedError
from modelsync.puller.manifest import Entry, Manifest
from modelsync.puller.target import publish, read_marker, write_marker

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Staging:
    """The staging folder of `target`. Only `lock` may be used without holding the lock."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.parent / f".{target.name}.modelsync"
        self._lock: int | None = None

    def try_lock(self) -> bool:
        """Own the folder, made if need be; False while another puller owns it. Raises PullError."""
        path = self.folder / "lock"
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            (self.folder / "objects").mkdir(exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # whoever publishes removes the folder at this moment
            return False
        except OSError as error:
            raise storage_error(error, f"{self.folder} cannot be made") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever published removed the folder with the lock in it: a lock on that file guards nothing.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                self._lock = descriptor
                return True
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError as error:
            os.close(descriptor)
            raise storage_error(error, f"{path} cannot be locked") from None
        os.close(descriptor)
        return False

    def unlock(self) -> None:
        """Let the next puller in; what was fetched stays, and a folder without anything fetched goes."""
        if self._lock is not None:
            with suppress(OSError):
                os.rmdir(self.folder / "objects")
                shutil.rmtree(self.folder)
            os.close(self._lock)
            self._lock = None

    def object_path(self, entry: Entry) -> Path:
        """Where the verified file lies, once it does."""
        return self.folder / "objects" / entry.content_key

    def free_bytes(self) -> int:
        """What the volume still takes from this user."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def partial_bytes(self, entries: Iterable[Entry]) -> int:
        """How much of `entries`, which are not here as a whole, is on the volume already."""
        found = 0
        for entry in entries:
            with suppress(OSError):
                found += os.stat(f"{self.object_path(entry)}.part").st_blocks * 512
        return found

    def neighbours(self) -> Iterator["Neighbour"]:
        """Files of versions that are published beside the target, whose bytes need not be fetched again.

        They are to be verified before use: anybody may have changed them since.
        """
        with suppress(OSError):
            for beside in sorted(self.target.parent.iterdir()):
                if not beside.is_symlink() and beside.is_dir() and (published := read_marker(beside)):
                    for entry in published.entries:
                        yield Neighbour(entry, published.folder / entry.path)

    def publish(self, manifest: Manifest, *, artifact_id: str) -> int:
        """Make the folder of all files and put it in place, then remove the staging folder.

        Returns the size of all files. Raises PullError.
        """
        tree = self.folder / "tree"
        try:
            shutil.rmtree(tree, ignore_errors=True)  # of a puller that was killed right here; its files are elsewhere
            tree.mkdir()
            sizes = {}
            for entry in manifest.entries:
                path = tree / entry.path
                path.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(self.object_path(entry), path)
                sizes[entry.path] = path.stat().st_size
            write_marker(tree, manifest, artifact_id=artifact_id, sizes=sizes)
            publish(tree, self.target)
        except OSError as error:
            raise storage_error(error, f"{self.target} could not be put together") from None
        shutil.rmtree(self.folder, ignore_errors=True)
        return sum(sizes.values())


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A file of a version published beside the target."""

    entry: Entry
    path: Path


class Partial:
    """A file that is being fetched: its bytes and which of them are there, both kept over a kill.

    The list of ranges may lag behind the bytes (those are then fetched again), never the other way round, but for a
    power cut; then the digest does not fit and the whole file is fetched again.
    """

    def __init__(self, final: Path) -> None:
        self._final = final
        self._path = final.with_name(f"{final.name}.part")
        self._ranges = final.with_name(f"{final.name}.ranges.part")
        self.descriptor = -1

    def open(self) -> None:
        """Open or make the file. Raises OSError."""
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def load_ranges(self) -> list[tuple[int, int]]:
        """Return which bytes are there, as (start, end), or nothing."""
        try:
            ranges = [(int(start), int(end)) for start, end in json.loads(self._ranges.read_bytes())]
        except (OSError, ValueError, TypeError, RecursionError):
            return []
        length = os.fstat(self.descriptor).st_size
        return ranges if all(0 <= start <= end <= length for start, end in ranges) else []

    def save_ranges(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Remember which bytes are there. Raises OSError."""
        new = self._ranges.with_name(f"{self._ranges.name}.new")
        new.write_text(json.dumps(list(ranges)))
        os.replace(new, self._ranges)

    def write(self, data: bytes, at: int) -> None:
        """Put all of `data` at byte `at`. Raises OSError."""
        rest = memoryview(data)
        while rest:
            count = os.pwrite(self.descriptor, rest, at)
            rest, at = rest[count:], at + count

    def flush(self) -> None:
        """Bring the bytes so far to the disk. Raises OSError.

        Left to the end, all of them would be written while nothing is fetched any more.
        """
        os.fdatasync(self.descriptor)

    def read(self, buffer: memoryview, at: int) -> int:
        """Fill `buffer` from byte `at` on; return how many bytes came. Raises OSError."""
        return os.preadv(self.descriptor, [buffer], at)

    def clear(self) -> None:
        """Forget every byte. Raises OSError."""
        self._ranges.unlink(missing_ok=True)
        os.ftruncate(self.descriptor, 0)

    def keep(self, size: int) -> None:
        """Give the verified file, of `size` bytes, its final name, after it is on the disk. Raises OSError."""
        os.ftruncate(self.descriptor, size)
        os.fchmod(self.descriptor, 0o444)
        os.fsync(self.descriptor)
        os.rename(self._path, self._final)
        self._ranges.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; what is there stays."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def link_or_copy(source: Path, path: Path) -> None:
    """Make `path` the same file as `source`, or a synced copy where links are not to be had. Raises OSError."""
    found = os.lstat(source)
    # What another user, or anybody, may still write to must not become part of a folder that counts as verified.
    if found.st_uid == os.geteuid() and not found.st_mode & 0o222:
        try:
            os.link(source, path)
        except OSError as error:
            if error.errno in FULL or error.errno == errno.EEXIST:
                raise
        else:
            return
    with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as old, open(path, "xb") as new:
        shutil.copyfileobj(old, new, 2**20)
        new.flush()
        os.fchmod(new.fileno(), 0o444)
        os.fsync(new.fileno())


@contextmanager
def storage_errors(what: str, file: str = "") -> Iterator[None]:
    """Turn the kernel's complaints about the volume into sentences."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, what, file) from None


def storage_error(error: OSError, what: str, file: str = "") -> PullError:
    """Say what the kernel's `error` means for the volume."""
    if error.errno in FULL:
        return NoSpaceError(
            f"{what}: {error.strerror}; what was fetched is kept; give the volume more room (storage.size, quota or "
            "file size limit) and pull again",
            file=file,
        )
    return StorageFailedError(
        f"{what}: {error.strerror or type(error).__name__}; check the volume and its permissions, and pull again",
        file=file,
    )
