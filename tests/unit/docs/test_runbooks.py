"""Runbooks have the same form, agree with their alert's rule, and search for log lines that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs_runner import words
from docs_runner.pages import Page

ROOT = Path(__file__).resolve().parents[3]
RUNBOOKS = ROOT / "docs" / "runbooks"
PAGES = [Page(path) for path in sorted(RUNBOOKS.glob("*.md")) if path.stem != "README"]
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((ROOT / "helm" / "modelsync" / "rules" / "modelsync.yaml").read_text())["groups"]
    for rule in group["rules"]
}
FORM = ["Meaning", "Impact", "Diagnosis", "Mitigation", "How it ends", "If it does not"]

each = pytest.mark.parametrize("page", PAGES, ids=[page.path.stem for page in PAGES])


@each
def test_a_runbook_has_the_form_of_all(page: Page) -> None:
    assert re.findall(r"^#+ (.+)$", page.text, re.MULTILINE) == [page.path.stem, *FORM]


@each
def test_a_runbook_starts_with_the_severity_of_its_alert(page: Page) -> None:
    severity = RULES[page.path.stem]["labels"]["severity"]
    assert page.text.split("\n\n")[1].startswith(f"Severity {severity}. It fires when ")


@each
def test_a_runbook_starts_with_three_commands(page: Page) -> None:
    first = next(block for block in page.blocks if page.section(block.line) == "diagnosis")
    commands = first.text.splitlines()
    assert len(commands) == 3, commands
    assert all(command.startswith("kubectl ") for command in commands), commands


def test_every_runbook_is_in_the_table_of_them() -> None:
    named = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \|", (RUNBOOKS / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == [page.path.stem for page in PAGES] == sorted(RULES)


def test_every_log_line_that_is_looked_for_is_in_the_list_of_them(user_pages: list[Page]) -> None:
    there = words.log_lines(ROOT)
    assert "apply.failed" in there
    found = [
        f"{page.path.relative_to(ROOT)}: {wanted}"
        for page in user_pages
        for wanted in words.looked_for_in_the_log(page)
        if not any(line.startswith(wanted) for line in there)
    ]
    assert not found, "\n".join(found)


def test_a_log_line_that_is_never_written_is_found(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# P\n\n```sh\nkubectl logs POD | grep -e apply.failed -e aply.failed\nps | grep x\n```\n")
    assert list(words.looked_for_in_the_log(Page(path))) == ["apply.failed", "aply.failed"]
