"""Checks the commands in the documentation without running them.

Blocks that no test runs get outdated unnoticed, so each of their commands is checked against the program itself (our
command lines, the Makefile, the chart's values). It parses the shell syntax that the pages use: pipes, lists,
substitutions, redirections.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from docs_runner.console import PROMPT, read
from docs_runner.pages import Block, Page

READERS = ("quickstart", "how-to/roll-back", "how-to/hold", "reference/exam")
"""The pages whose commands run from beginning to end, with the pages that they continue."""
_SHELL_WORDS = frozenset({"if", "then", "else", "elif", "while", "do", "!", "time", "sudo", "exec"})
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_OURS = ("helm/", "deploy/", "gitops/", "samples/", "docs/", "crds/")
_SHELLS = ("", "sh", "bash", "console")


@dataclass(frozen=True, slots=True)
class Line:
    """A simple command with its words unquoted, and its line in the page."""

    words: tuple[str, ...]
    line: int

    def __str__(self) -> str:
        return shlex.join(self.words)


def lines(page: Page) -> Iterator[Line]:
    """Every simple command in the shell blocks of a page, without the output of consoles."""
    for block in page.blocks:
        if block.language in _SHELLS:
            for number, text in _typed(page, block):
                yield from (Line(words, number) for words in simple_commands(text))


def simple_commands(text: str) -> Iterator[tuple[str, ...]]:
    """The simple commands of one line of shell, including those in `$(…)`, without leading assignments."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    redirected = False
    for word in [*lexer, ";"]:
        if word.startswith("#"):
            break
        if set(word) <= set("<>&") and word != "&&":
            redirected = True
        elif set(word) <= set("();|&"):
            if found := _without_shell(words):
                yield found
            words = []
        elif redirected:
            redirected = False
        else:
            words.append(word)
    if found := _without_shell(words):
        yield found


def _without_shell(words: Sequence[str]) -> tuple[str, ...]:
    rest = list(words)
    while rest and (rest[0] in _SHELL_WORDS or _ASSIGNMENT.match(rest[0])):
        rest.pop(0)
    return tuple(rest)


def _typed(page: Page, block: Block) -> Iterator[tuple[int, str]]:
    """Number and text of each command line, with continued lines joined; only the first line of a here-document."""
    if block.text.startswith(PROMPT):
        for command in read(page, block):
            yield command.line, _joined(command.text)
        return
    if block.language == "console":
        raise ValueError(f"{page.path}:{block.line}: a console block must start with a command after `{PROMPT}`")
    text, start = "", block.line
    for number, line in enumerate(block.text.splitlines(), block.line):
        start = start if text else number
        text += line
        if text.endswith("\\"):
            text = text[:-1] + " "
            continue
        yield start, text
        text = ""


def _joined(command: str) -> str:
    text = command.replace("\\\n", " ")
    return text.partition("\n")[0] if "<<" in text else text


def problem_of_ours(words: Sequence[str], programs: Mapping[str, click.Command]) -> str | None:
    """The parser's error for a command line of ours; None if it is valid, or for other programs.

    Missing files are not a problem: the reader has them.
    """
    name = next(
        (n for n in sorted(programs, key=len, reverse=True) if list(words[: n.count(" ") + 1]) == n.split()), ""
    )
    if not name:
        return None
    command, rest = programs[name], list(words[name.count(" ") + 1 :])
    context = click.Context(command, info_name=name)
    try:
        while isinstance(command, click.Group):
            given, rest, _ = command.make_parser(context).parse_args(rest)
            if not rest:
                return None if given else f"{name} needs a command"
            inner = command.get_command(context, rest[0])
            if inner is None:
                return f"{name} has no command {rest[0]}"
            name, command = f"{name} {rest.pop(0)}", inner
            context = click.Context(command, info_name=name, parent=context)
        command.make_context(name, rest, parent=context.parent)
    except click.exceptions.Exit:
        return None
    except click.BadParameter as error:
        if isinstance(error.param and error.param.type, click.File | click.Path):
            return None
        return error.format_message()
    except click.UsageError as error:
        return error.format_message()
    return None


def problem_of_make(words: Sequence[str], makefile: str, targets: set[str]) -> str | None:
    """The error for a target or variable that the Makefile does not have."""
    if words[0] != "make":
        return None
    for word in words[1:]:
        name, given, _ = word.partition("=")
        if given and not re.search(rf"\$\(\s*(?:if \$\()?{name}\)|\b{name}\s*[:?]?=", makefile):
            return f"the Makefile has no variable {name}"
        if not given and not word.startswith("-") and word not in targets:
            return f"the Makefile has no target {word}"
    return None


def problem_of_helm(words: Sequence[str], values: Mapping[str, Any]) -> str | None:
    """The error for a `--set` of a value that the chart does not have."""
    if words[0] != "helm":
        return None
    for before, word in zip(words, [*words[1:], ""], strict=True):
        option, given, setting = before.partition("=")
        if option not in ("--set", "--set-string", "--set-json", "--set-file"):
            continue
        at: Any = values
        path = (setting if given else word).partition("=")[0]
        for part in path.split("."):
            name = part.partition("[")[0]
            if not isinstance(at, dict) or (at and name not in at):
                return f"{path} is not a value of the chart"
            at = at.get(name, {})
    return None


def missing_file(words: Sequence[str], root: Path) -> str | None:
    """The error for a file or folder of the project that does not exist."""
    for word in words[1:]:
        path = word.rpartition("=")[2] if word.startswith("-") else word
        if path.startswith(_OURS) and re.fullmatch(r"[\w./-]+", path) and not (root / path).exists():
            return f"there is no {path}"
    return None
