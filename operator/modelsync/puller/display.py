"""Shows the progress of a pull: a bar on a terminal, a line every few seconds in a log."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from modelsync.puller.progress import Progress, Snapshot

LINE_SECONDS = 5.0
NOTES = 8
"""Maximum number of notes between two log lines."""
_BAR_SECONDS = 0.2
_RATE_SECONDS = 15.0


@contextmanager
def shown_on(stream: TextIO, *, line_seconds: float = LINE_SECONDS) -> Iterator[Progress]:
    """Yield a Progress that is shown on `stream` while the block runs."""
    if stream.isatty():
        with _bar(stream) as progress:
            yield progress
        return
    notes = _Notes(lambda text: print(text, file=stream, flush=True))
    progress = Progress(notes.add)
    rate = _Rate()

    def show() -> None:
        notes.flush()
        now = progress.snapshot()
        print(line(now, rate.after(now)), file=stream, flush=True)

    with _every(line_seconds, show):
        yield progress


def line(now: Snapshot, rate: float) -> str:
    """Describe the progress in one line; `rate` is in bytes per second."""
    if not now.total_files:
        return now.stage
    there = now.fetched + now.reused
    text = f"{now.stage}: {now.files} of {now.total_files} files, {size(there)} of {size(now.total)}"
    if rate > 0:
        text += f", {size(rate)}/s, {duration(max(0, now.total - there) / rate)} left"
    return text


def size(count: float) -> str:
    """Format a number of bytes."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    """Format a number of seconds."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class _Notes:
    """Limits the notes per log line: when a store fails, sixteen threads report errors at once, repeatedly."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._count = 0

    def add(self, text: str) -> None:
        with self._lock:
            self._count += 1
            if self._count <= NOTES:
                self._write(text)

    def flush(self) -> None:
        """Report how many notes were dropped, and start a new interval."""
        with self._lock:
            if self._count > NOTES:
                self._write(f"… and {self._count - NOTES} more notes of this kind")
            self._count = 0


class _Rate:
    """Bytes per second over the last 15 s, so that a stall shows."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def after(self, now: Snapshot) -> float:
        at = time.monotonic()
        self._seen.append((at, now.fetched))
        while len(self._seen) > 2 and at - self._seen[0][0] > _RATE_SECONDS:
            self._seen.popleft()
        first_at, first = self._seen[0]
        return max(0.0, (now.fetched - first) / (at - first_at)) if at > first_at else 0.0


@contextmanager
def _bar(stream: TextIO) -> Iterator[Progress]:
    # Imported late: rich costs a tenth of a second, and no pod has a terminal.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
    )
    progress = Progress(lambda text: bar.console.print(text, markup=False, highlight=False))
    task = bar.add_task("starting", total=None)

    def show() -> None:
        now = progress.snapshot()
        files = f"  {now.files} of {now.total_files} files" if now.total_files else ""
        bar.update(task, description=f"{now.stage}{files}", completed=now.fetched + now.reused, total=now.total or None)

    with bar:
        with _every(_BAR_SECONDS, show):
            yield progress
        show()


@contextmanager
def _every(seconds: float, show: Callable[[], None]) -> Iterator[None]:
    over = threading.Event()

    def work() -> None:
        while not over.wait(seconds):
            show()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
