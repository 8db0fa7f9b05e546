"""Terminal pictures for the README: what a command prints of a ModelDeployment that was recorded in a real cluster."""

import io
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from modelsync.kubectl.picture import picture
from modelsync.kubectl.view import view

RECORDED = Path(__file__).resolve().parent / "recorded" / "canary.json"
"""A ModelDeployment in mid-rollout, as the local cluster had it; only the URL of the registry is another."""

WIDTH = 104
AFTER = timedelta(minutes=2, seconds=40)
"""The picture's moment, counted from when the ModelDeployment began to wait."""


def kubectl_get() -> str:
    """`kubectl modelsync get chat` on a terminal, as SVG."""
    raw: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))
    now = datetime.fromisoformat(raw["status"]["waiting"]["since"]) + AFTER
    command = Text.assemble(("$ ", "dim"), ("kubectl modelsync get chat --watch", "bold"))
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
    )
    console.print(Group(command, picture(view(raw), now)))
    # The id would else be made of the content by a hash that need not be the same everywhere.
    return console.export_svg(title="kubectl modelsync", unique_id="kubectl-get")
