"""Renders the chart with the real Helm (`make test-chart` builds it once); no cluster is needed."""

import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.tools import program

CHART = Path(__file__).resolve().parents[2] / "helm" / "modelsync"

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The definition is long, and libyaml parses it ten times as fast."""

Objects = list[dict[str, Any]]
Render = Callable[..., Objects]


class RefusedError(Exception):
    """Helm's message."""


def helm(*arguments: str | Path, values: Mapping[str, Any] | None = None) -> str:
    """Run helm with the given values; raises RefusedError with its error."""
    command = [program("helm"), *arguments]
    if values is not None:
        command += ["--values", "-"]
    answer = subprocess.run(command, input=yaml.safe_dump(values or {}), capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RefusedError(answer.stdout + answer.stderr)
    return answer.stdout


def promtool(*arguments: str | Path, given: str = "") -> str:
    """Run promtool on files, or on the text `given`; fails if it finds a problem."""
    command = [program("promtool"), *arguments]
    answer = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@cache
def _rendered(text: str) -> str:
    return helm("template", "modelsync", CHART, "--namespace", "modelsync-system", values=yaml.safe_load(text))


@pytest.fixture(scope="session")
def render() -> Render:
    """The chart's objects for some values; cached by values."""

    def objects(**values: Any) -> Objects:
        return [part for part in yaml.load_all(_rendered(yaml.safe_dump(values)), LOADER) if part]

    return objects


def one(objects: Objects, kind: str, name: str = "modelsync") -> dict[str, Any]:
    """The object of that kind and name; there must be exactly one."""
    (found,) = [each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def kinds(objects: Objects) -> set[str]:
    return {each["kind"] for each in objects}


def container(objects: Objects) -> dict[str, Any]:
    """The operator's container."""
    (found,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)
