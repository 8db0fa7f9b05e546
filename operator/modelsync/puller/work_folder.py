"""The files that one pull is fetching: a folder of its own, which no other pull ever writes into.

A pull that was taken for dead may still write: its machine stood still, or its file system did. So what it left is
used in place only where it is proved to be over, and copied else; a late write then hits a file that nobody uses.
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
"""First byte, and the byte behind the last."""


class Work:
    """The work folder of `me` in a staging folder."""

    def __init__(self, staging: Path, me: Owner) -> None:
        self._staging = staging
        self._me = me
        self.folder = staging / f"{PREFIX}{me.token}"

    def begin(self) -> None:
        """Make the folder and take over what pulls before have left. Only with the lease. Raises OSError."""
        self.folder.mkdir(mode=0o700)
        (self.folder / _OWNER).write_bytes(self._me.encode())
        for left in sorted(self._staging.glob(f"{PREFIX}*")):
            if left != self.folder:
                self._take_over(left)

    def end(self) -> None:
        """Remove the folder, unless there is something in it for the next pull."""
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
    """A file that is being fetched: its bytes and which of them are there, both kept over a kill.

    The list of ranges may lag behind the bytes (those are then fetched again), never the other way round, but for a
    power cut; then the digest does not fit and the whole file is fetched again.
    """

    def __init__(self, final: Path, folder: Path) -> None:
        """`final` is its name once it is verified; until then it lies in `folder`, on the same file system."""
        self._final = final
        self._path = folder / f"{final.name}.part"
        self._ranges = folder / f"{final.name}.ranges.part"
        self.descriptor = -1

    def open(self) -> None:
        """Open or make the file. Raises OSError."""
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def is_there(self) -> bool:
        """Whether there are bytes that are known to be there."""
        return self._path.exists() and self._ranges.exists()

    def move_to(self, other: "Partial") -> None:
        """Become `other`. Raises OSError."""
        os.rename(self._path, other._path)
        os.rename(self._ranges, other._ranges)

    def copy_to(self, other: "Partial") -> None:
        """Give `other` the same bytes, then forget them here, so that the volume holds one file twice at most.

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
        """Return which bytes are there, or nothing."""
        try:
            ranges = [(int(start), int(end)) for start, end in json.loads(self._ranges.read_bytes())]
        except (OSError, ValueError, TypeError, RecursionError):
            return []
        length = os.fstat(self.descriptor).st_size
        return ranges if all(0 <= start <= end <= length for start, end in ranges) else []

    def save_ranges(self, ranges: Iterable[Range]) -> None:
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


def _copy(source: int, target: int, start: int, end: int) -> None:
    """Copy bytes `start` to `end`, on the server or by shared blocks where the file system can. Raises OSError."""
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
