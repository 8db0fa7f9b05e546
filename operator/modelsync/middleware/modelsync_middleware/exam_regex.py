"""Matches an exam's regular expressions in a process of their own, with a limit on time and memory.

The artifact's author writes them. Python's `re` can take minutes to compile one and years to match another (`(a+)+$`),
holds the interpreter meanwhile, and cannot be stopped in a thread. The server that the pod runs must go on answering.
Standard library only, Python 3.9 or newer; as a program it must import nothing of this folder.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

CPU_SECONDS = 2
"""Of a processor, for one match or for all expressions of an exam to be compiled."""
WAIT_SECONDS = 30.0
"""For the process to end, on a node that is busy."""
MEMORY_BYTES = 512 << 20


class RegexError(Exception):
    """An expression is not valid, or takes too much; the message says which."""


def first_problem(patterns: Sequence[str]) -> tuple[int, str] | None:
    """The index of the first expression that is not valid, and why; None if all are. Blocks. Raises RegexError."""
    found = _apart({"compile": list(patterns)}) if patterns else None
    return (int(found[0]), str(found[1])) if found else None


def matches(pattern: str, text: str) -> bool:
    """Whether `re.search` finds `pattern` in `text`. Blocks. Raises RegexError."""
    return bool(_apart({"pattern": pattern, "text": text}))


def _apart(question: dict[str, Any]) -> list[Any]:
    try:
        ended = subprocess.run(  # noqa: S603 this file, with the interpreter that runs it
            [sys.executable, "-I", "-S", __file__],
            input=json.dumps(question).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=WAIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RegexError(f"it took more than {WAIT_SECONDS:g} s") from None
    except OSError as error:
        raise RegexError(f"it cannot be tried, since no process can be started ({error.strerror})") from None
    if ended.returncode:
        raise RegexError(f"it took more than {CPU_SECONDS} s of a processor or {MEMORY_BYTES >> 20} MiB of memory")
    found: list[Any] = json.loads(ended.stdout)
    return found


def _main() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    question = json.loads(sys.stdin.buffer.read())
    if "compile" in question:
        problems = (
            [at, why] for at, pattern in enumerate(question["compile"]) if (why := _problem(pattern)) is not None
        )
        found = next(problems, [])
    else:
        found = [True] if re.search(question["pattern"], question["text"]) else []
    sys.stdout.write(json.dumps(found))


def _problem(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return None


if __name__ == "__main__":
    _main()
