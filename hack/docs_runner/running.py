"""Runs the commands of a page in a shell, and reports where the output differs from the page.

Each page has one shell, as its reader does: exported variables persist. Nothing is retried or waited for unless the
page does so.
"""

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from docs_runner.console import Command, commands, matches
from docs_runner.pages import Page

COMMAND_SECONDS = 180.0


class DocsError(AssertionError):
    """A page is wrong; the message starts with page and line."""


@dataclass(slots=True)
class Typed:
    """The commands that ran, with the seconds for each."""

    seconds: list[tuple[Command, float]] = field(default_factory=list)

    @property
    def total(self) -> float:
        """Total seconds."""
        return sum(seconds for _, seconds in self.seconds)

    def table(self) -> str:
        """A line for each command, to find the slow ones."""
        return "\n".join(
            f"{seconds:7.1f} s  {command.page.name}:{command.line}  {command.text.splitlines()[0][:90]}"
            for command, seconds in self.seconds
        )


async def run(page: Page, *, folder: Path, environment: Mapping[str, str]) -> Typed:
    """Run every command of `page` that is marked to be run. Raises DocsError at the first difference."""
    return await type_all(commands(page), folder=folder, environment=environment)


async def type_all(todo: Sequence[Command], *, folder: Path, environment: Mapping[str, str]) -> Typed:
    """Run commands in one shell, one after the other. Raises DocsError at the first difference."""
    typed = Typed()
    shell = await asyncio.create_subprocess_exec(
        "bash",
        "--norc",
        "--noprofile",
        cwd=folder,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        limit=1 << 20,
    )
    try:
        for command in todo:
            started = time.monotonic()
            try:
                async with asyncio.timeout(COMMAND_SECONDS):
                    printed, code = await _type(shell, command.text)
            except TimeoutError:
                raise DocsError(_message(command, f"has not ended after {COMMAND_SECONDS:g} s")) from None
            typed.seconds.append((command, time.monotonic() - started))
            if code:
                raise DocsError(_message(command, f"ended with {code} and printed", printed))
            if not matches(command.printed, printed):
                wanted = "\n".join(command.printed) or "(nothing)"
                raise DocsError(_message(command, f"should print\n{wanted}\nand printed", printed))
    finally:
        _end(shell)
        await shell.wait()
    return typed


async def _type(shell: asyncio.subprocess.Process, text: str) -> tuple[str, int]:
    if shell.stdin is None or shell.stdout is None:
        raise RuntimeError("the shell was started without pipes")
    mark = f"--{token_hex(8)}--"
    # Commands must not read standard input, or they would consume the next command.
    shell.stdin.write(f"{{\n{text}\n}} </dev/null\nprintf '\\n%s %s\\n' '{mark}' $?\n".encode())
    await shell.stdin.drain()
    lines: list[str] = []
    while raw := await shell.stdout.readline():
        line = raw.decode(errors="replace").rstrip("\n")
        if line.startswith(mark):
            return "\n".join(lines).strip("\n"), int(line.removeprefix(mark))
        lines.append(line)
    return "\n".join(lines).strip("\n"), await shell.wait() or 1


def _end(shell: asyncio.subprocess.Process) -> None:
    """End the shell and all its children: nothing may keep running after a page."""
    if shell.returncode is None:
        os.killpg(shell.pid, signal.SIGKILL)


def _message(command: Command, what: str, printed: str = "") -> str:
    return f"{command} {what}" + (f"\n{printed}" if printed else "")
