"""Fetching and verifying many files at once, with threads.

Threads and not coroutines: the kernel's copies and both hashers run beside each other outside of the interpreter's
lock, which makes the cores' MD5 rate the limit, and a chunk never crosses from a loop to a worker. While files wait,
each thread takes a whole file; when none wait and the network is the limit, the threads help with parts of those that
are left, so that one large file last does not leave all but one idle.

The first error that is for a person ends everything; what was fetched stays for the next pull.
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
from modelsync.puller.retry import Patience
from modelsync.puller.staging import Staging, link_or_copy, storage_errors

URL_TRIES = 3
"""How many fresh URLs in a row may be refused before the refusal is believed."""
SINGLE_TRIES = 5
"""How often a file is begun anew at a store without ranges."""


@dataclass(slots=True)
class _Tries:
    """What one thread has been through with one file's URL."""

    entry: Entry
    url: str
    patience: Patience
    strikes: int = 0
    """Refusals and wrong lengths since the last byte that came."""

    def worked(self) -> None:
        self.patience.succeeded()
        self.strikes = 0


@dataclass(slots=True)
class _Lease:
    """What one thread works on."""

    download: Download
    part: Part
    tries: _Tries


class Transfer:
    """Brings files into the staging folder. `start` it, `add` files, say `no_more_files`, and wait for `on_done`.

    `close` it in any case.
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
        """Take what the threads need.

        `fresh_url(name, stale)` may block, is called from threads and may raise PullError. `neighbours` are files to
        try before the network, by content key. `on_done` is called, from any thread and maybe twice, when nothing is
        left to do or an error has ended the transfer.
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
        self._pace = connection_scaling.Pace()
        self._more_to_come = True
        self._stopping = threading.Event()
        self.error: BaseException | None = None
        """What ended the transfer, if it did not end well."""
        self._threads = [
            threading.Thread(target=self._work, name=f"pull-{number}", daemon=True) for number in range(connections)
        ]
        self._running = len(self._threads)

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def add(self, files: Iterable[tuple[Entry, str]]) -> None:
        """Add files with their URLs, the largest to be begun first. The same content must not be added twice."""
        ordered = sorted(files, key=lambda file: -(file[0].size or 0))
        with self._changed:
            self._waiting.extend(ordered)
            self._changed.notify_all()

    def no_more_files(self) -> None:
        """Say that no more files will be added."""
        with self._changed:
            self._more_to_come = False
            self._changed.notify_all()

    def wait_until_backlog(self, most: int) -> None:
        """Wait until at most `most` files wait, or the transfer has ended."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) <= most or self.is_stopping)

    def stop(self, error: BaseException) -> None:
        """End early because of `error`, unless something else ended it before. Does not wait."""
        with self._changed:
            if self.error is None:
                self.error = error
            self._stopping.set()
            self._changed.notify_all()
            bodies = list(self._bodies)
        for body in bodies:
            body.abort()
        self._on_done()  # a thread that waits for an answer's first byte may come later

    def close(self, *, wait: float) -> None:
        """Wait at most `wait` seconds for the threads, and keep what they have of unfinished files."""
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
            lease: _Lease | None = None
            while (lease := self._next(lease)) is not None:
                self._fetch(lease)
        except BaseException as error:  # a thread that dies in silence would hang the pull
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

    def _next(self, previous: _Lease | None) -> _Lease | None:
        """Wait for something to fetch: more of the same file, a new file, or a part of the file with most to do."""
        if previous is not None and (lease := self._lease(previous.download)):
            return lease
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
                lease = self._open(entry, url)
            finally:
                with self._changed:
                    self._opening -= 1
                    self._changed.notify_all()
            if lease is not None:
                return lease

    def _help(self) -> _Lease | None:
        """Join another thread's file if that is worth it, or take up one that nobody works on."""
        free = [download for download in self._active if download.free_bytes]
        left = [download for download in free if download.is_left]
        if not left and not (free and self._pace.may_add()):
            return None
        for download in sorted(left or free, key=lambda each: -each.free_bytes):
            if lease := self._lease(download):
                return lease
        return None

    def _lease(self, download: Download) -> _Lease | None:
        part = download.take()
        return _Lease(download, part, self._tries(download.entry, download.url)) if part else None

    def _tries(self, entry: Entry, url: str) -> _Tries:
        return _Tries(entry, url, Patience(self._retry_for))

    def _open(self, entry: Entry, url: str) -> _Lease | None:
        """Begin with a file; None if nothing of it has to be fetched."""
        final = self._staging.object_path(entry)
        with storage_errors("the staging folder cannot be used", entry.path):
            if final.exists() or self._reuse(entry, final):
                self._progress.reuse(entry.size or final.stat().st_size)
                self._progress.finish_file()
                return None
            size = self._size(entry, url) if entry.size is None else entry.size
            download = Download(entry, url, self._staging.partial(entry))
            self._progress.reuse(download.open(size))
        lease = self._lease(download)  # before others see the file
        with self._changed:
            self._active.append(download)
        if lease is None:
            self._finish(download)
            lease = self._lease(download)
        return lease

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
            self._progress.note(f"{shown(entry.path)}: {source} cannot be reused ({error.strerror}); it is fetched")
            good = False
        if good:
            candidate.rename(final)
        else:
            candidate.unlink(missing_ok=True)
        return good

    def _size(self, entry: Entry, url: str) -> int:
        """Ask the store for the size that the manifest leaves out."""
        tries = self._tries(entry, url)
        while True:
            self._check()
            try:
                return self._store.size(tries.url)
            except AttemptError as error:
                self._bear(error, tries)

    def _fetch(self, lease: _Lease) -> None:
        """Fetch the part that is leased, and those behind it while nobody else does."""
        download = lease.download
        try:
            while lease.part.position < lease.part.end:
                self._check()
                try:
                    self._attempt(lease)
                except RangeIgnoredError as error:
                    download.serve_no_ranges()
                    if download.restarts >= SINGLE_TRIES:
                        raise UnreachableError(
                            f"{shown(download.entry.path)}: {error}, and its connections break off; given up after "
                            f"{SINGLE_TRIES} beginnings; pull again when the store is in order",
                            file=download.entry.path,
                        ) from None
                    break
                except AttemptError as error:
                    with storage_errors("the staging folder cannot be written", download.entry.path):
                        download.save()
                    self._bear(error, lease.tries)
                    download.url = lease.tries.url
        finally:
            self._progress.fetch(-download.give_back(lease.part))
            with self._changed:
                self._changed.notify_all()
        self._finish(download)

    def _attempt(self, lease: _Lease) -> None:
        """Send one request and write down what comes. Raises AttemptError."""
        download, name = lease.download, lease.download.entry.path
        # While files wait, nobody will help with this one: one request for all of it.
        end = download.size if self._waiting else lease.part.end
        with (
            self._store.open(lease.tries.url, start=lease.part.position, end=end, size=download.size) as body,
            self._stoppable(body),
            storage_errors(f"{shown(name)} cannot be written", name),
        ):
            asked_at = time.monotonic()
            while data := body.read(min(CHUNK_BYTES, lease.part.end - lease.part.position)):
                came_at = time.monotonic()
                download.write(lease.part, data)
                done_at = time.monotonic()
                self._pace.record(waited=came_at - asked_at, worked=done_at - came_at)
                asked_at = done_at
                self._progress.fetch(len(data))
                lease.tries.worked()
                self._check()
                if lease.part.position == lease.part.end:
                    if lease.part.end < download.size:  # the last part is synced with the whole file
                        download.partial.flush()
                    following = download.follow(lease.part)
                    if following is None:
                        return
                    lease.part = following

    def _bear(self, error: AttemptError, tries: _Tries) -> None:
        """Prepare for the next attempt after `error`, or raise the PullError that it comes to."""
        name = shown(tries.entry.path)
        if isinstance(error, TransientError):
            wait = tries.patience.failed(retry_after=error.retry_after)
            if wait is None:
                raise UnreachableError(
                    f"{name}: {error}; given up after {tries.patience.failures} attempts; what was fetched is kept; "
                    "check the network from here to the object store, and pull again",
                    file=tries.entry.path,
                )
            self._progress.note(f"{name}: {error}; trying again in {wait:.1f} s")
            self._pause(wait)
            return
        tries.strikes += 1
        if tries.strikes > URL_TRIES:
            raise _final(error, tries.entry)
        self._progress.note(f"{name}: {error}; asking for a fresh URL")
        if tries.strikes > 1:
            self._pause(tries.patience.failed() or 0.0)
        tries.url = self._fresh_url(tries.entry.path, tries.url)

    def _finish(self, download: Download) -> None:
        """Verify the file and keep it, if all of its bytes are there and nobody else does so."""
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
                    f"{shown(entry.path)}: its {download.size} bytes have the {entry.algorithm} {found} and must have "
                    f"{entry.digest}, also when fetched a second time; nothing was published; the object store, or a "
                    "proxy before it, gives wrong bytes: log the artifact again, or name another version",
                    file=entry.path,
                )
            self._progress.note(
                f"{shown(entry.path)}: its bytes have the {entry.algorithm} {found} and must have {entry.digest}; "
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
            f"{name}: {error}; nothing was published; the object store does not hold what the manifest lists: log the "
            "artifact again, or name another version",
            file=entry.path,
        )
    if isinstance(error, URLRefusedError):
        return DeniedError(
            f"{name}: {error}, to {URL_TRIES} fresh URLs in a row; check this machine's clock and the object store's "
            "permissions, and pull again",
            file=entry.path,
        )
    if isinstance(error, ObjectMissingError):
        return NotFoundError(
            f"{name}: {error}: the registry lists the file and it is not there; log the artifact again, or name "
            "another version",
            file=entry.path,
        )
    raise AssertionError(f"unexpected {error!r}")
