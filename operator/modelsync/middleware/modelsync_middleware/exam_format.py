"""The format of `modelsync/golden.jsonl`, the exam in a version's artifact: one JSON object per line.

Read by the middleware in the pod and by `modelsync exam`, so: standard library only, Python 3.9 or newer, and pure but
for the check of regular expressions. The format is documented in docs/reference/exam.md; an invalid line raises
ExamError, which names it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .exam_regex import RegexError, first_problem

GOLDEN_FILE = "modelsync/golden.jsonl"
"""The path of the exam in an artifact."""

FORMAT = 1
MAX_BYTES = 1 << 20
MAX_LINES = 200
"""Questions. An exam is a smoke test of a few minutes; an evaluation belongs before the alias is moved."""

MAX_TOKENS = 512
DEFAULT_TOKENS = 16
DEFAULT_TOLERANCE = 0.2
"""Of a log-probability, so a factor of 1.22: kernels, batches and drivers cause less difference, quantization more."""

MAX_TOLERANCE = 10.0
MAX_TOP = 10
"""Tokens expected at a position; vLLM returns up to 20 unless `--max-logprobs` is set."""

DEFAULT_COSINE = 0.999
NAME_CHARACTERS = 80
MAX_DIGITS = 300
"""Of a whole number in JSON. A float cannot hold longer ones, and reading them takes quadratic time."""

_ABSENT: Any = object()


class ExamError(Exception):
    """The exam cannot be read; the message names the line, the problem, and what is allowed."""


@dataclass(frozen=True)
class Expect:
    """The checks on an answer; all that are given must pass."""

    tokens: tuple[Mapping[str, float], ...] | None = None
    """For each position, top tokens with their log-probabilities; greedy decoding takes the likeliest."""
    tolerance: float = DEFAULT_TOLERANCE
    contains: tuple[str, ...] = ()
    equals: str | None = None
    regex: str | None = None
    has_json: bool = False
    json: Any = True
    """True: any JSON. An object: these keys with these values; other keys are ignored."""
    embedding: tuple[float, ...] | None = None
    min_cosine: float = DEFAULT_COSINE


@dataclass(frozen=True)
class Question:
    """One line: the request, and the checks on its answer."""

    line: int
    name: str
    """The line's `name` field; may be empty."""
    path: str
    """The path of the API, such as `/v1/completions`."""
    body: Mapping[str, Any]
    """The request without the model's name."""
    expect: Expect

    @property
    def where(self) -> str:
        """`line 3` or `line 3 (capital)`."""
        return f"line {self.line} ({self.name})" if self.name else f"line {self.line}"


