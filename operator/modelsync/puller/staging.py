"""The staging folder: a hidden folder beside the target, on its file system, where files are collected.

Files are named by content, so that a restarted container, or the pull of the next version into the same place, finds
what was already fetched. Files in `objects` are verified and synced, and must never be written to again; files being
fetched are in the pull's own work folder (`work_folder`). One pull at a time fills the folder, by its lease; if two
pulls both believe they hold it, both produce the same verified files.
"""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from modelsync.puller.errors import NoSpaceError, PullError, StorageFailedError
from modelsync.puller.lease import Lease, Owner
from modelsync.puller.manifest import Entry, Manifest
from modelsync.puller.target import Published, publish, read_marker, write_marker
from modelsync.puller.work_folder import PREFIX, Partial, WorkFolder

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Staging:
    """The staging folder of `target`. Only `try_lock` may be used without the lease."""

    def __init__(self, target: Path, *, pod: str = "", expiry: float | None = None) -> None:
        """`pod`: UID of the pod that this runs in, if any. `expiry`: the lease's expiry in seconds."""
        self.target = target
        self.folder = target.parent / f".{target.name}.modelsync"
        self._me = Owner.me(pod=pod)
        self._lease = Lease(self.folder / "lease", self._me, expiry=expiry)
        self._work = WorkFolder(self.folder, self._me)
        self._mine = False

    def try_lock(self) -> bool:
        """Take the lease, creating the folder if needed; False while another pull holds it. Raises PullError."""
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self._mine = self._lease.try_take()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):  # another pull has published and is removing the folder
                return False
            raise storage_error(error, f"{self.folder} cannot be used") from None
        if self._mine:
            try:
                for stray in self.folder.glob("lease.*"):  # left by a pull that died while taking over
                    stray.unlink(missing_ok=True)
                (self.folder / "objects").mkdir(exist_ok=True)
                self._work.begin()
            except OSError as error:
                self.unlock()
                raise storage_error(error, f"{self._work.folder} cannot be created") from None
        return self._mine

    @property
    def owner(self) -> str:
        """Host and progress of the holder when `try_lock` last returned False; empty if unknown."""
        return self._lease.holder

    def beat(self, progress: str) -> bool:
        """Renew the lease with the pull's progress. False if another pull has taken over.

        A failed write is ignored here: if the volume stays unwritable, writing the files fails too.
        """
        try:
            return self._lease.beat(progress)
        except OSError:
            return True

    def unlock(self) -> None:
        """Release the lease. Fetched files are kept; a staging folder without any is removed."""
        if self._mine:
            self._mine = False
            self._work.end()
            with suppress(OSError):
                if self._lease.is_held():  # otherwise another pull has taken over and needs the folder
                    with suppress(OSError):
                        os.rmdir(self.folder / "objects")
                    self._lease.release()
                    os.rmdir(self.folder)

    def sweep(self) -> None:
        """Remove the files of a pull that died between publishing and cleaning up. Never raises PullError."""
        with suppress(PullError):
            if self.folder.exists() and self.try_lock():
                self._clean()
                self.unlock()

    def object_path(self, entry: Entry) -> Path:
        """The path of the verified file, once it exists."""
        return self.folder / "objects" / entry.content_key

    def partial(self, entry: Entry) -> Partial:
        """The file while it is being fetched."""
        return Partial(self.object_path(entry), self._work.folder)

    def candidate_path(self, entry: Entry) -> Path:
        """The path of a reused copy of the file until it is verified."""
        return self._work.folder / f"{entry.content_key}.reused"

    def free_bytes(self) -> int:
        """Free space on the volume for this user."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def partial_bytes(self, entries: Iterable[Entry]) -> int:
        """Bytes of the incomplete `entries` that are already on the volume."""
        found = 0
        for entry in entries:
            with suppress(OSError):
                found += os.stat(self._work.folder / f"{entry.content_key}.part").st_blocks * 512
        return found

    def neighbours(self) -> Iterator["Neighbour"]:
        """Files of versions published beside the target, which need not be fetched again.

        They must be verified before use: anyone may have changed them since.
        """
        with suppress(OSError):
            for beside in sorted(self.target.parent.iterdir()):
                if not beside.is_symlink() and beside.is_dir() and (published := read_marker(beside)):
                    for entry in published.entries:
                        yield Neighbour(entry, published.folder / entry.path)

    def publish(self, manifest: Manifest, *, artifact_id: str, instead_of: Published | None = None) -> int:
        """Assemble the folder and publish it, replacing the damaged `instead_of` if given, then clean up.

        Returns the size of all files. Raises PullError.
        """
        tree = self._work.folder / "tree"
        try:
            tree.mkdir()
            sizes = {}
            for entry in manifest.entries:
                path = tree / entry.path
                path.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(self.object_path(entry), path)
                sizes[entry.path] = path.stat().st_size
            write_marker(tree, manifest, artifact_id=artifact_id, sizes=sizes)
            publish(tree, self.target, instead_of=instead_of, aside=self._work.folder / "damaged")
        except OSError as error:
            raise storage_error(error, f"{self.target} could not be assembled") from None
        self._clean()
        return sum(sizes.values())

    def _clean(self) -> None:
        """Remove everything but the lease: it keeps other pulls out until the end."""
        shutil.rmtree(self.folder / "objects", ignore_errors=True)
        for work in self.folder.glob(f"{PREFIX}*"):
            shutil.rmtree(work, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A file of a version published beside the target."""

    entry: Entry
    path: Path


def link_or_copy(source: Path, path: Path) -> None:
    """Hard-link `path` to `source`, or make a synced copy where linking is not possible. Raises OSError."""
    found = os.lstat(source)
    # A file that another user, or anyone, can still write to must not become part of a verified folder.
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
    """Turn an OSError of the volume into a PullError."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, what, file) from None


def storage_error(error: OSError, what: str, file: str = "") -> PullError:
    """Return the PullError for an OSError of the volume."""
    if error.errno in FULL:
        return NoSpaceError(
            f"{what}: {error.strerror}; fetched bytes are kept; enlarge the volume (storage.size, quota or file size "
            "limit) and pull again",
            file=file,
        )
    return StorageFailedError(
        f"{what}: {error.strerror or type(error).__name__}; check the volume and its permissions, and pull again",
        file=file,
    )
