"""Which answers pass, and the message for one that does not."""

import json
import math
from typing import Any

import pytest

from modelsync.middleware.modelsync_middleware.exam_format import parse_exam
from modelsync.middleware.modelsync_middleware.exam_grading import judge

Positions = list[tuple[str, dict[str, float]]]


def problem(expect: dict[str, Any], answer: Any, ask: str = "prompt") -> str | None:
    asked: Any = [{"role": "user", "content": "x"}] if ask == "messages" else "x"
    [question] = parse_exam(json.dumps({ask: asked, "expect": expect}).encode())
    return judge(question, answer if isinstance(answer, bytes) else json.dumps(answer).encode())


def completion(text: str = "", positions: Positions = [], reason: str = "stop") -> dict[str, Any]:  # noqa: B006
    logprobs = {
        "tokens": [token for token, _ in positions],
        "token_logprobs": [top[token] for token, top in positions],
        "top_logprobs": [top for _, top in positions],
        "text_offset": [0 for _ in positions],
    }
    return {"choices": [{"text": text, "finish_reason": reason, "logprobs": logprobs if positions else None}]}


def chat(positions: Positions) -> dict[str, Any]:
    content = [
        {
            "token": token,
            "logprob": top[token],
            "bytes": [],
            "top_logprobs": [{"token": other, "logprob": value, "bytes": []} for other, value in top.items()],
        }
        for token, top in positions
    ]
    message = {"role": "assistant", "content": "".join(token for token, _ in positions)}
    return {"choices": [{"message": message, "finish_reason": "stop", "logprobs": {"content": content}}]}


TOP = {" Paris": -0.2, " Lyon": -2.0, " the": -4.0}


@pytest.mark.parametrize("answer", [completion(" Paris", [(" Paris", TOP)]), chat([(" Paris", TOP)])])
def test_the_same_tokens_pass_in_completions_and_chats(answer: Any) -> None:
    assert problem({"tokens": [TOP]}, answer) is None


@pytest.mark.parametrize(
    ("logprob", "message"),
    [
        (-0.39, None),
        (-0.01, None),
        (-0.41, 'wanted as token 1 " Paris" at -0.20 ± 0.2, got it at -0.41'),
    ],
)
def test_a_log_probability_may_differ_by_the_tolerance(logprob: float, message: str | None) -> None:
    answer = completion(" Paris", [(" Paris", {**TOP, " Paris": logprob})])

    assert problem({"tokens": [{" Paris": -0.2}], "tolerance": 0.2}, answer) == message


def test_each_expected_token_of_a_position_counts() -> None:
    answer = completion(" Paris", [(" Paris", {**TOP, " Lyon": -3.0})])

    assert problem({"tokens": [TOP]}, answer) == 'wanted as token 1 " Lyon" at -2.00 ± 0.2, got it at -3.00'


def test_a_token_that_is_no_longer_among_the_likeliest_is_reported_as_less_likely() -> None:
    answer = completion(" Paris", [(" Paris", {" Paris": -0.2, " a": -2.5})])

    assert problem({"tokens": [TOP]}, answer) == 'wanted as token 1 " Lyon" at -2.00 ± 0.2, got it at less than -2.50'


def test_another_token_is_reported_with_both() -> None:
    answer = completion(" Rome", [(" Rome", {" Rome": -0.1, " Paris": -3.0})])

    assert problem({"tokens": [TOP]}, answer) == 'wanted as token 1 " Paris" at -0.20 ± 0.2, got " Rome" at -0.10'


def test_two_tokens_that_are_as_likely_may_change_places_and_what_follows_is_not_compared() -> None:
    expect = {"tokens": [{" Paris": -0.70, " Lyon": -0.75}, {"!": -0.1}]}
    answer = completion(" Lyon?", [(" Lyon", {" Lyon": -0.70, " Paris": -0.74}), ("?", {"?": -0.1, ",": -3.0})])

    assert problem(expect, answer) is None


def test_a_token_that_rose_above_the_expected_one_is_no_tie() -> None:
    expect = {"tokens": [{" Paris": -1.5}]}
    answer = completion(" Lyon", [(" Lyon", {" Lyon": -0.5, " Paris": -1.55})])

    assert problem(expect, answer) == 'wanted as token 1 " Paris" at -1.50 ± 0.2, got " Lyon" at -0.50'


def test_an_answer_that_ends_too_early_is_reported() -> None:
    answer = completion(" Paris", [(" Paris", TOP)])

    assert problem({"tokens": [TOP, {".": -0.1}]}, answer) == (
        'wanted as token 2 "." at -0.10 ± 0.2, got an answer that ended after 1 token'
    )


