"""The log stays readable and harmless, and its reference page has every line."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from modelsync.controller.log_filters import QUIET, REDACTED, Quieter, without_secrets

ROOT = Path(__file__).parents[3]
KEY = "0123456789abcdef0123456789abcdef01234567"


class Log:
    def __init__(self) -> None:
        self.now = 0.0
        self._quieter = Quieter(clock=lambda: self.now)

    def says(self, level: str = "warning", after: float = 0.0, **event: Any) -> dict[str, Any] | None:
        self.now += after
        try:
            return dict(self._quieter(None, level, {"event": "reconcile.refused", "name": "chat", **event}))
        except structlog.DropEvent:
            return None


def test_the_same_trouble_is_told_once_a_minute_with_how_often_it_came() -> None:
    log = Log()
    assert log.says(problem="quota", retry_seconds=1) is not None
    assert log.says(problem="quota", retry_seconds=2, after=1) is None
    assert log.says(problem="quota", retry_seconds=4, after=2) is None
    again = log.says(problem="quota", after=QUIET.total_seconds())
    assert again is not None
    assert again["repeated"] == 2


def test_other_trouble_and_other_objects_are_told_at_once() -> None:
    log = Log()
    assert log.says(problem="quota")
    assert log.says(problem="no rights")
    assert log.says(problem="quota", name="other")
    assert log.says(level="error", problem="another level, another line")


def test_what_went_well_is_always_told() -> None:
    log = Log()
    assert all(log.says(level="info", phase="Canary") for _ in range(3))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"the server said: key {KEY} is unknown", f"the server said: key {REDACTED} is unknown"),
        (f"local-{KEY}", REDACTED),
        ("Authorization: Basic YXBpOnNlY3JldA==", f"Authorization: Basic {REDACTED}"),
        ("Bearer abcdefgh.ijklmnop", f"Bearer {REDACTED}"),
        ("GET https://s3/x?X-Amz-Signature=abc&b=1 failed", f"GET https://s3/x?X-Amz-Signature={REDACTED}&b=1 failed"),
        ("proxy http://user:word@proxy:3128 refused", f"proxy http://{REDACTED}@proxy:3128 refused"),
        (f"image sha256:{KEY}{'0' * 24} is gone", f"image sha256:{KEY}{'0' * 24} is gone"),
        ("prod/chat: v7-3fa9c1d2 is the stable", "prod/chat: v7-3fa9c1d2 is the stable"),
    ],
)
def test_what_looks_like_a_credential_is_blanked_and_nothing_else(text: str, left: str) -> None:
    assert without_secrets(None, "warning", {"event": "x", "problem": text})["problem"] == left


def lines() -> Iterator[tuple[str, str]]:
    """Level and name of every line that the operator can write."""
    for path in (ROOT / "operator" / "modelsync").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            first = node.args[0]
            if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "log":
                yield {"exception": "error"}.get(node.func.attr, node.func.attr), first.value


def test_the_reference_page_has_every_line_with_its_level_and_no_other() -> None:
    page = (ROOT / "docs" / "reference" / "logs.md").read_text()
    written = {(level, name) for name, level in re.findall(r"^\| `([\w.]+)` \| (\w+) \|", page, re.MULTILINE)}
    there = set(lines())
    assert len(there) > 30
    assert written == there
