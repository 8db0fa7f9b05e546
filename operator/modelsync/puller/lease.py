"""The right to fill a staging folder: a lease file with a heartbeat, which works on every file system.

Kernel locks do not: on NFS they work within one machine only, fail, or outlive their owner. The lease relies only on
exclusive creation (`O_EXCL`), on atomic renames, and on close-to-open consistency: a newly opened file shows what
another machine has written and closed.

An owner can lose its lease without noticing, for example on a machine that was paused for a minute. So correctness must
never depend on the lease; it only avoids fetching bytes twice. Concurrent writers are safe because each writes its own
files and publishes with one rename (`work_folder`, `target`). Clocks of two machines must never be compared.
"""

import json
import os
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

BEAT_SECONDS = 5.0
"""Interval of the owner's heartbeat."""
EXPIRY_SECONDS = 30.0
"""A lease that has not changed for this long, by the observer's monotonic clock, counts as abandoned."""
_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a lease: what another process needs to decide whether it is still alive."""

    token: str
    """Identifies this pull; also part of its work folder's name."""
    pod: str = ""
    """UID of the pod, which runs one pull process at a time; empty outside a pod."""
    process: str = ""
    """Boot id, PID namespace, PID and start time; empty where /proc is not available."""
    host: str = ""
    """The pod's name, for messages."""

    @classmethod
    def me(cls, *, pod: str = "") -> Self:
        """Create an owner for this process, in the pod with the UID `pod`."""
        return cls(uuid.uuid4().hex, pod, _process(os.getpid()) or "", os.uname().nodename)

    @classmethod
    def read(cls, content: bytes) -> Self | None:
        """Parse what `encode` wrote; None for anything else, such as an empty file of a writer that died."""
        try:
            document = json.loads(content)
            found = cls(*(str(document[name])[:256] for name in ("token", "pod", "process", "host")))
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return found if found.token.isalnum() else None

    def encode(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    def is_dead(self, *, seen_by: "Owner") -> bool:
        """Whether its process has certainly ended. False proves nothing.

        A pod's container is only restarted after it has ended, and processes of this machine are listed in /proc.
        """
        if self.process and self.process == seen_by.process:
            return False
        if self.pod and self.pod == seen_by.pod:
            return True
        place, _, rest = self.process.rpartition("/")
        if not place or place != seen_by.process.rpartition("/")[0]:
            return False
        pid = rest.partition("-")[0]
        return pid.isdigit() and _process(int(pid)) != self.process


class Lease:
    """The lease of one folder: call `try_take`, then `beat` while it is used, then `release`."""

    def __init__(self, path: Path, me: Owner, *, expiry: float | None = None) -> None:
        """`expiry`: seconds; default EXPIRY_SECONDS."""
        self._path = path
        self._me = me
        self._expiry = EXPIRY_SECONDS if expiry is None else expiry
        self._beats = 0
        self._seen: bytes | None = None
        self._seen_at = 0.0
        self.holder = ""
        """Host and progress of the owner that was last seen."""

    def try_take(self) -> bool:
        """Take the lease if it is free or its owner is dead; False while another owner holds it. Raises OSError."""
        content = _read(self._path)
        if content is None:
            return self._create()
        owner, now = Owner.read(content), time.monotonic()
        if content != self._seen:
            self._seen, self._seen_at = content, now
        self.holder = _describe(content)
        expired = now - self._seen_at >= self._expiry
        if expired or (owner is not None and owner.is_dead(seen_by=self._me)):
            return self._displace(content) and self._create()
        return False

    def beat(self, progress: str = "") -> bool:
        """Write a heartbeat with the progress. False if another pull has taken over. Raises OSError."""
        self._beats += 1
        try:
            # Reopened each time, since other machines see only closed files. No O_CREAT: a lost lease stays lost.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            if not self._is_mine(os.pread(descriptor, _MAX_BYTES, 0)):
                return False
            content = self._content(progress)
            os.pwrite(descriptor, content, 0)
            os.ftruncate(descriptor, len(content))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return True

    def is_held(self) -> bool:
        """Whether this pull still holds the lease. Raises OSError."""
        content = _read(self._path)
        return content is not None and self._is_mine(content)

    def release(self) -> None:
        """Release the lease. Does nothing if another pull has taken over. Raises OSError."""
        if self.is_held():
            self._path.unlink(missing_ok=True)

    def _create(self) -> bool:
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return False
        try:
            os.write(descriptor, self._content(""))
            os.fsync(descriptor)
        except OSError:  # a full disk: the incomplete file must not block other pulls
            with suppress(OSError):
                self._path.unlink()
            raise
        finally:
            os.close(descriptor)
        return True

    def _displace(self, dead: bytes) -> bool:
        """Remove the dead owner's file; False if it belongs to another owner by now."""
        aside = self._path.with_name(f"{self._path.name}.{self._me.token}")
        try:
            os.rename(self._path, aside)
        except FileNotFoundError:
            return False
        found = _read(aside) or b""
        try:
            if found == dead:
                return True
            # Another pull was faster, and this is its file: restore it if possible; otherwise its next beat notices.
            with suppress(OSError):
                os.link(aside, self._path)
            return False
        finally:
            aside.unlink(missing_ok=True)

    def _content(self, progress: str) -> bytes:
        document = asdict(self._me) | {"beat": self._beats, "said": progress[:200]}
        return json.dumps(document).encode() + b"\n"

    def _is_mine(self, content: bytes) -> bool:
        owner = Owner.read(content)
        return owner is not None and owner.token == self._me.token


def _read(path: Path) -> bytes | None:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
            return file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None


def _describe(content: bytes) -> str:
    owner = Owner.read(content)
    if owner is None:
        return ""
    progress = str(json.loads(content).get("said") or "")
    text = f"{owner.host}: {progress}" if progress else owner.host
    return text if text.isprintable() else ascii(text)


def _process(pid: int) -> str | None:
    """Boot id, PID namespace, PID and start time of a process; None if it does not exist, or without /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
        # The name, in parentheses, may contain anything; the start time is field 22, the 20th after the name.
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else f"{boot}/{space}/{pid}-{after_name[19]}"
