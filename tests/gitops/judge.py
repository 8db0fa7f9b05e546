"""Evaluates objects with the code of GitOps tools: the program in hack/tools/gitops, one process for many questions."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster.tools import program

CUSTOMIZATIONS = Path(__file__).resolve().parents[2] / "gitops" / "argocd" / "resource_customizations"
SCRIPTS = CUSTOMIZATIONS / "modelsync.dev" / "ModelDeployment"

Object = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """`ask` is kstatus, health, discovery or action; the last three need a script."""

    ask: str
    object: Object
    script: str = ""


class JudgeError(Exception):
    """The tool's error."""


def answers(questions: Sequence[Question]) -> list[Any]:
    """The answer to each question; raises JudgeError for the first that has none."""
    asked = json.dumps([{"ask": each.ask, "script": each.script, "object": each.object} for each in questions])
    output = subprocess.run([program("gitops-judge")], input=asked, capture_output=True, text=True, check=True).stdout
    found = json.loads(output)
    for answer in found:
        if "error" in answer:
            raise JudgeError(answer["error"])
    return [answer["value"] for answer in found]


def health(objects: Sequence[Object]) -> list[dict[str, str]]:
    """Argo CD's health of each object."""
    script = (SCRIPTS / "health.lua").read_text()
    return answers([Question("health", each, script) for each in objects])


def enabled(objects: Sequence[Object]) -> list[set[str]]:
    """The actions that Argo CD offers for each object."""
    script = (SCRIPTS / "actions" / "discovery.lua").read_text()
    found = answers([Question("discovery", each, script) for each in objects])
    return [{name for name, action in actions.items() if not action["disabled"]} for actions in found]


def patch(action: str, obj: Object) -> dict[str, Any]:
    """The merge patch that Argo CD sends when a user runs an action."""
    script = (SCRIPTS / "actions" / action / "action.lua").read_text()
    (found,) = answers([Question("action", obj, script)])
    return dict(found)
