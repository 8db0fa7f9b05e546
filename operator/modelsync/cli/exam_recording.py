"""Records an exam: what a server that is known to be good answers now is what a version has to answer later."""

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
"""Tokens below this log-probability (2 %) are not recorded: theirs differ from machine to machine."""

DIGITS = 4


class RecordingError(Exception):
    """The server does not answer a question; the message names the line."""


async def record(
    lines: str, ask: Ask, model: str, *, chat: bool, tokens: int, top: int, tolerance: float
) -> list[Mapping[str, Any]]:
    """The lines of the exam, header first.

    Of `lines` each that begins with `{` is a line of an exam, with `expect` or without; any other is a text to ask, as
    a chat's only message or as a prompt. Raises ExamError and RecordingError.
    """
    asked = list(_asked(lines, chat=chat, tokens=tokens))
    if not asked:
        raise ExamError("no question in it; write one text a line")
    if len(asked) > MAX_LINES:
        raise ExamError(f"{len(asked)} questions; an exam has at most {MAX_LINES}")
    places = asyncio.Semaphore(AT_ONCE)  # as many as when the exam is taken

    async def one(number: int, said: Mapping[str, Any]) -> Mapping[str, Any]:
        question = parse_prompt(said, number)
        if said.get("expect"):
            return said
        async with places:
            return {**said, "expect": await _expected(question, ask, model, top)}

    header = {"exam": FORMAT, "tolerance": tolerance}
    recorded = [header, *await asyncio.gather(*(one(number, said) for number, said in asked))]
    parse_exam(encode(recorded))  # what is written can be read, or is refused here
    return recorded


def encode(lines: list[Mapping[str, Any]]) -> bytes:
    """The golden file."""
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
            said = json.loads(text)
        except ValueError as error:
            raise ExamError(f"line {number}: begins with {{ and is not JSON ({error})") from None
        if "exam" not in said:
            yield number, said if "input" in said or "max_tokens" in said else {**said, "max_tokens": tokens}


async def _expected(question: Question, ask: Ask, model: str, top: int) -> Mapping[str, Any]:
    body = {"model": model, **question.body}
    if question.path == "/v1/completions":
        body["logprobs"] = top
    elif question.path == "/v1/chat/completions":
        body |= {"logprobs": True, "top_logprobs": top}
    status, answer = await ask(question.path, body)
    if status != 200:
        came = "no answer in time" if status is None else f"HTTP {status}: {quoted(answer.decode(errors='replace'))}"
        raise RecordingError(f"{question.where}: the server gave {came}")
    try:
        if question.path == "/v1/embeddings":
            vector = [round(number, 6) for number in embedding_of(json.loads(answer))]
            return {"embedding": vector, "min_cosine": DEFAULT_COSINE}
        positions = positions_of(json.loads(answer))
    except (AnswerError, ValueError) as error:
        raise RecordingError(f"{question.where}: {error}") from None
    if not positions:
        raise RecordingError(f"{question.where}: the server answered nothing; ask something else, or raise max_tokens")
    return {"tokens": [_likely(position, top) for position in positions]}


def _likely(position: Position, top: int) -> Mapping[str, float]:
    others = sorted(position.top.items(), key=lambda item: -item[1])[:top]
    kept = {token: logprob for token, logprob in others if logprob >= UNLIKELY}
    taken = {position.token: position.top[position.token]}
    return {token: min(0.0, round(logprob, DIGITS)) for token, logprob in {**taken, **kept}.items()}
