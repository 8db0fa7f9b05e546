"""Runs `kubectl modelsync` as a user does: kubectl finds the plugin on PATH, the plugin finds kubectl there."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

SECONDS = 60


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


async def kubectl(*arguments: str, code: int | None = 0) -> Said:
    """Run kubectl; its exit code must be `code`, None for any."""
    scripts = str(Path(sys.executable).parent)
    process = await asyncio.create_subprocess_exec(
        "kubectl",
        *arguments,
        env=os.environ | {"PATH": os.pathsep.join((scripts, os.environ["PATH"]))},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    except TimeoutError:
        process.kill()
        raise
    said = Said(process.returncode or 0, out.decode(), err.decode())
    assert code in (None, said.code), f"kubectl {' '.join(arguments)} ended with {said}"
    return said


async def plugin(*arguments: str, code: int | None = 0) -> Said:
    """Run `kubectl modelsync`."""
    return await kubectl("modelsync", *arguments, code=code)
