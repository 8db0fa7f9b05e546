"""A kubectl that gives scripted answers, and the objects that API servers send."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelsync.api import names

PROGRAM = """#!{python}
import json, os, pathlib, sys, time
folder = pathlib.Path({folder!r})
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
answers = json.loads((folder / "answers.json").read_text())
wanted = " ".join(sys.argv[1:])
for number, (part, out, err, code) in enumerate(answers):
    if part in wanted:
        del answers[number]
        (folder / "answers.json").write_text(json.dumps(answers))
        sys.stdout.write(out)
        sys.stdout.flush()
        sys.stderr.write(err)
        if code == {open}:
            time.sleep(60)
        sys.exit(code)
sys.stderr.write("error: no scripted answer left for " + wanted)
sys.exit(1)
"""

OPEN = -1
"""The exit code of an answer that stays open until it is killed, like a watch."""

MADE = "2026-01-01T00:00:00Z"

Answer = tuple[str, str, str, int]
Script = Callable[..., Path]


def calls(folder: Path) -> list[str]:
    return [" ".join(json.loads(line)) for line in (folder / "calls").read_text().splitlines()]


def chat(version: int, **status: Any) -> dict[str, Any]:
    metadata = {"name": "chat", "namespace": "prod", "resourceVersion": str(version), "creationTimestamp": MADE}
    return {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "status": status}


def listed(*items: dict[str, Any], version: int = 1) -> str:
    return json.dumps({"kind": "ModelDeploymentList", "metadata": {"resourceVersion": str(version)}, "items": items})


def event(kind: str, item: dict[str, Any]) -> str:
    return json.dumps({"type": kind, "object": item}) + "\n"
