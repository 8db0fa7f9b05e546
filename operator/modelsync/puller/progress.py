"""The progress of a pull: updated by the fetching threads, read by the display."""

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The progress at one moment."""

    stage: str
    """The current stage, for display: `querying the registry`, `fetching`."""
    files: int
    total_files: int
    fetched: int
    """Bytes fetched over the network in this pull, without discarded ones."""
    reused: int
    """Bytes that were already present."""
    total: int
    """Bytes of the whole artifact; 0 before the manifest is known."""


class Progress:
    """The counters of one pull. Thread-safe."""

    def __init__(self, note: Callable[[str], None] = lambda text: None) -> None:
        """`note` is called with messages for the user: what is retried, and why."""
        self._lock = threading.Lock()
        self._now = Snapshot("starting", 0, 0, 0, 0, 0)
        self._note = note

    def note(self, text: str) -> None:
        """Report a message to the user."""
        self._note(text)

    def enter(self, stage: str) -> None:
        """Set the current stage."""
        self._change(stage=stage)

    def expect(self, *, files: int, size: int) -> None:
        """Set the totals."""
        self._change(total_files=files, total=size)

    def start_over(self) -> None:
        """Reset the counters: another pull has taken over."""
        with self._lock:
            self._now = Snapshot(self._now.stage, 0, 0, 0, 0, 0)

    def fetch(self, count: int) -> None:
        """Count bytes from the network; negative when they must be fetched again."""
        self._change(fetched=count)

    def reuse(self, count: int) -> None:
        """Count bytes that were already present; negative when they must be fetched after all."""
        self._change(reused=count)

    def finish_file(self) -> None:
        """Count a verified file."""
        self._change(files=1)

    def snapshot(self) -> Snapshot:
        """Return the current counters."""
        return self._now

    def _change(
        self,
        *,
        stage: str | None = None,
        files: int = 0,
        total_files: int | None = None,
        fetched: int = 0,
        reused: int = 0,
        total: int | None = None,
    ) -> None:
        with self._lock:
            old = self._now
            self._now = Snapshot(
                stage=old.stage if stage is None else stage,
                files=old.files + files,
                total_files=old.total_files if total_files is None else total_files,
                fetched=old.fetched + fetched,
                reused=old.reused + reused,
                total=old.total if total is None else total,
            )
