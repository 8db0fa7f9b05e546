"""Records an exam: the current answers of a known-good server become the expected answers of a version."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

from modelsync.middleware.modelsync_middleware.exam_format import (
    DEFAULT_COSINE,
    FORMAT,
    MAX_LINES,
    ExamError,
    Question,
    parse_exam,
    parse_json,
    parse_prompt,
)
from modelsync.middleware.modelsync_middleware.exam_grading import (
    AnswerError,
    Position,
    embedding_of,
    positions_of,
    quoted,
)
from modelsync.middleware.modelsync_middleware.exam_runner import AT_ONCE, Ask

UNLIKELY = -4.0
"""Tokens below this log-probability (2 %) are not recorded: their values differ between machines."""

DIGITS = 4


class RecordingError(Exception):
    """The server did not answer a question; the message names the line."""


async def record(
    lines: str, ask: Ask, model: str, *, chat: bool, tokens: int, top: int, tolerance: float
) -> list[Mapping[str, Any]]:
    """Return the lines of the exam, header first.

    In `lines`, a line that starts with `{` is a line of an exam, with or without `expect`; any other is a text to send,
    as a chat's only message or as a prompt. Raises ExamError and RecordingError.
    """
    asked = list(_asked(lines, chat=chat, tokens=tokens))
    if not asked:
        raise ExamError("no questions found; write one text per line")
    if len(asked) > MAX_LINES:
        raise ExamError(f"{len(asked)} questions; an exam has at most {MAX_LINES}")
    places = asyncio.Semaphore(AT_ONCE)  # the same concurrency as when the exam is taken

    async def one(number: int, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        question = parse_prompt(fields, number)
        if fields.get("expect"):
            return fields
        async with places:
            return {**fields, "expect": await _expected(question, ask, model, top)}

    header = {"exam": FORMAT, "tolerance": tolerance}
    recorded = [header, *await asyncio.gather(*(one(number, fields) for number, fields in asked))]
    parse_exam(encode(recorded))  # raises ExamError here for anything that could not be read later
    return recorded


def encode(lines: list[Mapping[str, Any]]) -> bytes:
    """The content of the golden file."""
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def _asked(lines: str, *, chat: bool, tokens: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines.split("\n"), start=1):
        text = line.strip()
        if not text:
            continue
        if not text.startswith("{"):
            ask = {"messages": [{"role": "user", "content": text}]} if chat else {"prompt": text}
            yield number, {**ask, "max_tokens": tokens}
            continue
        try:
            fields = parse_json(text)
        except (ValueError, RecursionError) as error:
            raise ExamError(f"line {number}: starts with {{ but is not JSON ({error})") from None
        if "exam" not in fields:
            yield number, fields if "input" in fields or "max_tokens" in fields else {**fields, "max_tokens": tokens}


async def _expected(question: Question, ask: Ask, model: str, top: int) -> Mapping[str, Any]:
    body = {"model": model, **question.body}
    if question.path == "/v1/completions":
        body["logprobs"] = top
    elif question.path == "/v1/chat/completions":
        body |= {"logprobs": True, "top_logprobs": top}
    status, answer = await ask(question.path, body)
    if status != 200:
        got = "no answer in time" if status is None else f"HTTP {status}: {quoted(answer.decode(errors='replace'))}"
        raise RecordingError(f"{question.where}: the server returned {got}")
    try:
        if question.path == "/v1/embeddings":
            vector = [round(number, 6) for number in embedding_of(parse_json(answer))]
            return {"embedding": vector, "min_cosine": DEFAULT_COSINE}
        positions = positions_of(parse_json(answer))
    except (AnswerError, ValueError, RecursionError) as error:
        raise RecordingError(f"{question.where}: {error}") from None
    if not positions:
        raise RecordingError(f"{question.where}: the answer is empty; use another prompt, or raise max_tokens")
    return {"tokens": [_likely(position, top) for position in positions]}


def _likely(position: Position, top: int) -> Mapping[str, float]:
    others = sorted(position.top.items(), key=lambda item: -item[1])[:top]
    kept = {token: logprob for token, logprob in others if logprob >= UNLIKELY}
    taken = {position.token: position.top[position.token]}
    return {token: min(0.0, round(logprob, DIGITS)) for token, logprob in {**taken, **kept}.items()}
