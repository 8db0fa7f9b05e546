"""The duration parser."""

from datetime import timedelta
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from modelsync.api import duration
from modelsync.api.duration import Between


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("1h30m", 5400), ("500ms", 0.5), ("1h1m1s1ms", 3661.001), ("00090s", 90), ("1m1m", 120)],
)
def test_reads_what_gateway_api_reads(text: str, seconds: float) -> None:
    assert duration.parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "90", "1.5h", "-5s", "1d", "123456s", "1h1m1s1ms1s", "5 s", "5S", "s", "5s\n"])
def test_refuses_everything_else_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write numbers with the units h, m, s or ms, such as 90s"):
        duration.parse(text)


@given(st.integers(min_value=0, max_value=99_999 * 3_600_000).map(lambda ms: timedelta(milliseconds=ms)))
def test_reads_back_what_it_writes(value: timedelta) -> None:
    assert duration.parse(duration.render(value)) == value


class Bounded(BaseModel):
    value: Annotated[timedelta, Between("1s", "1h", whole_seconds=True)]


@pytest.mark.parametrize("text", ["1s", "1h", "59m59s"])
def test_takes_both_bounds(text: str) -> None:
    assert Bounded.model_validate({"value": text}).value == duration.parse(text)


@pytest.mark.parametrize("given_value", ["0s", "1h1s", "1s500ms", 90, None, "soon"])
def test_refuses_what_is_out_of_bounds_or_too_fine_or_no_string(given_value: object) -> None:
    with pytest.raises(ValidationError):
        Bounded.model_validate({"value": given_value})


def test_the_message_has_the_bounds_and_an_example() -> None:
    with pytest.raises(ValidationError, match="2h must be a duration in whole seconds from 1s to 1h, such as 1m30s"):
        Bounded.model_validate({"value": "2h"})


def test_writes_durations_as_strings() -> None:
    assert Bounded.model_validate({"value": "90s"}).model_dump(mode="json") == {"value": "1m30s"}
