"""The format of `modelsync/golden.jsonl`, the exam that a version brings along: one JSON object a line.

Read by the middleware in the pod and by `modelsync exam`, so: standard library only, Python 3.9 or newer, and pure. The
format is described in docs/reference/exam.md; a wrong line is an ExamError that names it. Nothing is asked here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GOLDEN_FILE = "modelsync/golden.jsonl"
"""Where an artifact has its exam."""

FORMAT = 1
MAX_BYTES = 1 << 20
MAX_LINES = 200
"""Questions. An exam is a smoke test of minutes at most; an evaluation belongs before the alias moves."""

MAX_TOKENS = 512
DEFAULT_TOKENS = 16
DEFAULT_TOLERANCE = 0.2
"""Of a log-probability, so a factor of 1.22: kernels, batches and drivers move them by less, quantization by more."""

MAX_TOLERANCE = 10.0
MAX_TOP = 10
"""Tokens expected at a position; vLLM gives 20 unless `--max-logprobs` says otherwise."""

DEFAULT_COSINE = 0.999
NAME_CHARACTERS = 80

_ABSENT: Any = object()


class ExamError(Exception):
    """The exam cannot be read; the message names the line, what is wrong, and what is allowed."""


@dataclass(frozen=True)
class Expect:
    """What an answer has to be; everything that is given counts."""

    tokens: tuple[Mapping[str, float], ...] | None = None
    """By position, top tokens with their log-probabilities; the likeliest is what greedy decoding takes."""
    tolerance: float = DEFAULT_TOLERANCE
    contains: tuple[str, ...] = ()
    equals: str | None = None
    regex: re.Pattern[str] | None = None
    has_json: bool = False
    json: Any = True
    """True: any JSON. An object: these keys with these values, whatever else is there."""
    embedding: tuple[float, ...] | None = None
    min_cosine: float = DEFAULT_COSINE


@dataclass(frozen=True)
class Question:
    """One line: what is asked, and what has to come."""

    line: int
    name: str
    """What the line calls itself; may be empty."""
    path: str
    """The API's, as `/v1/completions`."""
    body: Mapping[str, Any]
    """The request without the model's name."""
    expect: Expect

    @property
    def where(self) -> str:
        """`line 3` or `line 3 (capital)`."""
        return f"line {self.line} ({self.name})" if self.name else f"line {self.line}"


def parse_exam(raw: bytes) -> tuple[Question, ...]:
    """The questions in the content of a golden file. Raises ExamError."""
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
    # Not splitlines: JSON may hold U+2028 and the like as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        said = _object(line, number)
        if first and "exam" in said:
            tolerance = _header(said, number)
        else:
            if len(questions) == MAX_LINES:
                raise ExamError(f"line {number}: the exam has at most {MAX_LINES} questions; take some out")
            questions.append(_question(said, number, tolerance))
        first = False
    if not questions:
        raise ExamError('no question in it; a line is, say, {"prompt": "2+2=", "expect": {"contains": "4"}}')
    return tuple(questions)


def parse_prompt(said: Mapping[str, Any], line: int) -> Question:
    """A question that has no `expect` yet, for recording. Raises ExamError."""
    return _question({**said, "expect": said.get("expect", {})}, line, DEFAULT_TOLERANCE, recording=True)


# --- one line ------------------------------------------------------------------------------------------------------

_PATHS = {"prompt": "/v1/completions", "messages": "/v1/chat/completions", "input": "/v1/embeddings"}
_FIELDS = ("name", "prompt", "messages", "input", "max_tokens", "stop", "chat_template_kwargs", "expect")
_CHECKS = ("tokens", "contains", "equals", "regex", "json", "embedding")
_EXPECT = (*_CHECKS, "tolerance", "min_cosine")


def _header(said: Mapping[str, Any], line: int) -> float:
    if said["exam"] != FORMAT or isinstance(said["exam"], bool):
        raise ExamError(
            f"line {line}: exam is {_told(said['exam'])}; this modelsync reads format {FORMAT}: "
            "record the exam anew with `modelsync exam record`, or use a newer modelsync"
        )
    _known(said, ("exam", "tolerance"), line, "")
    return _number(said, "tolerance", line, DEFAULT_TOLERANCE, MAX_TOLERANCE)


