"""An exam's regular expressions: those of `re`, and none that keeps the server from answering."""

import asyncio
import json
import re
import sys

import pytest

from modelsync.middleware.modelsync_middleware import exam_grading, exam_regex
from modelsync.middleware.modelsync_middleware.exam_format import ExamError, parse_exam
from modelsync.middleware.modelsync_middleware.exam_grading import judge
from modelsync.middleware.modelsync_middleware.exam_regex import RegexError, first_problem, matches
from modelsync.middleware.modelsync_middleware.exam_runner import take

ENDLESS = r"(a+)+$"
TOO_LONG = r"it took more than (2 s of a processor|30 s)"
"""On a busy machine the process may not get its 2 s of a processor in 30 s."""
TEXT = "a" * 40 + "!"
SLOW_TO_COMPILE = r"(?i:[\u0000-\uffff])" * 2000


def exam(*patterns: str) -> bytes:
    return "\n".join(json.dumps({"prompt": "x", "expect": {"regex": pattern}}) for pattern in patterns).encode()


def answer(text: str) -> bytes:
    return json.dumps({"choices": [{"text": text, "finish_reason": "stop"}]}).encode()


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [(r"^\d+$", "42", True), (r"^\d+$", "x", False), (r"(?P<a>b)(?P=a)", "abb", True), ("ä\\b", "xä", True)],
)
def test_what_re_finds_is_found(pattern: str, text: str, found: bool) -> None:
    assert matches(pattern, text) is found


def test_the_first_invalid_expression_is_named() -> None:
    assert first_problem(["a", "b"]) is None
    assert first_problem(["a", "(", "["]) == (1, "missing ), unterminated subpattern at position 0")
    assert first_problem([r"a{4294967296}"]) == (0, "the repetition number is too large")


@pytest.mark.slow
def test_an_expression_that_backtracks_without_end_fails_its_question() -> None:
    with pytest.raises(RegexError, match=TOO_LONG):
        matches(ENDLESS, TEXT)
    [question] = parse_exam(exam(ENDLESS))
    problem = judge(question, answer(TEXT))
    assert problem is not None
    assert re.match(rf'wanted a text that matches "\(a\+\)\+\$": {TOO_LONG}', problem)


@pytest.mark.slow
def test_expressions_that_take_minutes_to_compile_are_refused() -> None:
    with pytest.raises(ExamError, match=f"cannot be compiled: {TOO_LONG}"):
        parse_exam(exam(SLOW_TO_COMPILE))


def test_a_process_that_cannot_start_fails_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    [question] = parse_exam(exam("a"))
    monkeypatch.setattr(sys, "executable", "/not/there")
    problem = judge(question, answer("a"))
    assert problem is not None
    assert "no process can be started (No such file or directory)" in problem


async def test_the_server_goes_on_answering_while_an_expression_is_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()
    waited: list[bool] = []

    def match_until_the_server_has_answered(*_: str) -> bool:
        waited.append(asyncio.run_coroutine_threadsafe(asyncio.wait_for(answered.wait(), 10), loop).result(10))
        return True

    async def ask(*_: object) -> tuple[int, bytes]:
        loop.call_soon(lambda: loop.call_later(0.01, answered.set))
        return 200, answer("a")

    questions = parse_exam(exam("a"))
    monkeypatch.setattr(exam_grading, "matches", match_until_the_server_has_answered)
    verdict = await take(questions, ask, "m")
    assert (verdict.state, waited) == ("Passed", [True])


def test_the_program_imports_nothing_of_its_folder() -> None:
    assert exam_regex.__file__.endswith(".py")
    assert matches("a", "a"), "it runs with -I -S, so an import of the folder would fail"
