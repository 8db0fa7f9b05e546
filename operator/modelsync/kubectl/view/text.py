"""Formats values as kubectl does, and prints for a terminal or a pipe.

Text from a registry or a cluster must never reach the terminal as control characters.
"""

import io
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from modelsync.commands import printable

PLAIN_WIDTH = 1000
"""Width of output to a pipe, where nothing may be cut or wrapped, so that scripts can split fields and grep."""

_ASCII = str.maketrans("●○▸├└─│✓✗→…–±·", "*o>|`-|+x>.-~.")


def now() -> datetime:
    """The current time on the user's machine."""
    return datetime.now(UTC)


def age(span: timedelta) -> str:
    """An age in kubectl's form (apimachinery's HumanDuration): `42s`, `3m10s`, `25m`, `2h5m`, `3d4h`, `40d`."""
    seconds = int(span.total_seconds())
    if seconds < 0:
        return "0s"
    if seconds < 120:
        return f"{seconds}s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 10:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours, rest = divmod(minutes, 60)
    if hours < 8:
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days, rest = divmod(hours, 24)
    if days < 8:
        return f"{days}d{rest}h" if rest else f"{days}d"
    return f"{days}d" if days < 730 else f"{days // 365}y"


def left(until: datetime, now_: datetime) -> str:
    """`4m12s left`, or `due`."""
    return f"{age(until - now_)} left" if until > now_ else "due"


def styled(text: str, style: str = "") -> Text:
    """`text` for a cell, without control characters."""
    return Text(printable(text), style=style)


def columns(
    headers: Sequence[str],
    rows: Sequence[Sequence[Text | str]],
    *,
    show: bool = True,
    widths: list[int] | None = None,
) -> Table:
    """A table in kubectl's style: no borders, three spaces between columns, headers in capitals.

    `widths` are the minimum column widths, and are updated to the actual ones.
    """
    cells = [[cell if isinstance(cell, Text) else styled(cell) for cell in row] for row in rows]
    if widths is not None:
        needed = [max([cell_len(head), *(line[at].cell_len for line in cells)]) for at, head in enumerate(headers)]
        widths[:] = [max(pair) for pair in zip(needed, widths or needed, strict=True)]
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold", show_header=show)
    for number, header in enumerate(headers):
        last = number == len(headers) - 1
        least = widths[number] if widths and not last else None
        table.add_column(header, no_wrap=not last, overflow="fold", min_width=least)
    for line in cells:
        table.add_row(*line)
    return table


def facts(rows: Sequence[tuple[str, Text | str]]) -> Table:
    """Names and values, one pair per line."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value if isinstance(value, Text) else styled(value))
    return table


def plain(content: RenderableType, *, width: int = PLAIN_WIDTH) -> str:
    """Rendered without colours, truncation or trailing spaces."""
    out = io.StringIO()
    Console(file=out, width=width, no_color=True, force_terminal=False, highlight=False).print(content)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n")) + "\n"


def terminal() -> Console | None:
    """The user's terminal; None when standard output is a file or a pipe."""
    return Console(highlight=False) if sys.stdout.isatty() else None


def show(content: RenderableType) -> None:
    """Print with colours on a terminal, and plainly otherwise."""
    console = terminal()
    if console is not None:
        console.print(content)
    else:
        _write(plain(content))


def print_line(line: str) -> None:
    """Print a line."""
    _write(f"{printable(line)}\n")


def _write(text: str) -> None:
    """Replace characters that the encoding of standard output lacks."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    click.echo(text, nl=False)


def document(content: Any, form: str) -> None:
    """Print machine-readable output; `form` is json or yaml."""
    if form == "json":
        click.echo(json.dumps(content, indent=4, ensure_ascii=False))
    else:
        import yaml  # not at the top: no other output needs it

        click.echo(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=PLAIN_WIDTH), nl=False)
