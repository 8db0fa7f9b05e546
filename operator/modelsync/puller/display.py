"""Showing a pull to a person: a bar on a terminal, a line every few seconds in a log."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from modelsync.puller.progress import Progress, Snapshot

LINE_SECONDS = 5.0
NOTES = 8
"""How many notes a log gets between two lines."""
_BAR_SECONDS = 0.2
_RATE_SECONDS = 15.0


@contextmanager
def shown_on(stream: TextIO, *, line_seconds: float = LINE_SECONDS) -> Iterator[Progress]:
    """Give a Progress that is shown on `stream` while the block runs."""
    if stream.isatty():
        with _bar(stream) as progress:
            yield progress
        return
    notes = _Notes(lambda text: print(text, file=stream, flush=True))
    progress = Progress(notes.say)
    rate = _Rate()

    def tell() -> None:
        notes.rest()
        now = progress.snapshot()
        print(line(now, rate.after(now)), file=stream, flush=True)

    with _every(line_seconds, tell):
        yield progress


def line(now: Snapshot, rate: float) -> str:
    """Say in one line how far it has come; `rate` in bytes a second."""
    if not now.total_files:
        return now.stage
    there = now.fetched + now.reused
    text = f"{now.stage}: {now.files} of {now.total_files} files, {size(there)} of {size(now.total)}"
    if rate > 0:
        text += f", {size(rate)}/s, {duration(max(0, now.total - there) / rate)} left"
    return text


def size(count: float) -> str:
    """Write a number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    """Write seconds as people read them."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class _Notes:
    """Lets through what one can read: when a store fails, sixteen threads complain at once, again and again."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._said = 0

    def say(self, text: str) -> None:
        with self._lock:
            self._said += 1
            if self._said <= NOTES:
                self._say(text)

    def rest(self) -> None:
        """Begin a new line interval."""
        with self._lock:
            if self._said > NOTES:
                self._say(f"… and {self._said - NOTES} more notes of this kind")
            self._said = 0


class _Rate:
    """Bytes a second over the last while, so that a stall shows."""

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

    def tell() -> None:
        now = progress.snapshot()
        files = f"  {now.files} of {now.total_files} files" if now.total_files else ""
        bar.update(task, description=f"{now.stage}{files}", completed=now.fetched + now.reused, total=now.total or None)

    with bar:
        with _every(_BAR_SECONDS, tell):
            yield progress
        tell()


@contextmanager
def _every(seconds: float, tell: Callable[[], None]) -> Iterator[None]:
    over = threading.Event()

    def work() -> None:
        while not over.wait(seconds):
            tell()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
