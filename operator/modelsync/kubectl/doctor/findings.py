"""What `doctor` finds: one line for each thing that was looked at, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from modelsync.commands import printable
from modelsync.kubectl.view.text import columns, styled


class Verdict(StrEnum):
    """How a check ended. UNKNOWN: the user may not look; it says nothing about the thing."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red", Verdict.UNKNOWN: "dim"}


@dataclass(frozen=True, slots=True)
class Finding:
    """`fix` is what to do; a finding that is not OK has one."""

    check: str
    verdict: Verdict
    says: str
    fix: str = ""


def ok(check: str, says: str) -> Finding:
    """All is well."""
    return Finding(check, Verdict.OK, says)


def warning(check: str, says: str, fix: str) -> Finding:
    """It works, and may not in some situation."""
    return Finding(check, Verdict.WARNING, says, fix)


def failed(check: str, says: str, fix: str) -> Finding:
    """It cannot work so."""
    return Finding(check, Verdict.FAILED, says, fix)


def unknown(check: str, says: str, fix: str) -> Finding:
    """This user cannot find out."""
    return Finding(check, Verdict.UNKNOWN, says, fix)


def told(findings: Iterable[Finding]) -> RenderableType:
    """A line for each, and below them what to do."""
    found = list(findings)
    rows: list[list[Text | str]] = [
        [styled(each.verdict, _STYLES[each.verdict]), styled(each.check, "bold"), each.says] for each in found
    ]
    parts: list[RenderableType] = [columns(("", "CHECK", "SAYS"), rows)]
    to_do = [each for each in found if each.fix]
    if to_do:
        parts += [Text(), Text("What to do", style="bold")]
        parts += [
            Text.assemble("  ", (f"{each.check}: ", _STYLES[each.verdict]), printable(each.fix), overflow="fold")
            for each in to_do
        ]
    return Group(*parts)


def wire(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """For a program."""
    return [
        {
            "check": each.check,
            "verdict": each.verdict.value,
            "says": each.says,
            **({"fix": each.fix} if each.fix else {}),
        }
        for each in findings
    ]