def parse_exam(raw: bytes) -> tuple[Question, ...]:
    """The questions in the content of a golden file. Blocks while regular expressions are checked. Raises ExamError."""
    if len(raw) > MAX_BYTES:
        raise ExamError(f"{len(raw)} bytes; an exam has at most {MAX_BYTES} (1 MiB): ask fewer questions")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = raw[: error.start].count(b"\n") + 1
        raise ExamError(f"line {bad}: not UTF-8; write the file in UTF-8") from None
    tolerance = DEFAULT_TOLERANCE
    questions: list[Question] = []
    first = True
    # Not splitlines: JSON may contain U+2028 and similar characters unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        fields = _object(line, number)
        if first and "exam" in fields:
            tolerance = _header(fields, number)
        else:
            if len(questions) == MAX_LINES:
                raise ExamError(f"line {number}: the exam has at most {MAX_LINES} questions; remove some")
            questions.append(_question(fields, number, tolerance))
        first = False
    if not questions:
        raise ExamError('no questions found; a line looks like {"prompt": "2+2=", "expect": {"contains": "4"}}')
    _check_regexes([question for question in questions if question.expect.regex is not None])
    return tuple(questions)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON that an author or a server wrote. Raises ValueError and RecursionError."""
    return json.loads(text, parse_int=_whole)


def parse_prompt(fields: Mapping[str, Any], line: int) -> Question:
    """A question that may lack `expect`, for recording. Raises ExamError."""
    return _question({**fields, "expect": fields.get("expect", {})}, line, DEFAULT_TOLERANCE, recording=True)


# --- one line ------------------------------------------------------------------------------------------------------

_PATHS = {"prompt": "/v1/completions", "messages": "/v1/chat/completions", "input": "/v1/embeddings"}
_FIELDS = ("name", "prompt", "messages", "input", "max_tokens", "stop", "chat_template_kwargs", "expect")
_CHECKS = ("tokens", "contains", "equals", "regex", "json", "embedding")
_EXPECT = (*_CHECKS, "tolerance", "min_cosine")


def _header(fields: Mapping[str, Any], line: int) -> float:
    if fields["exam"] != FORMAT or isinstance(fields["exam"], bool):
        raise ExamError(
            f"line {line}: exam is {_short(fields['exam'])}; this modelsync reads format {FORMAT}: "
            "record the exam again with `modelsync exam record`, or use a newer modelsync"
        )
    _known(fields, ("exam", "tolerance"), line, "")
    return _number(fields, "tolerance", line, DEFAULT_TOLERANCE, MAX_TOLERANCE)


def _question(fields: Mapping[str, Any], line: int, tolerance: float, *, recording: bool = False) -> Question:
    _known(fields, _FIELDS, line, "")
    asks = [kind for kind in _PATHS if kind in fields]
    if len(asks) != 1:
        raise ExamError(
            f"line {line}: {' and '.join(asks) or 'no request'}; give exactly one of prompt (a completion), "
            "messages (a chat) and input (an embedding)"
        )
    kind = asks[0]
    name = fields.get("name", "")
    if not isinstance(name, str) or len(name) > NAME_CHARACTERS or not name.isprintable():
        raise ExamError(f"line {line}: name must be a string of at most {NAME_CHARACTERS} printable characters")
    if "expect" not in fields:
        raise ExamError(f"line {line}: expect is missing; give one of {', '.join(_CHECKS)}")
    expect = _expect(fields["expect"], line, tolerance, kind, recording=recording)
    return Question(line, name, _PATHS[kind], _body(fields, kind, line, expect), expect)


def _body(fields: Mapping[str, Any], kind: str, line: int, expect: Expect) -> Mapping[str, Any]:
    """The request: greedy decoding, and with log-probabilities if they are checked."""
    if kind == "input":
        for field in ("max_tokens", "stop", "chat_template_kwargs"):
            if field in fields:
                raise ExamError(f"line {line}: {field} does not apply to an embedding; remove it")
        return {"input": _text(fields, "input", line), "encoding_format": "float"}
    length = fields.get("max_tokens", DEFAULT_TOKENS)
    if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= MAX_TOKENS:
        raise ExamError(
            f"line {line}: max_tokens is {_short(length)}; it must be a whole number from 1 to {MAX_TOKENS}"
        )
    body: dict[str, Any] = {"max_tokens": length, "temperature": 0}
    if "stop" in fields:
        body["stop"] = _texts(fields["stop"], line, "stop")
    top = max((len(position) for position in expect.tokens or ()), default=0)
    if kind == "prompt":
        if "chat_template_kwargs" in fields:
            raise ExamError(f"line {line}: chat_template_kwargs does not apply to a prompt; use messages")
        body["prompt"] = _text(fields, "prompt", line)
        if top:
            body["logprobs"] = _asked_top(top)
        return body
    body["messages"] = _messages(fields["messages"], line)
    if "chat_template_kwargs" in fields:
        if not isinstance(fields["chat_template_kwargs"], dict):
            raise ExamError(f"line {line}: chat_template_kwargs must be an object")
        body["chat_template_kwargs"] = fields["chat_template_kwargs"]
    if top:
        body.update(logprobs=True, top_logprobs=_asked_top(top))
    return body


def _asked_top(wanted: int) -> int:
    """A few more than are checked: tokens further down may have changed places."""
    return max(5, wanted + 2)


def _expect(fields: Any, line: int, tolerance: float, kind: str, *, recording: bool) -> Expect:
    if not isinstance(fields, dict):
        raise ExamError(f"line {line}: expect must be an object with one of {', '.join(_CHECKS)}")
    _known(fields, _EXPECT, line, "expect.")
    checks = [check for check in _CHECKS if check in fields]
    allowed = ("embedding",) if kind == "input" else tuple(check for check in _CHECKS if check != "embedding")
    if wrong := [check for check in checks if check not in allowed]:
        raise ExamError(f"line {line}: expect.{wrong[0]} does not apply to {kind}; allowed are {', '.join(allowed)}")
    if not checks and not recording:
        raise ExamError(f"line {line}: expect is empty; give one of {', '.join(allowed)}")
    for field, check in (("tolerance", "tokens"), ("min_cosine", "embedding")):
        if field in fields and check not in fields:
            raise ExamError(f"line {line}: expect.{field} requires expect.{check}, which is missing")
    return Expect(
        tokens=_tokens(fields["tokens"], line) if "tokens" in fields else None,
        tolerance=_number(fields, "tolerance", line, tolerance, MAX_TOLERANCE, "expect."),
        contains=_texts(fields["contains"], line, "expect.contains") if "contains" in fields else (),
        equals=_string(fields["equals"], line, "expect.equals") if "equals" in fields else None,
        regex=_string(fields["regex"], line, "expect.regex") if "regex" in fields else None,
        has_json="json" in fields,
        json=_json_check(fields["json"], line) if "json" in fields else True,
        embedding=_vector(fields["embedding"], line) if "embedding" in fields else None,
        min_cosine=_number(fields, "min_cosine", line, DEFAULT_COSINE, 1.0, "expect."),
    )


def _tokens(positions: Any, line: int) -> tuple[Mapping[str, float], ...]:
    example = 'a list of objects, each token with its log-probability, such as [{" Paris": -0.1, " the": -2.7}]'
    if not isinstance(positions, list) or not positions or len(positions) > MAX_TOKENS:
        raise ExamError(f"line {line}: expect.tokens must be {example}, of at most {MAX_TOKENS} positions")
    for position in positions:
        if not isinstance(position, dict) or not 1 <= len(position) <= MAX_TOP:
            raise ExamError(f"line {line}: expect.tokens must be {example}, of at most {MAX_TOP} tokens each")
        for token, logprob in position.items():
            if not _is_number(logprob) or logprob > 0:
                raise ExamError(
                    f"line {line}: expect.tokens: {_short(token)} has {_short(logprob)}; "
                    "a log-probability is a number of at most 0"
                )
    return tuple(positions)


def _messages(messages: Any, line: int) -> list[Any]:
    if not isinstance(messages, list) or not messages:
        raise ExamError(f'line {line}: messages must be a list, such as [{{"role": "user", "content": "…"}}]')
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str) or "content" not in message:
            raise ExamError(f"line {line}: each of messages must be an object with role and content")
    return messages


def _check_regexes(questions: list[Question]) -> None:
    patterns = [question.expect.regex or "" for question in questions]
    try:
        problem = first_problem(patterns)
    except RegexError as error:
        raise ExamError(f"the regular expressions cannot be compiled: {error}; use simpler ones") from None
    if problem is not None:
        at, why = problem
        raise ExamError(f"line {questions[at].line}: expect.regex is not a valid Python regular expression: {why}")


def _json_check(value: Any, line: int) -> Any:
    if value is not True and not isinstance(value, dict):
        raise ExamError(
            f"line {line}: expect.json must be true (any JSON), or an object whose keys and values the answer must have"
        )
    return value


def _vector(numbers: Any, line: int) -> tuple[float, ...]:
    if not isinstance(numbers, list) or not numbers or not all(_is_number(item) for item in numbers):
        raise ExamError(f"line {line}: expect.embedding must be a list of numbers")
    if not any(numbers):
        raise ExamError(f"line {line}: expect.embedding is all zeros, which has no direction to compare with")
    return tuple(map(float, numbers))


# --- values --------------------------------------------------------------------------------------------------------


def _object(line: str, number: int) -> Mapping[str, Any]:
    try:
        parsed = parse_json(line)
    except (ValueError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise ExamError(f"line {number}: not JSON ({what}); each line must be one complete JSON object") from None
    if not isinstance(parsed, dict):
        raise ExamError(f"line {number}: each line must be a JSON object, {{...}}; this is {_short(parsed)}")
    return parsed


def _known(fields: Mapping[str, Any], allowed: tuple[str, ...], line: int, prefix: str) -> None:
    """Reject unknown fields: a misspelt check must not be skipped silently."""
    for field in fields:
        if field not in allowed:
            raise ExamError(f"line {line}: {prefix}{field[:40]} is unknown; allowed are {', '.join(allowed)}")


def _text(fields: Mapping[str, Any], field: str, line: int) -> str:
    value = _string(fields[field], line, field)
    if not value:
        raise ExamError(f"line {line}: {field} is empty")
    return value


def _string(value: Any, line: int, field: str) -> str:
    if not isinstance(value, str):
        raise ExamError(f"line {line}: {field} must be a string; this is {_short(value)}")
    return value


def _texts(value: Any, line: int, field: str) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, str) and item for item in values):
        raise ExamError(f"line {line}: {field} must be a string or a list of strings, none of them empty")
    return tuple(values)


def _number(
    fields: Mapping[str, Any], field: str, line: int, default: float, highest: float, prefix: str = ""
) -> float:
    value = fields.get(field, default)
    if not _is_number(value) or not 0 < value <= highest:
        raise ExamError(
            f"line {line}: {prefix}{field} is {_short(value)}; it must be a number above 0 and at most {highest:g}"
        )
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return int(digits)


def _short(value: Any) -> str:
    """A value as shortened JSON, for a message."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= NAME_CHARACTERS else text[: NAME_CHARACTERS - 1] + "…"
