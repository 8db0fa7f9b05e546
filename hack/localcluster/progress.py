"""Reports the running step, how long it has taken and how long it usually takes.

Writes to standard error: standard output is for the results of commands. On a terminal, the line of a running step is
redrawn; elsewhere (CI), a running step prints a line every half minute.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol, TextIO


class Note(Protocol):
    """Report the progress of the running step; cheap, may be called often."""

    def __call__(self, text: str) -> None: ...


class Progress:
    """Prints steps to a stream; `quiet` suppresses them (for use as a library)."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        quiet: bool = False,
        remind_every: timedelta = timedelta(seconds=30),
    ) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._quiet = quiet
        self._live = not quiet and self._stream.isatty()
        self._remind_every = remind_every.total_seconds()

    def info(self, text: str) -> None:
        """Print a permanent line."""
        if not self._quiet:
            print(text, file=self._stream, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Note]:
        """Print `title` and the duration of the body; the body may call the yielded note."""
        started = last = time.monotonic()
        if self._live:
            self._redraw(f"{title} …")

        def note(text: str) -> None:
            nonlocal last
            now = time.monotonic()
            if self._live and now - last >= 0.2:
                last = now
                self._redraw(f"{title} … {duration(now - started)}{', ' if text else ''}{text}")
            elif not self._live and now - last >= self._remind_every:
                last = now
                self.info(f"{title} … {duration(now - started)}{', ' if text else ''}{text}")

        try:
            yield note
        except BaseException:
            self._clear()
            self.info(f"{title}: stopped after {duration(time.monotonic() - started)}")
            raise
        self._clear()
        self.info(f"{title}  {duration(time.monotonic() - started)}")

    def _redraw(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{text[:118]}")
        self._stream.flush()

    def _clear(self) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"
