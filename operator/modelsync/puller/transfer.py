"""Fetches and verifies many files at once, with threads.

Threads and not coroutines: the kernel's copies and both hashers run in parallel outside the GIL, so that the cores' MD5
rate is the limit, and a chunk is never handed from a loop to a worker. While files are queued, each thread takes a
whole file; when none are queued and the network is the limit, threads help with parts of the remaining files, so that
one large file at the end does not leave all threads but one idle.

The first PullError ends the transfer; fetched bytes are kept for the next pull.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from modelsync.puller import connection_scaling
from modelsync.puller.digests import hash_file
from modelsync.puller.download import Download, Part
from modelsync.puller.errors import (
    CorruptFileError,
    DeniedError,
    InterruptedPullError,
    NotFoundError,
    PullError,
    UnreachableError,
)
from modelsync.puller.file_names import shown
from modelsync.puller.manifest import Entry
from modelsync.puller.object_store import (
    CHUNK_BYTES,
    AttemptError,
    Body,
    ObjectMissingError,
    ObjectStore,
    RangeIgnoredError,
    TransientError,
    URLRefusedError,
    WrongLengthError,
)
from modelsync.puller.progress import Progress
from modelsync.puller.retry import Backoff
from modelsync.puller.staging import Staging, link_or_copy, storage_errors

URL_TRIES = 3
"""How many fresh URLs in a row may be rejected before giving up."""
SINGLE_TRIES = 5
"""How often a file is restarted if the store does not support range requests."""


@dataclass(slots=True)
class _Tries:
    """One thread's failures with one file's URL."""

    entry: Entry
    url: str
    backoff: Backoff
    strikes: int = 0
    """Rejected URLs and wrong lengths since the last received byte."""

    def worked(self) -> None:
        self.backoff.succeeded()
        self.strikes = 0


@dataclass(slots=True)
class _Assignment:
    """The part that one thread is fetching."""

    download: Download
    part: Part
    tries: _Tries


class Transfer:
    """Fetches files into the staging folder: call `start`, `add`, `no_more_files`, and wait for `on_done`.

    `close` must be called in any case.
    """

    def __init__(
        self,
        staging: Staging,
        store: ObjectStore,
        *,
        fresh_url: Callable[[str, str], str],
        neighbours: Mapping[str, Path],
        progress: Progress,
        connections: int,
        retry_for: float,
        on_done: Callable[[], None],
    ) -> None:
        """`fresh_url(name, stale)` may block, is called from threads and may raise PullError.

        `neighbours` are files to try before the network, by content key. `on_done` is called, from any thread and maybe
        twice, when nothing is left to do or an error has ended the transfer.
        """
        self._staging = staging
        self._store = store
        self._fresh_url = fresh_url
        self._neighbours = neighbours
        self._progress = progress
        self._retry_for = retry_for
        self._on_done = on_done
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Entry, str]] = deque()
        self._active: list[Download] = []
        self._opening = 0
        self._bodies: set[Body] = set()
        self._scaling = connection_scaling.ConnectionScaling()
        self._more_to_come = True
        self._stopping = threading.Event()
        self.error: BaseException | None = None
        """The error that ended the transfer; None on success."""
        self._threads = [
            threading.Thread(target=self._work, name=f"pull-{number}", daemon=True) for number in range(connections)
        ]
        self._running = len(self._threads)

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def add(self, files: Iterable[tuple[Entry, str]]) -> None:
        """Add files with their URLs; the largest is started first. The same content must not be added twice."""
        ordered = sorted(files, key=lambda file: -(file[0].size or 0))
        with self._changed:
            self._waiting.extend(ordered)
            self._changed.notify_all()

    def no_more_files(self) -> None:
        """Announce that no more files will be added."""
        with self._changed:
            self._more_to_come = False
            self._changed.notify_all()

    def wait_until_backlog(self, most: int) -> None:
        """Wait until at most `most` files are queued, or the transfer has ended."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) <= most or self.is_stopping)

    def stop(self, error: BaseException) -> None:
        """End the transfer because of `error`, unless another error ended it before. Does not wait."""
        with self._changed:
            if self.error is None:
                self.error = error
            self._stopping.set()
            self._changed.notify_all()
            bodies = list(self._bodies)
        for body in bodies:
            body.abort()
        self._on_done()  # not left to the threads: one may still wait for a response's first byte

    def close(self, *, wait: float) -> None:
        """Wait at most `wait` seconds for the threads, and save the state of unfinished files."""
        for thread in self._threads:
            thread.join(wait)
            wait = 0.05 if thread.is_alive() else wait
        for download in self._active:
            with suppress(OSError):
                download.save()
        if not any(thread.is_alive() for thread in self._threads):
            for download in self._active:
                download.partial.close()

    def _work(self) -> None:
        try:
            assignment: _Assignment | None = None
            while (assignment := self._next(assignment)) is not None:
                self._fetch(assignment)
        except BaseException as error:  # a thread that dies silently would hang the pull
            self.stop(error)
        finally:
            with self._changed:
                self._running -= 1
                last = self._running == 0
            if last:
                self._on_done()

    @property
    def is_stopping(self) -> bool:
        """Whether an error or a signal has ended the transfer."""
        return self._stopping.is_set()

    def _next(self, previous: _Assignment | None) -> _Assignment | None:
        """Wait for the next part: of the same file, of a new file, or of the file with the most bytes left."""
        if previous is not None and (assignment := self._assign(previous.download)):
            return assignment
        while True:
            with self._changed:
                self._check()
                if self._waiting:
                    entry, url = self._waiting.popleft()
                    self._opening += 1
                elif helped := self._help():
                    return helped
                elif not self._more_to_come and not self._active and not self._opening:
                    return None
                else:
                    self._changed.wait(connection_scaling.EVERY_SECONDS if self._active else None)
                    continue
            try:
                assignment = self._open(entry, url)
            finally:
                with self._changed:
                    self._opening -= 1
                    self._changed.notify_all()
            if assignment is not None:
                return assignment

    def _help(self) -> _Assignment | None:
        """Take a part of a file that no thread works on, or of another thread's file if that helps."""
        free = [download for download in self._active if download.free_bytes]
        left = [download for download in free if download.is_left]
        if not left and not (free and self._scaling.may_add()):
            return None
        for download in sorted(left or free, key=lambda each: -each.free_bytes):
            if assignment := self._assign(download):
                return assignment
        return None

    def _assign(self, download: Download) -> _Assignment | None:
        part = download.take()
        return _Assignment(download, part, self._tries(download.entry, download.url)) if part else None

    def _tries(self, entry: Entry, url: str) -> _Tries:
        return _Tries(entry, url, Backoff(self._retry_for))

    def _open(self, entry: Entry, url: str) -> _Assignment | None:
        """Start a file; None if none of it must be fetched."""
        final = self._staging.object_path(entry)
        with storage_errors("the staging folder cannot be used", entry.path):
            if final.exists() or self._reuse(entry, final):
                self._progress.reuse(entry.size or final.stat().st_size)
                self._progress.finish_file()
                return None
            size = self._size(entry, url) if entry.size is None else entry.size
            download = Download(entry, url, self._staging.partial(entry))
            self._progress.reuse(download.open(size))
        assignment = self._assign(download)  # before others see the file
        with self._changed:
            self._active.append(download)
        if assignment is None:
            self._finish(download)
            assignment = self._assign(download)
        return assignment

    def _reuse(self, entry: Entry, final: Path) -> bool:
        """Take the file from a version published beside the target, if its bytes are still what they were."""
        source = self._neighbours.get(entry.content_key)
        if source is None:
            return False
        candidate = self._staging.candidate_path(entry)
        candidate.unlink(missing_ok=True)
        try:
            link_or_copy(source, candidate)
            good = hash_file(str(candidate), entry.algorithm) == entry.digest
        except OSError as error:
            self._progress.note(f"{shown(entry.path)}: {source} cannot be reused ({error.strerror}); fetching the file")
            good = False
        if good:
            candidate.rename(final)
        else:
            candidate.unlink(missing_ok=True)
        return good

    def _size(self, entry: Entry, url: str) -> int:
        """Query the store for a size that the manifest does not contain."""
        tries = self._tries(entry, url)
        while True:
            self._check()
            try:
                return self._store.size(tries.url)
            except AttemptError as error:
                self._recover(error, tries)

    def _fetch(self, assignment: _Assignment) -> None:
        """Fetch the assigned part, and the following ones that no other thread fetches."""
        download = assignment.download
        try:
            while assignment.part.position < assignment.part.end:
                self._check()
                try:
                    self._attempt(assignment)
                except RangeIgnoredError as error:
                    download.serve_no_ranges()
                    if download.restarts >= SINGLE_TRIES:
                        raise UnreachableError(
                            f"{shown(download.entry.path)}: {error}, and its connections break off; gave up after "
                            f"{SINGLE_TRIES} restarts; pull again when the store works",
                            file=download.entry.path,
                        ) from None
                    break
                except AttemptError as error:
                    with storage_errors("the staging folder cannot be written", download.entry.path):
                        download.save()
                    self._recover(error, assignment.tries)
                    download.url = assignment.tries.url
        finally:
            self._progress.fetch(-download.give_back(assignment.part))
            with self._changed:
                self._changed.notify_all()
        self._finish(download)

    def _attempt(self, assignment: _Assignment) -> None:
        """Send one request and write the received bytes. Raises AttemptError."""
        download, name = assignment.download, assignment.download.entry.path
        # While files are queued, no other thread will help with this one: request all of it.
        end = download.size if self._waiting else assignment.part.end
        with (
            self._store.open(assignment.tries.url, start=assignment.part.position, end=end, size=download.size) as body,
            self._stoppable(body),
            storage_errors(f"{shown(name)} cannot be written", name),
        ):
            asked_at = time.monotonic()
            while data := body.read(min(CHUNK_BYTES, assignment.part.end - assignment.part.position)):
                came_at = time.monotonic()
                download.write(assignment.part, data)
                done_at = time.monotonic()
                self._scaling.record(waited=came_at - asked_at, worked=done_at - came_at)
                asked_at = done_at
                self._progress.fetch(len(data))
                assignment.tries.worked()
                self._check()
                if assignment.part.position == assignment.part.end:
                    if assignment.part.end < download.size:  # the last part is synced with the whole file
                        download.partial.flush()
                    following = download.follow(assignment.part)
                    if following is None:
                        return
                    assignment.part = following

    def _recover(self, error: AttemptError, tries: _Tries) -> None:
        """Prepare the next attempt after `error`, or raise a PullError to give up."""
        name = shown(tries.entry.path)
        if isinstance(error, TransientError):
            wait = tries.backoff.failed(retry_after=error.retry_after)
            if wait is None:
                raise UnreachableError(
                    f"{name}: {error}; gave up after {tries.backoff.failures} attempts; fetched bytes are kept; check "
                    "the network from here to the object store, and pull again",
                    file=tries.entry.path,
                )
            self._progress.note(f"{name}: {error}; retrying in {wait:.1f} s")
            self._pause(wait)
            return
        tries.strikes += 1
        if tries.strikes > URL_TRIES:
            raise _final(error, tries.entry)
        self._progress.note(f"{name}: {error}; requesting a fresh URL")
        if tries.strikes > 1:
            self._pause(tries.backoff.failed() or 0.0)
        tries.url = self._fresh_url(tries.entry.path, tries.url)

    def _finish(self, download: Download) -> None:
        """Verify and keep the file, if all of its bytes are present and no other thread does so."""
        if not download.finish():
            return
        entry = download.entry
        with storage_errors(f"{shown(entry.path)} cannot be kept", entry.path):
            while not download.hash_more():
                self._check()
            found = download.digest()
            if found == entry.digest:
                download.partial.keep(download.size)
                download.partial.close()
                self._progress.finish_file()
                with self._changed:
                    self._active.remove(download)
                    self._changed.notify_all()
                return
            if download.rewinds:
                download.partial.clear()
                raise CorruptFileError(
                    f"{shown(entry.path)}: its {download.size} bytes have the {entry.algorithm} digest {found}, "
                    f"expected {entry.digest}, even when fetched a second time; nothing was published; the object "
                    "store or a proxy returns wrong bytes: log the artifact again, or choose another version",
                    file=entry.path,
                )
            self._progress.note(
                f"{shown(entry.path)}: its bytes have the {entry.algorithm} digest {found}, expected {entry.digest}; "
                "fetching it once more"
            )
            download.url = self._fresh_url(entry.path, download.url)
            self._progress.fetch(-download.rewind())
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def _stoppable(self, body: Body) -> Iterator[None]:
        with self._changed:
            self._check()
            self._bodies.add(body)
        try:
            yield
        finally:
            with self._changed:
                self._bodies.discard(body)

    def _pause(self, seconds: float) -> None:
        self._stopping.wait(seconds)
        self._check()

    def _check(self) -> None:
        if self._stopping.is_set():
            raise InterruptedPullError("another file ended the pull")


def _final(error: AttemptError, entry: Entry) -> PullError:
    name = shown(entry.path)
    if isinstance(error, WrongLengthError):
        return CorruptFileError(
            f"{name}: {error}; nothing was published; the object store's file does not match the manifest: log the "
            "artifact again, or choose another version",
            file=entry.path,
        )
    if isinstance(error, URLRefusedError):
        return DeniedError(
            f"{name}: {error}, for {URL_TRIES} fresh URLs in a row; check this machine's clock and the object store's "
            "permissions, and pull again",
            file=entry.path,
        )
    if isinstance(error, ObjectMissingError):
        return NotFoundError(
            f"{name}: {error}: the registry lists the file, but it does not exist; log the artifact again, or choose "
            "another version",
            file=entry.path,
        )
    raise AssertionError(f"unexpected {error!r}")
