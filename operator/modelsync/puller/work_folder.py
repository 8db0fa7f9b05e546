"""The work folder: the files that one pull is fetching. No other pull must ever write into it.

A pull that was taken for dead may still write: its machine or file system was paused. So its files are moved only if it
has certainly ended, and copied otherwise; a late write then goes to a file that is no longer used.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from modelsync.puller.lease import Owner

PREFIX = "work-"
_OWNER = "owner"
_COPY_BYTES = 2**20
_NO_SERVER_COPY = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EACCES)

Range = tuple[int, int]
"""First byte, and the byte after the last."""


class WorkFolder:
    """The work folder of `me` in a staging folder."""

    def __init__(self, staging: Path, me: Owner) -> None:
        self._staging = staging
        self._me = me
        self.folder = staging / f"{PREFIX}{me.token}"

    def begin(self) -> None:
        """Create the folder and take over the files of earlier pulls. Requires the lease. Raises OSError."""
        self.folder.mkdir(mode=0o700)
        (self.folder / _OWNER).write_bytes(self._me.encode())
        for left in sorted(self._staging.glob(f"{PREFIX}*")):
            if left != self.folder:
                self._take_over(left)

    def end(self) -> None:
        """Remove the folder, unless it contains partial files for the next pull."""
        with suppress(OSError):
            if not any(self.folder.glob("*.ranges.part")):
                shutil.rmtree(self.folder)

    def _take_over(self, left: Path) -> None:
        with suppress(FileNotFoundError):
            owner = Owner.read((left / _OWNER).read_bytes())
            over = owner is not None and owner.is_dead(seen_by=self._me)
            for ranges in left.glob("*.ranges.part"):
                name = ranges.name.removesuffix(".ranges.part")
                old, new = Partial(self._staging / name, left), Partial(self._staging / name, self.folder)
                if not new.is_there() and old.is_there():
                    old.move_to(new) if over else old.copy_to(new)
        shutil.rmtree(left, ignore_errors=True)


class Partial:
    """A file being fetched: its bytes and the list of ranges that are present. Both survive a kill.

    The list may lag behind the bytes (those are then fetched again) but never lead, except after a power failure; then
    the digest does not match and the whole file is fetched again.
    """

    def __init__(self, final: Path, folder: Path) -> None:
        """`final` is its path once verified; until then it is in `folder`, on the same file system."""
        self._final = final
        self._path = folder / f"{final.name}.part"
        self._ranges = folder / f"{final.name}.ranges.part"
        self.descriptor = -1

    def open(self) -> None:
        """Open or create the file. Raises OSError."""
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def is_there(self) -> bool:
        """Whether the file and its list of ranges exist."""
        return self._path.exists() and self._ranges.exists()

    def move_to(self, other: "Partial") -> None:
        """Rename the file and its list to `other`. Raises OSError."""
        os.rename(self._path, other._path)
        os.rename(self._ranges, other._ranges)

    def copy_to(self, other: "Partial") -> None:
        """Copy the bytes to `other`, then remove them here: at most one file is on the volume twice.

        Raises OSError.
        """
        self.open()
        other.open()
        try:
            ranges = self.load_ranges()
            for start, end in ranges:
                _copy(self.descriptor, other.descriptor, start, end)
            os.fdatasync(other.descriptor)
            other.save_ranges(ranges)
        finally:
            self.close()
            other.close()
        self._ranges.unlink()
        self._path.unlink()

    def load_ranges(self) -> list[Range]:
        """Return the ranges that are present; empty if the list is missing or invalid."""
        try:
            ranges = [(int(start), int(end)) for start, end in json.loads(self._ranges.read_bytes())]
        except (OSError, ValueError, TypeError, OverflowError, RecursionError):
            return []
        length = os.fstat(self.descriptor).st_size
        return ranges if all(0 <= start <= end <= length for start, end in ranges) else []

    def save_ranges(self, ranges: Iterable[Range]) -> None:
        """Persist which ranges are present. Raises OSError."""
        new = self._ranges.with_name(f"{self._ranges.name}.new")
        new.write_text(json.dumps(list(ranges)))
        os.replace(new, self._ranges)

    def write(self, data: bytes, at: int) -> None:
        """Write all of `data` at byte `at`. Raises OSError."""
        rest = memoryview(data)
        while rest:
            count = os.pwrite(self.descriptor, rest, at)
            rest, at = rest[count:], at + count

    def flush(self) -> None:
        """Sync the bytes written so far to the disk. Raises OSError.

        If left to the end, all of them would be synced while nothing is being fetched.
        """
        os.fdatasync(self.descriptor)

    def read(self, buffer: memoryview, at: int) -> int:
        """Fill `buffer` from byte `at`; return the number of bytes read. Raises OSError."""
        return os.preadv(self.descriptor, [buffer], at)

    def clear(self) -> None:
        """Discard all bytes. Raises OSError."""
        self._ranges.unlink(missing_ok=True)
        os.ftruncate(self.descriptor, 0)

    def keep(self, size: int) -> None:
        """Sync the verified file of `size` bytes and rename it to its final path. Raises OSError."""
        os.ftruncate(self.descriptor, size)
        os.fchmod(self.descriptor, 0o444)
        os.fsync(self.descriptor)
        os.rename(self._path, self._final)
        self._ranges.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; its bytes are kept."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _copy(source: int, target: int, start: int, end: int) -> None:
    """Copy bytes `start` to `end`, server-side or by shared blocks where the file system can. Raises OSError."""
    try:
        while start < end and (count := os.copy_file_range(source, target, min(end - start, 2**30), start, start)):
            start += count
    except OSError as error:
        if error.errno not in _NO_SERVER_COPY:
            raise
    for at, data in _read(source, start, end):
        rest = memoryview(data)
        while rest:
            count = os.pwrite(target, rest, at)
            rest, at = rest[count:], at + count


def _read(source: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    while start < end and (data := os.pread(source, min(_COPY_BYTES, end - start), start)):
        yield start, data
        start += len(data)
