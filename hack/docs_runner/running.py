"""Types the commands of a page into a shell, and says where something else is printed than the page says.

One shell for a page, as its reader has: what is exported stays. Nothing is retried and nothing waited for that the page
does not wait for.
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
    """A page is wrong: the message begins with page and line."""


@dataclass(slots=True)
class Typed:
    """What came of commands: seconds for each."""

    seconds: list[tuple[Command, float]] = field(default_factory=list)

    @property
    def total(self) -> float:
        """Seconds in all."""
        return sum(seconds for _, seconds in self.seconds)

    def table(self) -> str:
        """A line for each command, the slow ones to be found."""
        return "\n".join(
            f"{seconds:7.1f} s  {command.page.name}:{command.line}  {command.text.splitlines()[0][:90]}"
            for command, seconds in self.seconds
        )


async def run(page: Page, *, folder: Path, environment: Mapping[str, str]) -> Typed:
    """Type every command of `page` that is marked to be run. Raises DocsError at the first that differs."""
    return await type_all(commands(page), folder=folder, environment=environment)


async def type_all(todo: Sequence[Command], *, folder: Path, environment: Mapping[str, str]) -> Typed:
    """Type commands into one shell, one after the other. Raises DocsError at the first that differs."""
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
                raise DocsError(_says(command, f"has not ended after {COMMAND_SECONDS:g} s")) from None
            typed.seconds.append((command, time.monotonic() - started))
            if code:
                raise DocsError(_says(command, f"ended with {code} and printed", printed))
            if not matches(command.printed, printed):
                wanted = "\n".join(command.printed) or "(nothing)"
                raise DocsError(_says(command, f"should print\n{wanted}\nand printed", printed))
    finally:
        _end(shell)
        await shell.wait()
    return typed


async def _type(shell: asyncio.subprocess.Process, text: str) -> tuple[str, int]:
    if shell.stdin is None or shell.stdout is None:
        raise RuntimeError("the shell was started without pipes")
    mark = f"--{token_hex(8)}--"
    # Commands read nothing: what the next one is would be swallowed otherwise.
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
    """End the shell and all that it started: nothing of a page may go on after it."""
    if shell.returncode is None:
        os.killpg(shell.pid, signal.SIGKILL)


def _says(command: Command, what: str, printed: str = "") -> str:
    return f"{command} {what}" + (f"\n{printed}" if printed else "")
