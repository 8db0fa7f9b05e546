"""The findings of `doctor`: one line per check, and how to fix what failed."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from modelsync.commands import printable
from modelsync.kubectl.view.text import columns, styled


class Verdict(StrEnum):
    """The result of a check. UNKNOWN: it could not be carried out, often for lack of permission; not a failure."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red", Verdict.UNKNOWN: "dim"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `fix` is what to do; every finding that is not OK has one."""

    check: str
    verdict: Verdict
    message: str
    fix: str = ""


def ok(check: str, message: str) -> Finding:
    """The check passed."""
    return Finding(check, Verdict.OK, message)


def warning(check: str, message: str, fix: str) -> Finding:
    """It works, but may fail in some situations."""
    return Finding(check, Verdict.WARNING, message, fix)


def failed(check: str, message: str, fix: str) -> Finding:
    """The check failed."""
    return Finding(check, Verdict.FAILED, message, fix)


def unknown(check: str, message: str, fix: str) -> Finding:
    """The check could not be carried out."""
    return Finding(check, Verdict.UNKNOWN, message, fix)


def table(findings: Iterable[Finding]) -> RenderableType:
    """One line per finding, and below them what to do."""
    found = list(findings)
    rows: list[list[Text | str]] = [
        [styled(each.verdict, _STYLES[each.verdict]), styled(each.check, "bold"), each.message] for each in found
    ]
    parts: list[RenderableType] = [columns(("", "CHECK", "RESULT"), rows)]
    to_do = [each for each in found if each.fix]
    if to_do:
        parts += [Text(), Text("What to do", style="bold")]
        parts += [
            Text.assemble("  ", (f"{each.check}: ", _STYLES[each.verdict]), printable(each.fix), overflow="fold")
            for each in to_do
        ]
    return Group(*parts)


def wire(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """The findings as data for JSON or YAML."""
    return [
        {
            "check": each.check,
            "verdict": each.verdict.value,
            "says": each.message,
            **({"fix": each.fix} if each.fix else {}),
        }
        for each in findings
    ]
