"""Extracts commands and their expected output from a page, and compares the actual output.

A block ```` ```console run ```` is run by the tests. A line that starts with `$ ` is a command; the following lines, up
to the next command, are its output. A command continues over lines that end in a backslash, and to the end of a
here-document. In the output, `…` matches any characters within a line, and a line with only `…` any lines; the number
of blanks between words does not matter.

A page that continues another one names the sections whose commands must run first, in a comment:
`<!-- goes on from: ../quickstart.md#log-a-version ../quickstart.md#serve-it -->`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from docs_runner.links import target_of
from docs_runner.pages import Block, Page

PROMPT = "$ "
ANYTHING = "…"
_GOES_ON = re.compile(r"<!-- goes on from: ([^>]*?) -->")
_HERE = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")


@dataclass(frozen=True, slots=True)
class Command:
    """A command, the page and line where it is, and the lines of its expected output."""

    text: str
    page: Path
    line: int
    printed: Sequence[str]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: `{self.text.splitlines()[0]}`"


def commands(page: Page, section: str | None = None) -> list[Command]:
    """The commands to run for a page, or for one section of it, in order; first those of the sections it continues.

    Raises ValueError for a block that does not start with a command, and for a section that is missing or has none.
    """
    blocks = [block for block in page.blocks if block.info[:2] == ("console", "run")]
    if section is not None:
        blocks = [block for block in blocks if page.section(block.line) == section]
        if not blocks:
            raise ValueError(f"{page.path}: there is nothing to run in a section #{section}")
        return [command for block in blocks for command in read(page, block)]
    before = []
    for link in " ".join(_GOES_ON.findall(page.text)).split():
        before += commands(Page(target_of(page, link)), link.partition("#")[2])
    return before + [command for block in blocks for command in read(page, block)]


def read(page: Page, block: Block) -> Iterator[Command]:
    """The commands of one block. Raises ValueError when it starts with anything else."""
    lines = list(enumerate(block.text.splitlines(), block.line))
    if lines and not lines[0][1].startswith(PROMPT):
        raise ValueError(f"{page.path}:{block.line}: a block to run must start with `{PROMPT}` and a command")
    while lines:
        number, first = lines.pop(0)
        typed = [first.removeprefix(PROMPT)]
        until = None
        while lines and (until or typed[-1].endswith("\\") or _HERE.search(typed[-1])):
            if until is None and (here := _HERE.search(typed[-1])):
                until = here[2]
            _, line = lines.pop(0)
            typed.append(line)
            if line == until:
                break
        printed = []
        while lines and not lines[0][1].startswith(PROMPT):
            printed.append(lines.pop(0)[1])
        yield Command("\n".join(typed), page.path, number, tuple(printed))


def matches(expected: Sequence[str], printed: str) -> bool:
    """Whether the output matches the page."""
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == ANYTHING else f"{_pattern(line)}\n"
        for line in (_plain(line) for line in expected)
    )
    actual = "".join(f"{line}\n" for line in map(_plain, printed.splitlines()))
    return re.fullmatch(pattern, actual.strip("\n") + "\n" if actual.strip() else "") is not None


def _plain(line: str) -> str:
    return " ".join(line.split())


def _pattern(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.split(ANYTHING))