@pytest.mark.parametrize(
    ("expect", "text", "message"),
    [
        ({"contains": ["a", "b"]}, "b a", None),
        ({"contains": ["a", "c"]}, "b a", 'wanted a text that contains "c", got "b a"'),
        ({"equals": "4"}, " 4\n", None),
        ({"equals": "4"}, "5", 'wanted "4", got "5"'),
        ({"regex": r"^\s*\d+$"}, " 42", None),
        ({"regex": r"^\d+$"}, "x", 'wanted a text that matches "^\\\\d+$", got "x"'),
        ({"json": True}, "[1]", None),
        ({"json": True}, "{", 'wanted JSON, got "{"'),
        ({"json": {"a": {"b": 1}}}, '{"a": {"b": 1, "c": 2}}', None),
        ({"json": {"a": {"b": 1}}}, '{"a": {"b": 2}}', 'wanted JSON with "a.b" as "1", got "2"'),
        ({"json": {"a": 1}}, '{"a": true}', 'wanted JSON with "a" as "1", got "true"'),
        ({"json": {"a": 1}}, "{}", 'wanted JSON with "a", got "{}"'),
        ({"json": {"a": {"b": 1}}}, '{"a": 1}', 'wanted JSON with an object at a, got "1"'),
        ({"contains": "4", "regex": "^4"}, "= 4", 'wanted a text that matches "^4", got "= 4"'),
    ],
)
def test_a_simple_check_of_the_text(expect: dict[str, Any], text: str, message: str | None) -> None:
    assert problem(expect, completion(text)) == message


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([2.0, 0.0], None),
        ([1.0, 0.01], None),
        ([1.0, 1.0], "wanted an embedding with a cosine of at least 0.999, got 0.7071"),
        ([0.0, 0.0], "wanted an embedding with a cosine of at least 0.999, got 0.0000"),
        ([1.0], "wanted an embedding of 2 numbers, got 1"),
    ],
)
def test_an_embedding_is_judged_by_its_direction(vector: list[float], message: str | None) -> None:
    assert problem({"embedding": [1.0, 0.0]}, {"data": [{"embedding": vector}]}, ask="input") == message


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"<html>", 'wanted an answer, got "<html>"'),
        ({}, "wanted an answer, got one without choices"),
        ({"choices": [1]}, "wanted an answer, got one without choices"),
        (completion("a", reason="abort"), "wanted a complete answer, got one that ended with 'abort'"),
        ({"choices": [{"finish_reason": "stop"}]}, "wanted a text, got an answer without one"),
    ],
)
def test_what_is_no_answer_fails_with_what_came(answer: Any, message: str) -> None:
    assert problem({"contains": "a"}, answer) == message


@pytest.mark.parametrize("logprobs", [None, {"content": [{"token": 1}]}, {"tokens": ["a"]}, [1]])
def test_log_probabilities_that_cannot_be_read_fail_the_line(logprobs: Any) -> None:
    answer = {"choices": [{"text": "a", "finish_reason": "stop", "logprobs": logprobs}]}

    assert "log-probabilities" in str(problem({"tokens": [{"a": -0.1}]}, answer))


def test_a_chat_with_reasoning_only_has_an_empty_text() -> None:
    answer = {"choices": [{"message": {"content": None, "reasoning": "4"}, "finish_reason": "length"}]}

    assert problem({"contains": "4"}, answer, ask="messages") == 'wanted a text that contains "4", got ""'


def test_a_message_quotes_little_of_an_answer() -> None:
    message = problem({"equals": "y" * 500}, completion("x" * 500))

    assert message is not None
    assert len(message) < 200


def test_numbers_that_are_none_fail_and_do_not_pass() -> None:
    answer = completion("a", [("a", {"a": -math.inf})])

    assert problem({"tokens": [{"a": -0.1}]}, answer) is not None
    assert problem({"tokens": [{"a": -0.1}]}, completion("a", [("a", {"a": math.nan})])) is not None


@pytest.mark.parametrize("digits", [301, 5000])
def test_a_number_without_end_in_an_answer_is_no_answer(digits: int) -> None:
    huge = "9" * digits
    logprobs = f'{{"tokens": ["a"], "token_logprobs": [-{huge}], "top_logprobs": [{{"a": -{huge}}}]}}'
    body = f'{{"choices": [{{"text": "a", "finish_reason": "stop", "logprobs": {logprobs}}}]}}'
    assert (problem({"tokens": [{"a": -1}]}, body.encode()) or "").startswith("wanted an answer, got")
    assert (problem({"json": True}, completion(f"[{huge}]")) or "").startswith("wanted JSON, got")