def _question(said: Mapping[str, Any], line: int, tolerance: float, *, recording: bool = False) -> Question:
    _known(said, _FIELDS, line, "")
    asks = [kind for kind in _PATHS if kind in said]
    if len(asks) != 1:
        raise ExamError(
            f"line {line}: {' and '.join(asks) or 'nothing is asked'}; give exactly one of prompt (a completion), "
            "messages (a chat) and input (an embedding)"
        )
    kind = asks[0]
    name = said.get("name", "")
    if not isinstance(name, str) or len(name) > NAME_CHARACTERS or not name.isprintable():
        raise ExamError(f"line {line}: name must be a text of at most {NAME_CHARACTERS} printable characters")
    if "expect" not in said:
        raise ExamError(f"line {line}: expect is missing; give one of {', '.join(_CHECKS)}")
    expect = _expect(said["expect"], line, tolerance, kind, recording=recording)
    return Question(line, name, _PATHS[kind], _body(said, kind, line, expect), expect)


def _body(said: Mapping[str, Any], kind: str, line: int, expect: Expect) -> Mapping[str, Any]:
    """The request: greedy, and with log-probabilities where they are judged."""
    if kind == "input":
        for field in ("max_tokens", "stop", "chat_template_kwargs"):
            if field in said:
                raise ExamError(f"line {line}: {field} means nothing for an embedding; take it out")
        return {"input": _text(said, "input", line), "encoding_format": "float"}
    length = said.get("max_tokens", DEFAULT_TOKENS)
    if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= MAX_TOKENS:
        raise ExamError(f"line {line}: max_tokens is {_told(length)}; it must be a whole number from 1 to {MAX_TOKENS}")
    body: dict[str, Any] = {"max_tokens": length, "temperature": 0}
    if "stop" in said:
        body["stop"] = _texts(said["stop"], line, "stop")
    top = max((len(position) for position in expect.tokens or ()), default=0)
    if kind == "prompt":
        if "chat_template_kwargs" in said:
            raise ExamError(f"line {line}: chat_template_kwargs means nothing for a prompt; ask with messages")
        body["prompt"] = _text(said, "prompt", line)
        if top:
            body["logprobs"] = _asked_top(top)
        return body
    body["messages"] = _messages(said["messages"], line)
    if "chat_template_kwargs" in said:
        if not isinstance(said["chat_template_kwargs"], dict):
            raise ExamError(f"line {line}: chat_template_kwargs must be an object")
        body["chat_template_kwargs"] = said["chat_template_kwargs"]
    if top:
        body.update(logprobs=True, top_logprobs=_asked_top(top))
    return body


def _asked_top(wanted: int) -> int:
    """A few more than are judged: those below may have changed places."""
    return max(5, wanted + 2)


def _expect(said: Any, line: int, tolerance: float, kind: str, *, recording: bool) -> Expect:
    if not isinstance(said, dict):
        raise ExamError(f"line {line}: expect must be an object with one of {', '.join(_CHECKS)}")
    _known(said, _EXPECT, line, "expect.")
    checks = [check for check in _CHECKS if check in said]
    allowed = ("embedding",) if kind == "input" else tuple(check for check in _CHECKS if check != "embedding")
    if wrong := [check for check in checks if check not in allowed]:
        raise ExamError(f"line {line}: expect.{wrong[0]} does not go with {kind}; {', '.join(allowed)} may be used")
    if not checks and not recording:
        raise ExamError(f"line {line}: expect is empty; give one of {', '.join(allowed)}")
    for field, check in (("tolerance", "tokens"), ("min_cosine", "embedding")):
        if field in said and check not in said:
            raise ExamError(f"line {line}: expect.{field} belongs to expect.{check}, which is missing")
    return Expect(
        tokens=_tokens(said["tokens"], line) if "tokens" in said else None,
        tolerance=_number(said, "tolerance", line, tolerance, MAX_TOLERANCE, "expect."),
        contains=_texts(said["contains"], line, "expect.contains") if "contains" in said else (),
        equals=_string(said["equals"], line, "expect.equals") if "equals" in said else None,
        regex=_regex(said["regex"], line) if "regex" in said else None,
        has_json="json" in said,
        json=_json_check(said["json"], line) if "json" in said else True,
        embedding=_vector(said["embedding"], line) if "embedding" in said else None,
        min_cosine=_number(said, "min_cosine", line, DEFAULT_COSINE, 1.0, "expect."),
    )


