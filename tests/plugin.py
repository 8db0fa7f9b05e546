"""Runs `kubectl modelsync` as a user does: kubectl finds the plugin on PATH, the plugin finds kubectl there."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

SECONDS = 60


@dataclass(frozen=True, slots=True)
class Result:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


class Watching:
    """A running command and what it prints."""

    def __init__(self, process: Process) -> None:
        self.lines: list[str] = []
        self._process = process

    async def until(self, *words: str) -> str:
        """The next line that contains all of these words."""
        assert self._process.stdout is not None
        async with asyncio.timeout(SECONDS):
            async for line in self._process.stdout:
                self.lines.append(line.decode().rstrip("\n"))
                if all(word in self.lines[-1] for word in words):
                    return self.lines[-1]
        raise AssertionError(f"the command ended without printing {words}: {self.lines}")

    async def cut(self) -> None:
        """Break its connection by killing the kubectl that watches for it."""
        async with asyncio.timeout(SECONDS):
            while not (children := _children(self._process.pid)):  # noqa: ASYNC110  there is no event to wait for
                await asyncio.sleep(0.05)
        os.kill(children[0], signal.SIGKILL)


async def kubectl(*arguments: str, code: int | None = 0, env: Mapping[str, str] | None = None) -> Result:
    """Run kubectl and assert its exit code; None allows any."""
    process = await _start(*arguments, env=env)
    try:
        out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    except TimeoutError:
        process.kill()
        raise
    result = Result(process.returncode or 0, out.decode(), err.decode())
    assert code in (None, result.code), f"kubectl {' '.join(arguments)} ended with {result}"
    return result


async def plugin(*arguments: str, code: int | None = 0, env: Mapping[str, str] | None = None) -> Result:
    """Run `kubectl modelsync`."""
    return await kubectl("modelsync", *arguments, code=code, env=env)


@asynccontextmanager
async def watching(*arguments: str) -> AsyncIterator[Watching]:
    """Run `kubectl modelsync` during the block, then interrupt it as ^C does."""
    process = await _start("modelsync", *arguments)
    try:
        yield Watching(process)
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), SECONDS)
        assert process.returncode == 130
        assert b"Traceback" not in err
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _start(*arguments: str, env: Mapping[str, str] | None = None) -> Process:
    scripts = str(Path(sys.executable).parent)
    path = os.pathsep.join((scripts, os.environ["PATH"]))
    environment = {**os.environ, **(env or {}), "PATH": path}
    return await asyncio.create_subprocess_exec(
        "kubectl",
        *arguments,
        env=environment,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        # A shell that runs the tests in the background makes them ignore SIGINT, and the command would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
