"""standin.json is validated strictly, and its rates are counted."""

import json
from typing import Any

import pytest

from vllm_standin.faults import Faults, FaultsError, due, make_faults, parse_faults


def test_every_key_may_be_given_and_survives_the_file() -> None:
    content: dict[str, Any] = {
        "load_seconds": 1.5,
        "ttft_seconds": 0,
        "token_seconds": 0.1,
        "tokens": 5,
        "error_rate": 0.25,
        "stream_error_rate": 1,
        "hang": True,
        "hang_after_requests": 3,
        "never_ready": True,
        "oom": True,
        "crash_on_load": True,
        "crash_after_requests": 0,
        "crash_after_seconds": 2,
        "exit_code": 137,
    }

    faults = parse_faults(json.dumps(content).encode())

    assert faults == Faults(**content)
    assert parse_faults(faults.encode()) == faults
    assert set(content) == set(Faults.__dataclass_fields__)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"eror_rate": 1}, "unknown key 'eror_rate'; allowed are load_seconds, "),
        ({"error_rate": 1.5}, "error_rate is 1.5; it must be a number from 0 to 1"),
        ({"error_rate": True}, "error_rate is True; it must be a number from 0 to 1"),
        ({"stream_error_rate": "1"}, "stream_error_rate is '1'; it must be a number from 0 to 1"),
        ({"ttft_seconds": -1}, "ttft_seconds is -1; it must be a number of seconds, at least 0"),
        ({"load_seconds": None}, "load_seconds is None; it must be a number of seconds, at least 0"),
        ({"crash_after_requests": 1.5}, "crash_after_requests is 1.5; it must be a whole number, at least 0"),
        ({"tokens": 0}, "tokens is 0; it must be a whole number, at least 1"),
        ({"exit_code": 0}, "exit_code is 0; it must be a whole number from 1 to 255"),
        ({"hang": "yes"}, "hang is 'yes'; it must be true or false"),
    ],
)
def test_a_wrong_key_or_value_is_reported_with_the_allowed_ones(content: dict[str, Any], message: str) -> None:
    with pytest.raises(FaultsError) as refusal:
        make_faults(content)

    assert message in str(refusal.value)


@pytest.mark.parametrize(("raw", "message"), [(b"{", "is not JSON"), (b"[]", "must be an object")])
def test_a_file_that_is_not_a_json_object_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(FaultsError, match=message):
        parse_faults(raw)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (0, []),
        (1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (0.5, [2, 4, 6, 8, 10]),
        (0.3, [4, 7, 10]),
        (0.1, [10]),
        (0.9, [2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ],
)
def test_a_rate_hits_evenly_and_below_one_never_the_first(rate: float, expected: list[int]) -> None:
    assert [count for count in range(1, 11) if due(rate, count)] == expected
