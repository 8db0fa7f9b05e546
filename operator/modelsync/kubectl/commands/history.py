"""`kubectl modelsync history`: past rollouts, with their outcome, duration, reason and changes."""

from typing import Any

import click

from modelsync.api.status import HistoryEntry
from modelsync.kubectl.options import cluster, connection_options, name_argument
from modelsync.kubectl.view import text
from modelsync.kubectl.view.deployment import View, read
from modelsync.kubectl.view.text import age, columns, document, styled

_STYLES = {"Promoted": "green", "Failed": "bold red", "Held": "bold red"}


@click.command("history")
@name_argument
@click.option("-o", "--output", type=click.Choice(["wide", "json", "yaml"]), help="wide: also digests and times.")
@connection_options
def command(name: str, output: str | None) -> None:
    """List the rollouts of NAME, newest first: promoted revisions, and those that were not promoted.

    The status keeps the last twenty. For a revision marked *, moving the alias back to its version rolls back without
    steps.
    """
    each = read(cluster(), name)
    entries = list(reversed(each.status.history))
    if output in {"json", "yaml"}:
        document([_wire(entry) for entry in entries], output)
    elif not entries:
        click.echo(f"No history of {name} yet.", err=True)
    else:
        text.show(columns(_headers(output == "wide"), [_row(each, entry, output == "wide") for entry in entries]))


def _headers(wide: bool) -> list[str]:
    return [
        "REVISION",
        "OUTCOME",
        "REASON",
        "TRIGGER",
        "STARTED",
        "FOR",
        *(["FROM", "DIGEST"] if wide else []),
        "CHANGED",
    ]


def _row(each: View, entry: HistoryEntry, wide: bool) -> list[Any]:
    now = text.now()
    back = entry.outcome == "Promoted" and entry.revision in each.status.promoted[:-1]
    return [
        f"{entry.revision}{'*' if back else ''}",
        styled(entry.outcome, _STYLES.get(entry.outcome, "")),
        entry.reason,
        entry.trigger,
        f"{age(now - entry.from_)} ago",
        age((entry.to or now) - entry.from_),
        *([entry.from_.isoformat(timespec="seconds").replace("+00:00", "Z"), entry.digest or "–"] if wide else []),
        entry.changed or "–",
    ]


def _wire(entry: HistoryEntry) -> dict[str, Any]:
    found: dict[str, Any] = entry.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found
