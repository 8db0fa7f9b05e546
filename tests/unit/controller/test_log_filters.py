"""Repeated warnings are dropped, credentials are redacted, and the reference page lists every event."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from modelsync.controller.log_filters import QUIET, REDACTED, RepeatFilter, without_secrets

ROOT = Path(__file__).parents[3]
KEY = "0123456789abcdef0123456789abcdef01234567"


class Log:
    def __init__(self) -> None:
        self.now = 0.0
        self._filter = RepeatFilter(clock=lambda: self.now)

    def write(self, level: str = "warning", after: float = 0.0, **event: Any) -> dict[str, Any] | None:
        self.now += after
        try:
            return dict(self._filter(None, level, {"event": "reconcile.refused", "name": "chat", **event}))
        except structlog.DropEvent:
            return None


def test_the_same_warning_is_logged_once_a_minute_with_the_number_of_repetitions() -> None:
    log = Log()
    assert log.write(problem="quota", retry_seconds=1) is not None
    assert log.write(problem="quota", retry_seconds=2, after=1) is None
    assert log.write(problem="quota", retry_seconds=4, after=2) is None
    again = log.write(problem="quota", after=QUIET.total_seconds())
    assert again is not None
    assert again["repeated"] == 2


def test_other_warnings_and_other_objects_are_logged_at_once() -> None:
    log = Log()
    assert log.write(problem="quota")
    assert log.write(problem="no rights")
    assert log.write(problem="quota", name="other")
    assert log.write(level="error", problem="another level, another line")


def test_info_lines_are_never_dropped() -> None:
    log = Log()
    assert all(log.write(level="info", phase="Canary") for _ in range(3))


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
def test_only_what_looks_like_a_credential_is_redacted(text: str, left: str) -> None:
    assert without_secrets(None, "warning", {"event": "x", "problem": text})["problem"] == left


def lines() -> Iterator[tuple[str, str]]:
    """Yield level and event name of every line that the operator can log."""
    for path in (ROOT / "operator" / "modelsync").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            first = node.args[0]
            if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "log":
                yield {"exception": "error"}.get(node.func.attr, node.func.attr), first.value


def test_the_reference_page_lists_exactly_these_events_with_their_levels() -> None:
    page = (ROOT / "docs" / "reference" / "logs.md").read_text()
    written = {(level, name) for name, level in re.findall(r"^\| `([\w.]+)` \| (\w+) \|", page, re.MULTILINE)}
    logged = set(lines())
    assert len(logged) > 30
    assert written == logged
