"""Whose turn it is to fill a staging folder: a file with a heartbeat, which works on every file system.

The kernel's locks do not: on NFS they hold within one machine only, are refused, or outlive their owner. What is used
here is that a file can be made by one (`O_EXCL`), that a rename happens once, and that a file that was opened anew
shows what another machine has written and closed.

A lease can be lost while its owner believes in it: a machine that stood still for a minute. So nothing may rest on it
but that bytes are not fetched twice. What makes several writers safe is that each writes into files of its own and
publishes by one rename (`work`, `target`). Clocks of two machines are never compared.
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
"""How often an owner shows that it lives."""
EXPIRY_SECONDS = 30.0
"""A lease that has not changed for so long, by the watch of who looks at it, has lost its owner."""
_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns a lease, as far as another needs to know to say whether it still lives."""

    token: str
    """Of this one pull; also the name of its work folder."""
    pod: str = ""
    """UID of the pod, in which only one pull process lives at a time; empty outside of one."""
    process: str = ""
    """Boot, PID namespace, PID and start time; empty where the kernel does not tell."""
    host: str = ""
    """For people: the pod's name."""

    @classmethod
    def me(cls, *, pod: str = "") -> Self:
        """A new owner: this process, in the pod with the UID `pod`."""
        return cls(uuid.uuid4().hex, pod, _process(os.getpid()) or "", os.uname().nodename)

    @classmethod
    def read(cls, content: bytes) -> Self | None:
        """Read what `encode` wrote; None for anything else, such as a file whose writer died before it wrote."""
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
        """Whether its process is proved to be over. False proves nothing.

        A pod's container is started again only after it has ended, and a process of this machine is in /proc.
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
    """The right to fill one folder. `try_take` it, `beat` while it is used, `release` it."""

    def __init__(self, path: Path, me: Owner, *, expiry: float | None = None) -> None:
        """`expiry`: seconds, EXPIRY_SECONDS if left out."""
        self._path = path
        self._me = me
        self._expiry = EXPIRY_SECONDS if expiry is None else expiry
        self._beats = 0
        self._seen: bytes | None = None
        self._seen_at = 0.0
        self.said = ""
        """What the owner that was last seen says: who it is and how far it is."""

    def try_take(self) -> bool:
        """Take the lease if it is free or its owner is dead. False while another has it. Raises OSError."""
        content = _read(self._path)
        if content is None:
            return self._create()
        owner, now = Owner.read(content), time.monotonic()
        if content != self._seen:
            self._seen, self._seen_at = content, now
        self.said = _said(content)
        expired = now - self._seen_at >= self._expiry
        if expired or (owner is not None and owner.is_dead(seen_by=self._me)):
            return self._displace(content) and self._create()
        return False

    def beat(self, said: str = "") -> bool:
        """Show that the owner lives, and how far it is. False if another has taken over. Raises OSError."""
        self._beats += 1
        try:
            # Opened anew each time: whoever looks from another machine sees what was closed. Never made anew.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            if not self._is_mine(os.pread(descriptor, _MAX_BYTES, 0)):
                return False
            content = self._content(said)
            os.pwrite(descriptor, content, 0)
            os.ftruncate(descriptor, len(content))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return True

    def is_held(self) -> bool:
        """Whether no other has taken over. Raises OSError."""
        content = _read(self._path)
        return content is not None and self._is_mine(content)

    def release(self) -> None:
        """Let the next one in. Does nothing if another has taken over. Raises OSError."""
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
        except OSError:  # a full disk: the file must not keep others out
            with suppress(OSError):
                self._path.unlink()
            raise
        finally:
            os.close(descriptor)
        return True

    def _displace(self, dead: bytes) -> bool:
        """Take the dead owner's file away; False if it was another's."""
        aside = self._path.with_name(f"{self._path.name}.{self._me.token}")
        try:
            os.rename(self._path, aside)
        except FileNotFoundError:
            return False
        found = _read(aside) or b""
        try:
            if found == dead:
                return True
            # Another has displaced the dead one first, and this is its file: it gets it back if it can, or else
            # finds out at its next beat.
            with suppress(OSError):
                os.link(aside, self._path)
            return False
        finally:
            aside.unlink(missing_ok=True)

    def _content(self, said: str) -> bytes:
        document = asdict(self._me) | {"beat": self._beats, "said": said[:200]}
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


def _said(content: bytes) -> str:
    owner = Owner.read(content)
    if owner is None:
        return ""
    said = str(json.loads(content).get("said") or "")
    text = f"{owner.host}: {said}" if said else owner.host
    return text if text.isprintable() else ascii(text)


def _process(pid: int) -> str | None:
    """Boot, PID namespace, PID and start time of a process; None if there is none, or no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
        # The name, in parentheses, may hold anything; the start time is the 22nd field, the 20th after it.
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else f"{boot}/{space}/{pid}-{after_name[19]}"
