"""Each event is one line, without a traceback."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from modelsync.controller import logs


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers
    logging.getLogger().setLevel(level)


def fail() -> None:
    try:
        raise ValueError("the cause\nin two lines")
    except ValueError:
        structlog.get_logger("test").exception("went_wrong", key="prod/chat")


def test_json_lines_hold_the_fields_and_the_cause_but_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    fail()
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry["event"] == "went_wrong"
    assert entry["key"] == "prod/chat"
    assert entry["problem"] == "ValueError: the cause in two lines"
    assert "Traceback" not in line


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "debug")
    fail()
    assert "Traceback" in capsys.readouterr().err


def test_logs_of_libraries_have_the_same_format(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logging.getLogger("some.library").warning("careful: %s", "now")
    logging.getLogger("some.library").info("not this")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "careful: now"


def test_the_console_format_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("console")
    structlog.get_logger("test").info("lease.acquired", epoch=3)
    line = capsys.readouterr().err
    assert "lease.acquired" in line
    assert "epoch=3" in line
