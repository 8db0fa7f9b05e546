"""What GitHub reads parses, and calls nothing that the Makefile does not have."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = [path for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]
TARGETS = {
    target
    for line in (ROOT / "Makefile").read_text().splitlines()
    if (rule := re.match(r"([a-z0-9-]+(?: [a-z0-9-]+)*):(?!=)", line))
    for target in rule[1].split()
}
_MAKE = re.compile(r"\bmake((?: (?:[a-z0-9-]+|\$\{\{ matrix\.target \}\}))+)")


def jobs(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())["jobs"]
    return found


def targets_of(path: Path) -> Iterator[str]:
    """The targets that a workflow makes, those of its matrix included."""
    for job in jobs(path).values():
        for step in job["steps"]:
            for call in _MAKE.findall(step.get("run", "")):
                for word in call.replace("${{ matrix.target }}", "MATRIX").split():
                    yield from job["strategy"]["matrix"]["target"] if word == "MATRIX" else [word]


def called_by_hooks() -> Iterator[str]:
    """The commands of the pre-commit hooks."""
    for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]:
        yield from (hook["entry"] for hook in repo["hooks"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_target_that_a_workflow_makes_is_in_the_makefile(path: Path) -> None:
    made = set(targets_of(path))
    assert made
    assert made <= TARGETS


def test_the_workflows_make_all_that_make_test_does() -> None:
    made = {target for path in WORKFLOWS for target in targets_of(path)}
    # `test-pure` is only a part of `test`, so that two targets can run in a row beside another one.
    recipes = re.findall(r"^(?:test: verify|test-pure:).*?(?=^\n)", (ROOT / "Makefile").read_text(), re.M | re.DOTALL)
    assert len(recipes) == 2
    wanted = {"verify", *re.findall(r"\b(test-[a-z]+|e2e)\b", "".join(recipes))} - {"test-pure"}
    assert {"test-unit", "test-model", "test-integration", "e2e"} <= wanted
    assert wanted <= made


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_job_has_a_time_limit_and_every_action_a_version(path: Path) -> None:
    for job in jobs(path).values():
        assert job["timeout-minutes"]
        assert all(
            re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})", step["uses"]) for step in job["steps"] if "uses" in step
        )


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_every_issue_form_has_what_github_requires(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= set(form)
    asked = [element for element in form["body"] if element["type"] != "markdown"]
    assert all(element["attributes"]["label"] for element in asked)
    assert len({element["id"] for element in asked}) == len(asked)


def test_every_hook_calls_a_target_or_a_tool_of_the_project() -> None:
    for entry in called_by_hooks():
        program, *arguments = entry.split()
        assert arguments[0] in TARGETS if program == "make" else program.startswith(".venv/bin/")
