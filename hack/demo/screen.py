"""The demo's output: a line for each change, and below the lines a live table of versions, weights and answers.

Without a terminal, the table is printed once, at the end.
"""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from modelsync.api import names
from modelsync.cluster.errors import ClusterError
from stage import Deployment
from stage.stage import condition
from traffic import Outcome, Traffic

RECENT_SECONDS = 3.0
POLL_SECONDS = 0.2
COLOURS = ("cyan", "magenta", "yellow", "green", "blue")


class Screen:
    """Shows the ModelDeployment and the traffic. `async with Screen(…)` starts and stops it."""

    def __init__(self, console: Console, deployment: Deployment) -> None:
        self.traffic: Traffic = deployment.traffic(rate=20.0)
        self._console = console
        self._deployment = deployment
        self._status: dict[str, Any] = {}
        self._printed: dict[str, str] = {}
        self._colours: dict[str, str] = {}
        self._act = 0
        self._started = time.monotonic()
        self._sending = False
        self._watcher: asyncio.Task[None] | None = None
        self._live = Live(console=console, refresh_per_second=5, transient=True)

    async def __aenter__(self) -> Self:
        """Start to watch."""
        if self._console.is_terminal:
            self._live.start()
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the traffic, wait for the last answers, and leave the last table on the screen."""
        if self._sending:
            await self.traffic.stop()
        if self._watcher:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher
        if self._console.is_terminal:
            self._live.stop()
        self._console.print(self._picture())

    def act(self, title: str, text: str) -> None:
        """Print the heading of a new act."""
        self._act += 1
        self._console.print(f"\n[bold]{self._act}. {title}.[/] {text}", highlight=False)

    def note(self, text: str) -> None:
        """Print a remark."""
        self._console.print(f"   {text}", highlight=False)

    def clear_recording(self) -> None:
        """Start a new picture, if pictures are recorded."""
        if self._console.record:
            self._console.export_text(clear=True)

    def save(self, path: Path, title: str) -> None:
        """Write the output since `clear_recording`, and the current table, as an SVG."""
        self._console.print(self._picture())
        self._console.save_svg(str(path), title=title)

    async def start_traffic(self) -> None:
        """Start to send requests."""
        await self.traffic.__aenter__()
        self._sending = True
        self.note("From now on a client sends 20 requests per second, a fifth of them streaming.")

    async def watch(self, *, answers: int) -> None:
        """Wait for this many more answers."""
        sent = len(self.traffic.answers)
        await self.traffic.until(lambda traffic: len(traffic.answers) >= sent + answers)

    async def _watch(self) -> None:
        while True:
            with suppress(ClusterError):
                self._status = await self._deployment.status()
                self._print_changes()
            if self._console.is_terminal:
                self._live.update(self._picture())
            await asyncio.sleep(POLL_SECONDS)

    def _print_changes(self) -> None:
        """Print a line for each change of the weights, the phase or a condition."""
        status = self._status
        weights = ", ".join(map(_weight, status.get("traffic") or ()))
        self._changed("weights", weights, f"[bold]weights:[/] {weights}")
        ready = condition(status, "Ready")
        self._changed("phase", status.get("phase", ""), f"{status.get('phase')}: {ready.get('message', '')}")
        for kind in ("OnHold", "RolledBack", "ModelVerified"):
            found = condition(status, kind)
            if found.get("status") == "True":
                if found.get("message") == ready.get("message"):
                    continue  # already printed with the phase
                self._changed(kind, found.get("message", ""), f"{kind}: {found.get('message', '')}")
            else:
                self._printed.pop(kind, None)

    def _changed(self, kind: str, value: str, line: str) -> None:
        if value and self._printed.get(kind) != value:
            self._printed[kind] = value
            self._console.print(f"   [dim]{time.monotonic() - self._started:6.1f} s[/]  {line}", highlight=False)

    def _picture(self) -> Panel:
        status = self._status
        weights = {part["revision"]: part["weight"] for part in status.get("traffic") or ()}
        now = time.monotonic()
        recent = self.traffic.by_revision([a for a in self.traffic.answers[-400:] if now - a.sent < RECENT_SECONDS])
        total = self.traffic.by_revision()
        table = Table(box=None, expand=True, padding=(0, 1))
        table.add_column("revision", no_wrap=True, min_width=11)
        table.add_column("", no_wrap=True, min_width=8)
        table.add_column("pods", no_wrap=True, min_width=4)
        table.add_column("weight", no_wrap=True, min_width=6, justify="right")
        table.add_column("", ratio=1)
        table.add_column("now", no_wrap=True, min_width=4, justify="right")
        table.add_column("answers", no_wrap=True, min_width=7, justify="right")
        for revision in self._revisions(weights, total):
            colour = self._colours.setdefault(revision, COLOURS[len(self._colours) % len(COLOURS)])
            share = weights.get(revision, 0)
            percent = "–" if revision == "blocked" else f"{share} %"
            rate = f"{recent[revision] / RECENT_SECONDS:.0f}/s" if recent[revision] else ""
            bar = ProgressBar(total=100, completed=share, complete_style=colour, finished_style=colour)
            table.add_row(
                Text(revision, colour),
                self._role(revision),
                self._pods(revision),
                percent,
                bar,
                rate,
                str(total[revision] or ""),
            )
        waiting = status.get("waiting") or {}
        ready = condition(status, "Ready")
        counts = {outcome: sum(a.outcome is outcome for a in self.traffic.answers) for outcome in Outcome}
        lost, refused = counts[Outcome.LOST], counts[Outcome.BLOCKED] + counts[Outcome.REFUSED]
        footer = Text.assemble(
            (f"{len(self.traffic.answers)} requests  ", ""),
            (f"{lost} lost", "bold red" if lost else "bold green"),
            (f"  {refused} refused because of the hold" if refused else "", "yellow"),
            (f"\nwaiting for {waiting.get('message')}" if waiting else "", "dim"),
        )
        title = f"chat  {status.get('phase', '')}  Ready={ready.get('status', '')} ({ready.get('reason', '')})"
        return Panel(
            Group(table, footer),
            title=title,
            title_align="left",
            border_style="red" if condition(status, "OnHold") else "blue",
        )

    def _revisions(self, weights: dict[str, int], total: Any) -> list[str]:
        canary = (self._status.get("canary") or {}).get("revision")
        known = [*(self._status.get("promoted") or ()), *([canary] if canary else ()), *weights, *total]
        return list(dict.fromkeys(revision for revision in known if revision))

    def _role(self, revision: str) -> str:
        status = self._status
        promoted = status.get("promoted") or [""]
        if any(hold["version"] == revision.partition("-")[0] for hold in status.get("holds") or ()):
            return "on hold"
        if revision == promoted[-1]:
            return "stable"
        if revision == (status.get("canary") or {}).get("revision"):
            return "canary"
        if any(failure["revision"] == revision for failure in status.get("failed") or ()):
            return "failed"
        return "previous" if revision == (status.get("previous") or {}).get("revision") else ""

    def _pods(self, revision: str) -> str:
        pods = [pod for pod in self._status.get("pods") or () if pod["revision"] == revision]
        return f"{sum(pod['state'] == 'Ready' for pod in pods)}/{len(pods)}" if pods else ""


def _weight(part: dict[str, Any]) -> str:
    """One backend of the route and its share."""
    if part["revision"] == names.BLOCKED:
        return "nothing serves, clients get 503"
    return f"{part['revision']} {part['weight']} %"
