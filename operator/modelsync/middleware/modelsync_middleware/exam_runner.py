"""Takes an exam: asks every question, grades every answer, and returns a verdict. Must not use HTTP or files itself.

Used in the pod with requests inside the process, and by `modelsync exam check` over the network: standard library only,
Python 3.9 or newer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Optional

from .exam_format import GOLDEN_FILE, Question, parse_json
from .exam_grading import judge, quoted

Ask = Callable[[str, Mapping[str, Any]], Awaitable[tuple[Optional[int], bytes]]]
"""POST a body to a path: the status (None: no answer in time) and the body of the answer."""

AT_ONCE = 4
"""Concurrent questions: enough to finish quickly, few enough that batching hardly changes the log-probabilities."""

EXAM_SECONDS = 900.0
MAX_MISTAKES = 10
"""Mistakes listed in a verdict; its counts cover all of them."""


@dataclass(frozen=True)
class Mistake:
    """One answer that was not as expected."""

    line: int
    name: str
    message: str


@dataclass(frozen=True)
class Verdict:
    """How an exam ended. `state` is Passed, Failed, or Invalid (the file cannot be read, nothing was asked)."""

    state: str
    passed: int
    total: int
    seconds: float
    message: str
    finished_at: str
    mistakes: tuple[Mistake, ...] = ()

    def document(self) -> dict[str, Any]:
        """As a JSON object, for `GET /modelsync/exam`."""
        return {
            "state": self.state,
            "passed": self.passed,
            "total": self.total,
            "seconds": self.seconds,
            "message": self.message,
            "finishedAt": self.finished_at,
            "mistakes": [{"line": each.line, "name": each.name, "message": each.message} for each in self.mistakes],
        }

    @staticmethod
    def of(document: Any) -> Verdict:
        """Parse the result of `document`. Raises ValueError, LookupError, TypeError."""
        return Verdict(
            state=str(document["state"]),
            passed=int(document["passed"]),
            total=int(document["total"]),
            seconds=float(document["seconds"]),
            message=str(document["message"]),
            finished_at=str(document["finishedAt"]),
            mistakes=tuple(
                Mistake(int(each["line"]), str(each["name"]), str(each["message"])) for each in document["mistakes"]
            ),
        )


def invalid(problem: str) -> Verdict:
    """The verdict on a file that cannot be read."""
    return Verdict("Invalid", 0, 0, 0.0, f"{GOLDEN_FILE}: {problem}", _now())


async def take(questions: Sequence[Question], ask: Ask, model: str, *, max_mistakes: int = MAX_MISTAKES) -> Verdict:
    """Ask `model` all `questions` and grade the answers. The verdict lists at most `max_mistakes` mistakes."""
    started_at = time.monotonic()
    places = asyncio.Semaphore(AT_ONCE)

    async def one(question: Question) -> str | None:
        async with places:
            if time.monotonic() - started_at > EXAM_SECONDS:
                return f"not asked: the exam took longer than {EXAM_SECONDS:.0f} s"
            return await _answer(question, ask, model)

    problems = await asyncio.gather(*(one(question) for question in questions))
    mistakes = [
        Mistake(question.line, question.name, problem)
        for at, question in enumerate(questions)
        if (problem := problems[at]) is not None
    ]
    total, seconds = len(questions), round(time.monotonic() - started_at, 1)
    passed = total - len(mistakes)
    if not mistakes:
        return Verdict("Passed", passed, total, seconds, f"{passed} of {total} answers are as expected", _now())
    where = next(question.where for question in questions if question.line == mistakes[0].line)
    message = f"{passed} of {total} answers are as expected; {where}: {mistakes[0].message}"
    return Verdict("Failed", passed, total, seconds, message, _now(), tuple(mistakes[:max_mistakes]))


async def _answer(question: Question, ask: Ask, model: str) -> str | None:
    """None, or why the answer is not as expected. A server error is retried once."""
    body = {"model": model, **question.body}
    status, answer = await ask(question.path, body)
    if status is None or status >= 500:
        status, answer = await ask(question.path, body)
    if status is None:
        return "wanted an answer, got none in time"
    if status != 200:
        return f"wanted an answer, got HTTP {status}: {quoted(_error(answer))}"
    if question.expect.regex is None:
        return judge(question, answer)
    return await asyncio.get_running_loop().run_in_executor(None, judge, question, answer)


def _error(body: bytes) -> str:
    """The message of an OpenAI error; otherwise the body."""
    try:
        return str(parse_json(body)["error"]["message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return body[:200].decode(errors="replace")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
