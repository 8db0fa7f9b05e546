"""Grades the model's answer to an exam question. Pure but for regular expressions; standard library only, Python 3.9 or
newer.

Log-probabilities are compared within a tolerance, because they differ between machines. As in vLLM's own tests
(check_logprobs_close) two almost equally likely tokens may change places; what follows a token other than the recorded
one is not comparable and is ignored. A message quotes at most `QUOTE` characters of any text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .exam_format import Expect, Question, parse_json
from .exam_regex import RegexError, matches

_TOP = "top_logprobs"
QUOTE = 80
"""Characters of an answer, or of what was expected, in a message."""


class AnswerError(Exception):
    """The response is not an answer to this kind of question; the message describes it."""


@dataclass(frozen=True)
class Position:
    """One token of an answer: the sampled token, and the log-probabilities of the likeliest ones (including it)."""

    token: str
    logprob: float
    top: Mapping[str, float]


def judge(question: Question, body: bytes) -> str | None:
    """None if the body of a 200 response is as expected; otherwise what was wanted and what was received.

    Blocks while a regular expression is matched.
    """
    expect = question.expect
    try:
        answer = parse_json(body)
        if expect.embedding is not None:
            return _embedding(expect, embedding_of(answer))
        text = text_of(answer)
        return (
            (_tokens(expect, positions_of(answer)) if expect.tokens is not None else None)
            or _contains(expect, text)
            or _equals(expect, text)
            or _regex(expect, text)
            or _json(expect, text)
        )
    except AnswerError as error:
        return str(error)
    except (ValueError, RecursionError):
        return f"wanted an answer, got {quoted(body.decode(errors='replace'))}"


def text_of(answer: Any) -> str:
    """The text of a completion or chat; empty for a chat that contains reasoning only. Raises AnswerError."""
    choice = _choice(answer)
    text = choice["message"].get("content") if isinstance(choice.get("message"), dict) else choice.get("text")
    if text is None and "message" in choice:
        return ""
    if not isinstance(text, str):
        raise AnswerError("wanted a text, got an answer without one")
    return text


def positions_of(answer: Any) -> Sequence[Position]:
    """The tokens of a completion or chat with their log-probabilities. Raises AnswerError."""
    logprobs = _choice(answer).get("logprobs")
    if not isinstance(logprobs, dict):
        raise AnswerError("wanted log-probabilities, got an answer without them")
    try:
        if "content" in logprobs:
            return [
                _position(
                    item["token"], item["logprob"], [(top["token"], top["logprob"]) for top in item["top_logprobs"]]
                )
                for item in logprobs["content"] or ()
            ]
        values, tops = logprobs["token_logprobs"], logprobs[_TOP]
        return [
            _position(token, values[at], list((tops[at] or {}).items())) for at, token in enumerate(logprobs["tokens"])
        ]
    except (LookupError, TypeError, ValueError, AttributeError):
        raise AnswerError("wanted log-probabilities, got an unexpected format") from None


def _position(token: str, logprob: Any, others: Sequence[tuple[str, Any]]) -> Position:
    """Build a Position. Tokens with different ids may have the same text: the likeliest of them counts."""
    top: dict[str, float] = {}
    for text, value in ((token, logprob), *others):
        top[text] = max(float(value), top.get(text, -math.inf))
    return Position(token, float(logprob), top)


def embedding_of(answer: Any) -> Sequence[float]:
    """The vector of an embedding. Raises AnswerError."""
    try:
        vector = answer["data"][0]["embedding"]
        return [float(number) for number in vector]
    except (LookupError, TypeError, ValueError):
        raise AnswerError("wanted an embedding, got an answer without one") from None


def quoted(text: str) -> str:
    """`text` on one line, in quotes, shortened."""
    cut = text if len(text) <= QUOTE else text[: QUOTE - 1] + "…"
    return json.dumps(cut, ensure_ascii=False)


def _choice(answer: Any) -> Mapping[str, Any]:
    try:
        choice = answer["choices"][0]
    except (LookupError, TypeError):
        raise AnswerError("wanted an answer, got one without choices") from None
    if not isinstance(choice, dict):
        raise AnswerError("wanted an answer, got one without choices")
    if choice.get("finish_reason") not in ("stop", "length", "tool_calls"):
        raise AnswerError(f"wanted a complete answer, got one that ended with {choice.get('finish_reason')!r}")
    return choice


def _tokens(expect: Expect, positions: Sequence[Position]) -> str | None:
    tolerance = expect.tolerance
    for at, wanted in enumerate(expect.tokens or ()):
        best = max(wanted, key=lambda token: wanted[token])
        what = f"as token {at + 1} {quoted(best)} at {wanted[best]:.2f} ± {tolerance:g}"
        if at >= len(positions):
            return f"wanted {what}, got an answer that ended after {at} token{'' if at == 1 else 's'}"
        got = positions[at]
        for token, logprob in wanted.items():
            # A token that is not among the top tokens has at most the log-probability of the last of them.
            now = got.top.get(token, min(got.top.values()))
            too_low = logprob - now > tolerance
            if not too_low and (token not in got.top or now - logprob <= tolerance):
                continue
            if token == best and got.token != best:
                return f"wanted {what}, got {quoted(got.token)} at {got.logprob:.2f}"
            value = f"{now:.2f}" if token in got.top else f"less than {now:.2f}"
            return f"wanted as token {at + 1} {quoted(token)} at {logprob:.2f} ± {tolerance:g}, got it at {value}"
        if got.token != best:
            if got.logprob - wanted[best] > tolerance:
                return f"wanted {what}, got {quoted(got.token)} at {got.logprob:.2f}"
            return None  # equally likely within the tolerance; the rest is a different text
    return None


def _contains(expect: Expect, text: str) -> str | None:
    for wanted in expect.contains:
        if wanted not in text:
            return f"wanted a text that contains {quoted(wanted)}, got {quoted(text)}"
    return None


def _equals(expect: Expect, text: str) -> str | None:
    if expect.equals is None or text.strip() == expect.equals.strip():
        return None
    return f"wanted {quoted(expect.equals)}, got {quoted(text)}"


def _regex(expect: Expect, text: str) -> str | None:
    if expect.regex is None:
        return None
    wanted = f"wanted a text that matches {quoted(expect.regex)}"
    try:
        return None if matches(expect.regex, text) else f"{wanted}, got {quoted(text)}"
    except RegexError as error:
        return f"{wanted}: {error}; use a simpler expression; got {quoted(text)}"


def _json(expect: Expect, text: str) -> str | None:
    if not expect.has_json:
        return None
    try:
        found = parse_json(text)
    except (ValueError, RecursionError):
        return f"wanted JSON, got {quoted(text)}"
    if expect.json is True:
        return None
    return _missing(expect.json, found, "")


def _missing(wanted: Mapping[str, Any], found: Any, where: str) -> str | None:
    if not isinstance(found, dict):
        return f"wanted JSON with an object{where and f' at {where[:QUOTE]}'}, got {quoted(json.dumps(found))}"
    for key, value in wanted.items():
        place = f"{where}.{key}" if where else key
        if key not in found:
            return f"wanted JSON with {quoted(place)}, got {quoted(json.dumps(found))}"
        if isinstance(value, dict):
            problem = _missing(value, found[key], place)
            if problem is not None:
                return problem
        elif found[key] != value or isinstance(found[key], bool) != isinstance(value, bool):
            return (
                f"wanted JSON with {quoted(place)} as {quoted(json.dumps(value))}, got {quoted(json.dumps(found[key]))}"
            )
    return None


def _embedding(expect: Expect, vector: Sequence[float]) -> str | None:
    wanted = expect.embedding or ()
    if len(vector) != len(wanted):
        return f"wanted an embedding of {len(wanted)} numbers, got {len(vector)}"
    scale = math.sqrt(sum(number * number for number in wanted)) * math.sqrt(sum(number * number for number in vector))
    cosine = sum(number * vector[at] for at, number in enumerate(wanted)) / scale if scale else 0.0
    if cosine >= expect.min_cosine:
        return None
    return f"wanted an embedding with a cosine of at least {expect.min_cosine:g}, got {cosine:.4f}"
