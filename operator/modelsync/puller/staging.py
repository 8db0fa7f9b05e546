"""Where files wait until all of them are there: a hidden folder beside the target, on its file system.

Files lie here by content, so that a restarted container, or the pull of the next version into the same place, finds
what was already fetched. What lies in `objects` was verified and synced and is never written to again; what is being
fetched lies in a folder of its pull's own (`work`). One pull at a time fills the folder, by its lease; should two
believe that it is theirs, both come to the same verified files.
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
from modelsync.puller.work_folder import PREFIX, Partial, Work

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Staging:
    """The staging folder of `target`. Only `try_lock` may be used without the lease."""

    def __init__(self, target: Path, *, pod: str = "", expiry: float | None = None) -> None:
        """`pod`: UID of the pod that this runs in, if any. `expiry`: of the lease, in seconds."""
        self.target = target
        self.folder = target.parent / f".{target.name}.modelsync"
        self._me = Owner.me(pod=pod)
        self._lease = Lease(self.folder / "lease", self._me, expiry=expiry)
        self._work = Work(self.folder, self._me)
        self._mine = False

    def try_lock(self) -> bool:
        """Get the lease of the folder, made if need be; False while another pull has it. Raises PullError."""
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self._mine = self._lease.try_take()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):  # whoever publishes removes the folder at this moment
                return False
            raise storage_error(error, f"{self.folder} cannot be used") from None
        if self._mine:
            try:
                for stray in self.folder.glob("lease.*"):  # of a pull that died while it took over
                    stray.unlink(missing_ok=True)
                (self.folder / "objects").mkdir(exist_ok=True)
                self._work.begin()
            except OSError as error:
                self.unlock()
                raise storage_error(error, f"{self._work.folder} cannot be made") from None
        return self._mine

    @property
    def owner(self) -> str:
        """Who had the lease when `try_lock` last answered False, and how far it was; empty if it does not say."""
        return self._lease.said

    def beat(self, said: str) -> bool:
        """Keep the lease, and say how far the pull is. False if another pull has taken over.

        A volume that cannot be written to for a moment is no reason to give up: what is written shows it soon enough.
        """
        try:
            return self._lease.beat(said)
        except OSError:
            return True

    def unlock(self) -> None:
        """Let the next pull in; what was fetched stays, and a folder without anything fetched goes."""
        if self._mine:
            self._mine = False
            self._work.end()
            with suppress(OSError):
                if self._lease.is_held():  # else another pull has taken over and needs the folder
                    with suppress(OSError):
                        os.rmdir(self.folder / "objects")
                    self._lease.release()
                    os.rmdir(self.folder)

    def sweep(self) -> None:
        """Remove what a pull has left that died between publishing and cleaning up. Never raises."""
        with suppress(PullError):
            if self.folder.exists() and self.try_lock():
                self._clean()
                self.unlock()

    def object_path(self, entry: Entry) -> Path:
        """Where the verified file lies, once it does."""
        return self.folder / "objects" / entry.content_key

    def partial(self, entry: Entry) -> Partial:
        """The file while it is being fetched."""
        return Partial(self.object_path(entry), self._work.folder)

    def candidate_path(self, entry: Entry) -> Path:
        """Where a copy of the file from elsewhere lies until it is verified."""
        return self._work.folder / f"{entry.content_key}.reused"

    def free_bytes(self) -> int:
        """What the volume still takes from this user."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def partial_bytes(self, entries: Iterable[Entry]) -> int:
        """How much of `entries`, which are not here as a whole, is on the volume already."""
        found = 0
        for entry in entries:
            with suppress(OSError):
                found += os.stat(self._work.folder / f"{entry.content_key}.part").st_blocks * 512
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

    def publish(self, manifest: Manifest, *, artifact_id: str, instead_of: Published | None = None) -> int:
        """Make the folder of all files and put it in place, `instead_of` a damaged one, then clean up.

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
            raise storage_error(error, f"{self.target} could not be put together") from None
        self._clean()
        return sum(sizes.values())

    def _clean(self) -> None:
        """Remove all but the lease: until that is gone, nobody begins anew."""
        shutil.rmtree(self.folder / "objects", ignore_errors=True)
        for work in self.folder.glob(f"{PREFIX}*"):
            shutil.rmtree(work, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A file of a version published beside the target."""

    entry: Entry
    path: Path


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
