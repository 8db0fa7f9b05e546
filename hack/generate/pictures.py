"""Terminal pictures for the documentation: what commands print of ModelDeployments recorded in a real cluster.

Recorded is the object as the local cluster had it; only the URL of the registry is another.
"""

import io
import json
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from modelsync.kubectl.commands.hold import explained
from modelsync.kubectl.view.deployment import View, view
from modelsync.kubectl.view.tree import picture

RECORDED = Path(__file__).resolve().parent / "recorded"

WIDTH = 104
CANARY_AFTER = timedelta(minutes=2, seconds=40)
"""The moment of the canary's picture, counted from when the ModelDeployment began to wait."""
HOLD_AFTER = timedelta(seconds=42)
"""The moment of the hold's picture, counted from when the hold was seen."""


def kubectl_get() -> str:
    """`kubectl modelsync get chat` of a canary, as SVG."""
    canary = _recorded("canary")
    now = datetime.fromisoformat(canary.raw["status"]["waiting"]["since"]) + CANARY_AFTER
    return _picture("kubectl-get", ("kubectl modelsync get chat --watch", picture(canary, now)))


def kubectl_hold() -> str:
    """`kubectl modelsync get chat` and `hold chat` of a version on hold, as SVG."""
    held = _recorded("hold")
    now = held.status.holds[0].since + HOLD_AFTER
    return _picture(
        "kubectl-hold",
        ("kubectl modelsync get chat", picture(held, now)),
        ("kubectl modelsync hold chat", explained(held, now)),
    )


def _recorded(name: str) -> View:
    return view(json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8")))


def _picture(name: str, *shown: tuple[str, RenderableType]) -> str:
    """Commands with what they print."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
    )
    for number, (command, printed) in enumerate(shown):
        prompt = Text.assemble("\n" if number else "", ("$ ", "dim"), (command, "bold"))
        console.print(Group(prompt, printed))
    # The id would else be made of the content by a hash that need not be the same everywhere.
    return console.export_svg(title="kubectl modelsync", unique_id=name)
