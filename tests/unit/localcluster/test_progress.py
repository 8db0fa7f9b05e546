"""The running step and its duration are shown on a terminal and in a log."""

import io
import re
from datetime import timedelta

import pytest

from localcluster.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_step_leaves_one_line_with_its_time() -> None:
    output = io.StringIO()
    with Progress(output).step("building") as note:
        note("12 packages")
    assert re.fullmatch(r"building  0\.0 s\n", output.getvalue())


def test_in_a_log_a_long_step_prints_reminders() -> None:
    output = io.StringIO()
    with Progress(output, remind_every=timedelta()).step("building") as note:
        note("12 packages")
    assert output.getvalue().splitlines()[0] == "building … 0.0 s, 12 packages"


def test_on_a_terminal_the_running_step_is_shown_at_once_and_wiped_at_its_end() -> None:
    output = Terminal()
    with Progress(output).step("building"):
        assert output.getvalue().endswith("building …")
    assert output.getvalue().endswith("\r\x1b[Kbuilding  0.0 s\n")


def test_a_failed_step_is_reported_as_stopped() -> None:
    output = io.StringIO()
    with pytest.raises(ValueError, match="broken"), Progress(output).step("building"):
        raise ValueError("broken")
    assert output.getvalue() == "building: stopped after 0.0 s\n"


def test_quiet_prints_nothing() -> None:
    output = io.StringIO()
    with Progress(output, quiet=True).step("building") as note:
        note("12 packages")
    assert output.getvalue() == ""


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (9.9, "9.9 s"), (12.3, "12 s"), (185.2, "3 min 05 s")])
def test_durations_read_as_people_write_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
