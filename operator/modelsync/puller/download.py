"""The download of one file: which bytes are present, which thread fetches which part, and the incremental digest.

A file is a sequence of parts. Several threads may each fetch one; the digest is computed over the contiguous bytes from
the start, in memory when they have just arrived and otherwise read back from the page cache, so that a file is verified
almost as soon as its last byte arrives, with less than a MiB of memory per thread.
"""

import base64
import threading
import time
from dataclasses import dataclass

from modelsync.puller.digests import READ_BYTES, hasher
from modelsync.puller.manifest import Entry
from modelsync.puller.work_folder import Partial

PART_BYTES = 32 * 2**20
"""Large compared to a request's latency, small compared to what a kill may lose."""
SAVE_SECONDS = 1.0
_CATCH_UP_BYTES = 32 * READ_BYTES
"""How much of other threads' bytes a thread hashes after a write, before it continues fetching."""

_scratch = threading.local()


@dataclass(slots=True)
class Part:
    """Bytes `start` to `end` of a file; those before `position` are present."""

    start: int
    end: int
    position: int
    taken: bool = False


class Download:
    """The state of one file, shared by the threads that fetch it."""

    def __init__(self, entry: Entry, url: str, partial: Partial) -> None:
        self.entry = entry
        self.url = url
        self.partial = partial
        self.size = entry.size or 0
        self.rewinds = 0
        """How often the complete file had the wrong digest."""
        self.restarts = 0
        """How often the file was restarted because the store does not support range requests."""
        self._single = False
        """The store does not support range requests: one thread must fetch the file in one request."""
        self._finishing = False
        self._parts: list[Part] = []
        self._workers = 0
        self._whole = 0
        """Number of complete parts from the start of the file."""
        self._lock = threading.Lock()
        self._hashing = threading.Lock()
        self._hasher = hasher(entry.algorithm)
        self._hashed = 0
        self._saved_at = time.monotonic()

    def open(self, size: int) -> int:
        """Open the partial file of `size` bytes, and return how many of them are present. Raises OSError."""
        self.partial.open()
        self.size = size
        self._parts = [Part(start, min(start + PART_BYTES, size), start) for start in range(0, size, PART_BYTES)]
        for start, end in self.partial.load_ranges():
            for part in self._parts[start // PART_BYTES :]:
                if part.position != start or start >= end:
                    break
                part.position = start = min(end, part.end)
        return self._present()

    def take(self) -> Part | None:
        """Claim the first unclaimed part; None if there is none."""
        with self._lock:
            if self._single and self._workers:
                return None
            for part in self._parts[self._whole :]:
                if not part.taken and part.position < part.end:
                    part.taken = True
                    self._workers += 1
                    return part
            return None

    def follow(self, part: Part) -> Part | None:
        """Exchange `part`, which is complete, for the next part, if that is unclaimed and empty; else None."""
        with self._lock:
            index = part.start // PART_BYTES + 1
            behind = self._parts[index] if index < len(self._parts) else None
            if behind is None or behind.taken or behind.position != behind.start:
                return None
            part.taken, behind.taken = False, True
            return behind

    def give_back(self, part: Part) -> int:
        """Release `part`. Returns how many bytes must be fetched again because the store supports no ranges."""
        with self._lock:
            part.taken = False
            self._workers -= 1
            if not self._single or self._workers or self._is_whole():
                return 0
            dropped = self._present()
            self._parts = [Part(0, self.size, 0)]
            self._start_over()
            self.restarts += 1
            return dropped

    def serve_no_ranges(self) -> None:
        """Once no thread fetches the file any more, let one thread fetch it from its first byte."""
        self._single = True

    def finish(self) -> bool:
        """True once: for the thread that finds all bytes present, which must then verify them."""
        with self._lock:
            if self._finishing or self._workers or not self._is_whole():
                return False
            self._finishing = True
            return True

    @property
    def free_bytes(self) -> int:
        """Bytes that no thread fetches yet."""
        with self._lock:
            if self._single and self._workers:
                return 0
            return sum(part.end - part.position for part in self._parts[self._whole :] if not part.taken)

    @property
    def is_left(self) -> bool:
        """Whether no thread fetches or verifies it."""
        with self._lock:
            return not self._workers and not self._finishing

    def write(self, part: Part, data: bytes) -> None:
        """Write the next bytes of `part`, and hash what can be hashed without waiting. Raises OSError."""
        at = part.position
        self.partial.write(data, at)
        part.position = at + len(data)
        if self._hashing.acquire(blocking=False):
            try:
                if self._hashed == at:
                    self._hasher.update(data)
                    self._hashed += len(data)
                self._catch_up(_CATCH_UP_BYTES)
            finally:
                self._hashing.release()
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self.save()

    def hash_more(self) -> bool:
        """Hash the next bytes; True when the whole file is hashed. Raises OSError."""
        with self._hashing:
            self._catch_up(_CATCH_UP_BYTES)
            return self._hashed == self.size

    def digest(self) -> str:
        """The digest of the hashed bytes, base64."""
        return base64.b64encode(self._hasher.digest()).decode()

    def rewind(self) -> int:
        """Discard all bytes, and return their number. No thread may hold a part. Raises OSError."""
        with self._lock:
            self.partial.clear()
            dropped = self._present()
            for part in self._parts:
                part.position = part.start
            self._start_over()
            self._finishing = False
            self.rewinds += 1
            return dropped

    def save(self) -> None:
        """Persist which bytes are present, so that a killed pull can resume. Raises OSError."""
        with self._lock:
            self._saved_at = time.monotonic()
            self.partial.save_ranges((part.start, part.position) for part in self._parts if part.position > part.start)

    def _present(self) -> int:
        return sum(part.position - part.start for part in self._parts)

    def _is_whole(self) -> bool:
        return all(part.position == part.end for part in self._parts)

    def _start_over(self) -> None:
        with self._hashing:
            self._whole = self._hashed = 0
            self._hasher = hasher(self.entry.algorithm)

    def _catch_up(self, most: int) -> None:
        buffer = getattr(_scratch, "buffer", None)
        if buffer is None:
            buffer = _scratch.buffer = memoryview(bytearray(READ_BYTES))
        frontier = self._frontier()
        while most > 0 and self._hashed < frontier:
            count = self.partial.read(buffer[: min(READ_BYTES, frontier - self._hashed)], self._hashed)
            if count == 0:
                raise OSError(5, "the partial file was truncated by another process")
            self._hasher.update(buffer[:count])
            self._hashed += count
            most -= count

    def _frontier(self) -> int:
        """The number of contiguous bytes from the start."""
        while self._whole < len(self._parts):
            part = self._parts[self._whole]
            if part.position < part.end:
                return part.position
            self._whole += 1
        return self.size
