"""Starts the processes of a cluster, and ends exactly these.

A process is identified by its pid, its start time and the boot, so that a reused pid is never signalled. The process
writes its own record before it executes the program (a record by the starter would be lost if the starter were killed
in between).
"""

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

from localcluster.errors import ClusterError

_RECORDED_WITHIN = timedelta(seconds=10)

# $0 is the record, $1 the fingerprint, the rest the command. The reads are the shell's own, so `self` is the process.
_LAUNCHER = """
read -r boot < /proc/sys/kernel/random/boot_id &&
read -r stat < /proc/self/stat &&
printf '%s\\n%s\\n%s\\n' "$boot" "$stat" "$1" > "$0.new" && mv "$0.new" "$0" && shift && exec "$@"
"""


@dataclass(frozen=True)
class Record:
    """A started process: `start_ticks` as in field 22 of proc(5) stat; `fingerprint` of its command line."""

    name: str
    pid: int
    start_ticks: int
    boot: str
    fingerprint: str

    @property
    def alive(self) -> bool:
        """Whether this same process still runs; a zombie does not."""
        return self.boot == boot_id() and _running_since(self.pid) == self.start_ticks


class Processes:
    """The processes of one cluster; `folder` contains a record for each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._closed = folder.with_name(f"{folder.name}-closed")

    def __iter__(self) -> Iterator[Record]:
        """Every process that was started, alive or not, oldest first."""
        paths = [path for folder in (self._closed, self._folder) for path in folder.glob("*.process")]
        for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns):
            if record := _read(path):
                yield record

    def get(self, name: str) -> Record | None:
        """The process that was last started under `name`, alive or not."""
        return _read(self._path(name))

    def start(self, name: str, command: Sequence[str | Path], *, environment: Mapping[str, str], log: Path) -> bool:
        """Start `command` as a daemon that appends to `log`; do nothing if the same command runs already.

        A running process of the same name with another command line is ended first. Returns whether it was started.
        Raises ClusterError if the process could not even record itself.
        """
        arguments = [str(part) for part in command]
        fingerprint = sha256("\0".join(arguments).encode()).hexdigest()
        if (running := self.get(name)) and running.alive:
            if running.fingerprint == fingerprint:
                return False
            end([running])
        self._folder.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        path = self._path(name)
        path.unlink(missing_ok=True)
        with log.open("ab") as output:
            subprocess.run(
                ["setsid", "--fork", "sh", "-c", _LAUNCHER, str(path), fingerprint, *arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=True,
            )
        deadline = time.monotonic() + _RECORDED_WITHIN.total_seconds()
        while not path.exists():
            if time.monotonic() > deadline:
                raise ClusterError(f"{name} did not start: see {log}")
            time.sleep(0.005)
        return True

    def end(self, *names: str) -> None:
        """End the named processes and remove their records."""
        end([record for name in names if (record := self.get(name))])
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def kill(self, name: str) -> None:
        """Kill a process, like a crash. Its record is kept, as after a crash."""
        if record := self.get(name):
            end([record], grace=timedelta())

    def close(self) -> None:
        """Kill all processes, including those that a killed starter was just starting.

        A process that has not recorded itself no longer finds the folder for its record, so never runs the program.
        """
        end(list(self), grace=timedelta())
        if self._folder.exists():
            shutil.rmtree(self._closed, ignore_errors=True)
            self._folder.rename(self._closed)
        end(list(self), grace=timedelta())  # processes that recorded themselves in between

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.process"


def end(records: Sequence[Record], *, grace: timedelta = timedelta(seconds=5)) -> None:
    """SIGTERM all, SIGKILL the rest after `grace` (None: at once), and return when none of them runs."""
    handles = [handle for record in records if (handle := _open(record)) is not None]
    requests = [(signal.SIGTERM, grace.total_seconds())] if grace else []
    try:
        for number, patience in (*requests, (signal.SIGKILL, 10.0)):
            for handle in handles:
                _send(handle, number)
            deadline = time.monotonic() + patience
            while handles and (remaining := deadline - time.monotonic()) > 0:
                for ended in select.select(handles, [], [], remaining)[0]:
                    handles.remove(ended)
                    os.close(ended)
            if not handles:
                return
    finally:
        for handle in handles:
            os.close(handle)


def tied(command: Sequence[str | Path]) -> list[str]:
    """The command line of a helper that the kernel kills when its starter ends, in any way; keeps the pid."""
    return ["setpriv", "--pdeathsig", "KILL", *(str(part) for part in command)]


def identify(pid: int, name: str) -> Record | None:
    """A record of a process that we found but did not start; None if it has ended."""
    since = _running_since(pid)
    return None if since is None else Record(name, pid, since, boot_id(), "")


def boot_id() -> str:
    """The kernel's id of this boot: pids and start times are only valid within one boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _open(record: Record) -> int | None:
    """A pidfd of exactly this process: checked after opening, so that the pid cannot be reused in between."""
    try:
        handle = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return None
    if record.alive:
        return handle
    os.close(handle)
    return None


def _send(handle: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return


def _read(path: Path) -> Record | None:
    try:
        boot, stat, fingerprint = path.read_text().splitlines()
    except (FileNotFoundError, ValueError):
        return None
    return Record(path.stem, int(stat.split()[0]), _start_ticks(stat), boot, fingerprint)


def _running_since(pid: int) -> int | None:
    """The start time of a live process; None if there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if _after_name(stat)[0] in "ZX" else _start_ticks(stat)


def _start_ticks(stat: str) -> int:
    return int(_after_name(stat)[19])


def _after_name(stat: str) -> list[str]:
    """The fields from the third on; the second, the name, may contain spaces and brackets."""
    return stat.rpartition(")")[2].split()
