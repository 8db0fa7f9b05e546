"""JSON of others: it is read as any other reader would read it, and nothing makes reading slow or fail otherwise."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsync.api.foreign_json import MAX_DEPTH, ForeignJSONError, read_json, read_object, without_deep_values

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
MANY = 2**24


@given(VALUES)
def test_what_json_can_hold_is_read_as_it_was_written(value: object) -> None:
    text = json.dumps(value)
    assert read_json(text, max_bytes=MANY) == value
    assert read_json(text.encode(), max_bytes=MANY) == value


@given(st.text() | st.binary())
def test_any_other_text_raises_the_one_error(text: str | bytes) -> None:
    with contextlib.suppress(ForeignJSONError):
        read_json(text, max_bytes=MANY)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a":1,"b":2,"a":3}', "the key 'a' is there twice"),
        ("[NaN]", "NaN is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ("[1e999]", "a number is too large"),
        ("[" + "1" * 301 + "]", "a number has more than 300 digits"),
        ("[" * 33 + "]" * 33, "it is nested more than 32 deep"),
        ("[" * 100_000, "it is nested more than 32 deep"),
        ('{"a":' * 100_000, "it is nested more than 32 deep"),
        (b"\xff", "it is not UTF-8"),
        ('{"a":', "Expecting value at character 5"),
        ("", "Expecting value at character 0"),
    ],
)
def test_what_is_refused_says_why(text: str | bytes, problem: str) -> None:
    with pytest.raises(ForeignJSONError, match="^" + problem.replace("[", r"\[") + "$"):
        read_json(text, max_bytes=MANY)


def test_brackets_in_strings_are_no_depth() -> None:
    text = json.dumps(["[" * 1000, '\\"[{' * 100, {"{": "}"}])
    assert read_json(text, max_bytes=MANY)[0] == "[" * 1000


def test_a_text_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(ForeignJSONError, match="more than 10 bytes"):
        read_json("[" * 11, max_bytes=10)


def test_an_object_is_asked_for_where_nothing_else_will_do() -> None:
    assert read_object("{}", max_bytes=9) == {}
    with pytest.raises(ForeignJSONError, match="not a JSON object"):
        read_object("[]", max_bytes=9)


@pytest.mark.parametrize(
    "text",
    [
        "{" + ",".join(f'"{number}":0' for number in range(200_000)) + ',"7":1}',
        '"' + "\\" * 1_000_000,
        '"\\' * 300_000,
        "[" + "[],{}," * 200_000 + "0]",
        '["' + '[{"' * 300_000,
    ],
    ids=["repeated key", "backslashes", "escaped quotes", "many brackets", "quotes and brackets"],
)
def test_reading_is_linear(text: str) -> None:
    """Eight times the text takes about eight times the CPU time: a quadratic reader would take 64 times as long."""

    def seconds(part: str) -> float:
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            with contextlib.suppress(ForeignJSONError):
                read_json(part, max_bytes=MANY)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(text) < 30 * seconds(text[: len(text) // 8]) + 0.5


def test_the_depth_that_is_allowed_is_read() -> None:
    assert read_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, max_bytes=MANY)


def test_a_string_that_never_ends_is_read_once() -> None:
    began = time.process_time()
    with pytest.raises(ForeignJSONError):
        read_json("[]" * 40 + '"' + '\\"' * 400_000, max_bytes=1 << 20)
    assert time.process_time() - began < 2, "each of its quotes was tried as the beginning of another one"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": [[[1]]], "b": "]]["}', '{"a": [null], "b": "]]["}'),
        ("[[1], [[2], 3]]", "[[1], [null, 3]]"),
        ("[1]", "[1]"),
        ("[[[", "[[["),
    ],
)
def test_values_beyond_a_depth_become_null(text: str, expected: str) -> None:
    assert without_deep_values(text, 2) == expected
