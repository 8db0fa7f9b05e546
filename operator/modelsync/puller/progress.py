"""How far a pull has come: counted by the threads that fetch, read by whoever shows it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far it has come at one moment."""

    stage: str
    """What is being done, as a person reads it: `asking the registry`, `fetching`."""
    files: int
    total_files: int
    fetched: int
    """Bytes that came over the network in this pull and count."""
    reused: int
    """Bytes that were here already."""
    total: int
    """Bytes of the whole artifact; 0 before the manifest is known."""


class Progress:
    """The counters of one pull. Every method may be called from any thread."""

    def __init__(self, note: Callable[[str], None] = lambda text: None) -> None:
        """`note` takes sentences for a person: what is tried again, and why."""
        self._lock = threading.Lock()
        self._now = Snapshot("starting", 0, 0, 0, 0, 0)
        self._note = note

    def note(self, text: str) -> None:
        """Say something that a person may want to know."""
        self._note(text)

    def enter(self, stage: str) -> None:
        """Begin with something else."""
        self._change(stage=stage)

    def expect(self, *, files: int, size: int) -> None:
        """Say how much there is to come."""
        self._change(total_files=files, total=size)

    def start_over(self) -> None:
        """Forget what was counted: another pull has gone on with it."""
        with self._lock:
            self._now = Snapshot(self._now.stage, 0, 0, 0, 0, 0)

    def fetch(self, count: int) -> None:
        """Count bytes from the network; negative when they have to be fetched again."""
        self._change(fetched=count)

    def reuse(self, count: int) -> None:
        """Count bytes that were here; negative when they have to be fetched after all."""
        self._change(reused=count)

    def finish_file(self) -> None:
        """Count a verified file."""
        self._change(files=1)

    def snapshot(self) -> Snapshot:
        """Return all counters of one moment."""
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
