"""State shared between the server processes of one pod, in a folder of the pod (MODELSYNC_STATE_DIR).

`vllm serve --api-server-count N` runs several processes on one socket: a request reaches one of them, but its effect
concerns all. The folder outlives containers, so a mark in it is valid until the pod is deleted. A process's published
values are valid while it lives. Nothing here may raise because of the folder, or block the event loop.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from typing import Any

_ALIVE = ".alive"
_VALUES = ".json"


class SharedState:
    """One process's view of the state shared in its pod. Without a folder, values and marks stay in memory.

    `problem` is why the configured folder cannot be used now, or None.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = os.environ.get("MODELSYNC_STATE_DIR", "") if folder is None else folder
        self.problem: str | None = None
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._values: dict[str, Any] = {}
        self._marks: set[str] = set()
        self._descriptor: int | None = None
        if self.folder:
            self._join()

    def usable(self) -> str | None:
        """Join the folder if that has failed so far; return `problem`."""
        if self.folder and self._descriptor is None:
            self._join()
        return self.problem

    def mark(self, name: str) -> bool:
        """Set a mark for the pod's lifetime; return whether the other processes can see it."""
        self._marks.add(name)
        if not self.folder:
            return True
        with self._recording_problem(f"the mark {name} cannot be set"):
            os.close(os.open(self._path(name), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            return True
        return False

    def marked(self, name: str) -> bool:
        """Whether any process has set that mark, in this container or an earlier one."""
        if name in self._marks or not self.folder:
            return name in self._marks
        with self._recording_problem("it cannot be read"):
            try:
                os.stat(self._path(name))
                self._marks.add(name)
            except FileNotFoundError:
                if self._descriptor is not None:
                    self.problem = None
        return name in self._marks

    def publish(self, **values: Any) -> bool:
        """Update this process's published values (JSON); return whether the others can read them."""
        self._values.update(values)
        if not self.folder:
            return True
        new = self._path(f"{self._name}.new")
        with self._recording_problem("it cannot be written"):
            with open(new, "w", encoding="utf-8") as file:
                json.dump(self._values, file)
            os.replace(new, self._path(self._name + _VALUES))
            return True
        return False

    def published(self) -> list[dict[str, Any]]:
        """The published values of each living process, this one's first."""
        found = [self._values]
        if self.folder:
            with self._recording_problem("it cannot be read"):
                for name in sorted(os.listdir(self.folder)):
                    other = name[: -len(_ALIVE)]
                    if name.endswith(_ALIVE) and other != self._name and self._lives(other):
                        found.append(self._read(other))
        return found

    @contextlib.contextmanager
    def exclusively(self, what: str) -> Iterator[bool]:
        """Yield whether this process holds the pod-wide lock `what`, for the duration of the context."""
        descriptor: int | None = None
        mine = True
        if self.folder:
            with self._recording_problem(f"{what} cannot be locked"):
                descriptor = os.open(self._path(f"{what}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                mine = _lock(descriptor, fcntl.LOCK_EX)
        try:
            yield mine
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _join(self) -> None:
        """Create this process's lock file, whose lock the kernel releases at its end, and remove those of dead ones.

        With lockf, whose locks belong to the process: with flock a forked worker would keep a dead server's lock. The
        file is renamed after it is locked, or another process could take it for a dead one's.
        """
        with self._recording_problem("it cannot be written"):
            new = self._path(f"{self._name}.new")
            descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            _lock(descriptor, fcntl.LOCK_EX)
            os.replace(new, self._path(self._name + _ALIVE))
            self._descriptor, self.problem = descriptor, None
            for name in os.listdir(self.folder):
                other = name[: -len(_ALIVE)]
                if name.endswith(_ALIVE) and other != self._name and not self._lives(other):
                    for suffix in (_VALUES, _ALIVE):
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(self._path(other + suffix))

    def _lives(self, name: str) -> bool:
        try:
            descriptor = os.open(self._path(name + _ALIVE), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _lock(descriptor, fcntl.LOCK_SH)  # shared, so that two readers do not see each other's lock
        finally:
            os.close(descriptor)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            with open(self._path(name + _VALUES), encoding="utf-8") as file:
                values = json.load(file)
        except (FileNotFoundError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    @contextlib.contextmanager
    def _recording_problem(self, what: str) -> Iterator[None]:
        """Store an OSError about the folder in `problem`."""
        try:
            yield
        except OSError as error:
            self.problem = f"the pod's state folder {self.folder}: {what}: {error.strerror or error}"


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
