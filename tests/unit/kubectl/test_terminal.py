"""On a terminal: a live picture, and ^C, which leaves the terminal as it was."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

from unit.kubectl.scripted import OPEN, Script, chat, event, listed

SECONDS = 30
PLUGIN = """
from modelsync.kubectl import main
from modelsync.kubectl.cluster import watching
watching.TICK_SECONDS = 0.1
main()
"""
IN_FRONT = """
import fcntl, os, signal, sys, termios
os.setsid()
signal.signal(signal.SIGINT, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Makes the terminal the controlling one, so that ^C reaches the process and its children, even if the tests run in the
background with SIGINT ignored."""
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
INTERRUPT = b"\x03"


class Terminal:
    """What a user sees and types."""

    def __init__(self, end: int, process: "subprocess.Popen[bytes]") -> None:
        self.shown = ""
        self._end = end
        self._process = process
        self._seen = 0

    def until(self, text: str) -> None:
        """Read until `text` is shown, after everything that was awaited before."""
        while text not in self.shown[self._seen :]:
            assert self._read(), f"{text!r} is not shown: {self.shown}"
        self._seen = self.shown.index(text, self._seen) + len(text)

    def type(self, keys: bytes) -> None:
        os.write(self._end, keys)

    def close(self) -> int:
        """Read until the program ends; returns its exit code."""
        while self._read():
            pass
        return self._process.wait(SECONDS)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._end], [], [], SECONDS)
        assert ready, f"nothing was printed for {SECONDS} s after: {self.shown}"
        try:
            self.shown += os.read(self._end, 65536).decode(errors="replace")
        except OSError:  # Linux reports this way that the other end is closed
            return False
        return True


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    """A command on a terminal of its own."""
    end, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    started = [sys.executable, "-c", IN_FRONT, "-c", PLUGIN, *arguments]
    process = subprocess.Popen(started, stdin=its, stdout=its, stderr=its, env=os.environ | {"TERM": "xterm"})
    os.close(its)
    try:
        yield Terminal(end, process)
    finally:
        process.kill()
        process.wait()
        os.close(end)


def test_a_watch_survives_broken_connections_until_it_is_interrupted(script: Script) -> None:
    script(
        ("watch=true", event("MODIFIED", chat(2, phase="Starting")), "error: unexpected EOF\n", 1),
        ("watch=true", event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"}), "", 0),
        ("watch=true", event("MODIFIED", chat(9, phase="Healthy")), "", OPEN),
        ("fieldSelector", listed(chat(1, phase="Pulling")), "", 0),
        ("fieldSelector", "", "The connection to the server 10.0.0.1:6443 was refused - is it there?\n", 1),
        ("fieldSelector", listed(chat(5, phase="Canary"), version=5), "", 0),
        ("fieldSelector", listed(chat(8, phase="Promoting"), version=8), "", 0),
    )
    with terminal("get", "chat", "--watch", "-n", "prod") as screen:
        for shown in ("Pulling", "Starting", "still trying: The connection", "Canary", "Promoting", "Healthy"):
            screen.until(shown)
        screen.type(INTERRUPT)
        assert screen.close() == 130
    assert screen.shown.count(HIDE_CURSOR) == screen.shown.count(SHOW_CURSOR) == 1
    assert "Traceback" not in screen.shown
    assert "chat" not in screen.shown[screen.shown.rindex(SHOW_CURSOR) :], "nothing is printed below the last picture"


def test_a_watch_ends_when_its_object_is_deleted(script: Script) -> None:
    script(
        ("watch=true", event("DELETED", chat(2, phase="Healthy")), "", OPEN),
        ("fieldSelector", listed(chat(1, phase="Healthy")), "", 0),
    )
    with terminal("get", "chat", "-w", "-n", "prod") as screen:
        assert screen.close() == 1
    assert screen.shown.endswith('error: modeldeployments.modelsync.dev "chat" was deleted\r\n')
    assert screen.shown.index(SHOW_CURSOR) < screen.shown.index("error: ")


def test_an_interrupted_wait_prints_nothing(script: Script) -> None:
    script(("watch=true", "", "", OPEN), ("fieldSelector", listed(chat(1, phase="Starting")), "", 0))
    with terminal("status", "chat", "-n", "prod") as screen:
        screen.until("Waiting for chat")
        screen.type(INTERRUPT)
        assert screen.close() == 130
    assert screen.shown.replace("^C", "").endswith("has not reported on it yet\r\n")