def _tokens(said: Any, line: int) -> tuple[Mapping[str, float], ...]:
    example = 'a list of objects, each token with its log-probability, as [{" Paris": -0.1, " the": -2.7}]'
    if not isinstance(said, list) or not said or len(said) > MAX_TOKENS:
        raise ExamError(f"line {line}: expect.tokens must be {example}, of at most {MAX_TOKENS} positions")
    for position in said:
        if not isinstance(position, dict) or not 1 <= len(position) <= MAX_TOP:
            raise ExamError(f"line {line}: expect.tokens must be {example}, of at most {MAX_TOP} tokens each")
        for token, logprob in position.items():
            if not _is_number(logprob) or logprob > 0:
                raise ExamError(
                    f"line {line}: expect.tokens: {_told(token)} has {_told(logprob)}; "
                    "a log-probability is a number of at most 0"
                )
    return tuple(said)


def _messages(said: Any, line: int) -> list[Any]:
    if not isinstance(said, list) or not said:
        raise ExamError(f'line {line}: messages must be a list, as [{{"role": "user", "content": "…"}}]')
    for message in said:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str) or "content" not in message:
            raise ExamError(f"line {line}: each of messages must be an object with role and content")
    return said


def _regex(said: Any, line: int) -> re.Pattern[str]:
    try:
        return re.compile(_string(said, line, "expect.regex"))
    except (re.error, OverflowError, RecursionError) as error:
        raise ExamError(f"line {line}: expect.regex is no regular expression of Python: {error}") from None


def _json_check(said: Any, line: int) -> Any:
    if said is not True and not isinstance(said, dict):
        raise ExamError(
            f"line {line}: expect.json must be true (any JSON), or an object whose keys and values have to be there"
        )
    return said


def _vector(said: Any, line: int) -> tuple[float, ...]:
    if not isinstance(said, list) or not said or not all(_is_number(item) for item in said):
        raise ExamError(f"line {line}: expect.embedding must be a list of numbers")
    if not any(said):
        raise ExamError(f"line {line}: expect.embedding is all zeros, which has no direction to compare")
    return tuple(said)


# --- values --------------------------------------------------------------------------------------------------------


def _object(line: str, number: int) -> Mapping[str, Any]:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise ExamError(f"line {number}: not JSON ({what}); each line is one whole JSON object") from None
    if not isinstance(said, dict):
        raise ExamError(f"line {number}: each line is a JSON object, as {{...}}; this is {_told(said)}")
    return said


def _known(said: Mapping[str, Any], allowed: tuple[str, ...], line: int, prefix: str) -> None:
    """A misspelt field must not make a check that is never made."""
    for field in said:
        if field not in allowed:
            raise ExamError(f"line {line}: {prefix}{field[:40]} is not known; allowed are {', '.join(allowed)}")


def _text(said: Mapping[str, Any], field: str, line: int) -> str:
    value = _string(said[field], line, field)
    if not value:
        raise ExamError(f"line {line}: {field} is empty")
    return value


def _string(value: Any, line: int, field: str) -> str:
    if not isinstance(value, str):
        raise ExamError(f"line {line}: {field} must be a text; this is {_told(value)}")
    return value


def _texts(value: Any, line: int, field: str) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, str) and item for item in values):
        raise ExamError(f"line {line}: {field} must be a text or a list of texts, none of them empty")
    return tuple(values)


def _number(said: Mapping[str, Any], field: str, line: int, default: float, highest: float, prefix: str = "") -> float:
    value = said.get(field, default)
    if not _is_number(value) or not 0 < value <= highest:
        raise ExamError(
            f"line {line}: {prefix}{field} is {_told(value)}; it must be a number above 0 and at most {highest:g}"
        )
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _told(value: Any) -> str:
    """A value for a message, short."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= NAME_CHARACTERS else text[: NAME_CHARACTERS - 1] + "…"
