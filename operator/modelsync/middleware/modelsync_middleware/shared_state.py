"""What the server processes of one pod tell each other, through a folder of the pod (MODELSYNC_STATE_DIR).

`vllm serve --api-server-count N` is several processes on one socket: a request reaches one of them, and what it learns
concerns all. The folder outlives containers, so a mark in it holds until the pod is gone. What a process says holds as
long as it lives. Nothing here may raise for the sake of the folder, or keep the event loop waiting.
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
_SAID = ".json"


class SharedState:
    """One process's place among those of its pod. Without a folder it is alone, and marks are its own memory.

    `problem` says why the folder that there should be cannot be used now, or is None.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = os.environ.get("MODELSYNC_STATE_DIR", "") if folder is None else folder
        self.problem: str | None = None
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._said: dict[str, Any] = {}
        self._marks: set[str] = set()
        self._descriptor: int | None = None
        if self.folder:
            self._join()

    def usable(self) -> str | None:
        """Why this process is not one of its pod now, after another try; None if it is."""
        if self.folder and self._descriptor is None:
            self._join()
        return self.problem

    def mark(self, name: str) -> bool:
        """Set a mark for the life of the pod; say whether the other processes can see it."""
        self._marks.add(name)
        if not self.folder:
            return True
        with self._told(f"the mark {name} cannot be set"):
            os.close(os.open(self._path(name), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            return True
        return False

    def marked(self, name: str) -> bool:
        """Whether any process has set that mark, in this container's life or an earlier one."""
        if name in self._marks or not self.folder:
            return name in self._marks
        with self._told("it cannot be read"):
            try:
                os.stat(self._path(name))
                self._marks.add(name)
            except FileNotFoundError:
                if self._descriptor is not None:
                    self.problem = None
        return name in self._marks

    def publish(self, **values: Any) -> bool:
        """Add to what this process says of itself, as JSON; say whether the others can read it."""
        self._said.update(values)
        if not self.folder:
            return True
        new = self._path(f"{self._name}.new")
        with self._told("it cannot be written"):
            with open(new, "w", encoding="utf-8") as file:
                json.dump(self._said, file)
            os.replace(new, self._path(self._name + _SAID))
            return True
        return False

    def published(self) -> list[dict[str, Any]]:
        """What each living process says of itself, this one first."""
        found = [self._said]
        if self.folder:
            with self._told("it cannot be read"):
                for name in sorted(os.listdir(self.folder)):
                    other = name[: -len(_ALIVE)]
                    if name.endswith(_ALIVE) and other != self._name and self._lives(other):
                        found.append(self._read(other))
        return found

    @contextlib.contextmanager
    def exclusively(self, what: str) -> Iterator[bool]:
        """Whether this process is the one of the pod that does `what`, for as long as the context lasts."""
        descriptor: int | None = None
        mine = True
        if self.folder:
            with self._told(f"{what} cannot be locked"):
                descriptor = os.open(self._path(f"{what}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                mine = _lock(descriptor, fcntl.LOCK_EX)
        try:
            yield mine
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _join(self) -> None:
        """Show that this process lives, by a lock that the kernel drops with it, and clear away what dead ones left.

        By lockf, which belongs to the process: by flock a worker that was forked would keep a dead server alive. The
        file gets its name when it is locked, or another process could take it for a dead one's.
        """
        with self._told("it cannot be written"):
            new = self._path(f"{self._name}.new")
            descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            _lock(descriptor, fcntl.LOCK_EX)
            os.replace(new, self._path(self._name + _ALIVE))
            self._descriptor, self.problem = descriptor, None
            for name in os.listdir(self.folder):
                other = name[: -len(_ALIVE)]
                if name.endswith(_ALIVE) and other != self._name and not self._lives(other):
                    for suffix in (_SAID, _ALIVE):
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(self._path(other + suffix))

    def _lives(self, name: str) -> bool:
        try:
            descriptor = os.open(self._path(name + _ALIVE), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _lock(descriptor, fcntl.LOCK_SH)  # shared, so that two who look do not see each other
        finally:
            os.close(descriptor)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            with open(self._path(name + _SAID), encoding="utf-8") as file:
                said = json.load(file)
        except (FileNotFoundError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Keep the kernel's complaint about the folder as `problem`."""
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
