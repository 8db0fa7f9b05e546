"""`modelsync exam`: record the exam that a version brings along, and take one against a running server."""

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from modelsync.cli.exam_recording import RecordingError, encode, record
from modelsync.cli.exam_server import Server, ServerError
from modelsync.commands import defect, printable
from modelsync.middleware.modelsync_middleware.exam_format import (
    DEFAULT_TOKENS,
    DEFAULT_TOLERANCE,
    GOLDEN_FILE,
    MAX_LINES,
    MAX_TOKENS,
    MAX_TOLERANCE,
    MAX_TOP,
    ExamError,
    Question,
    parse_exam,
)
from modelsync.middleware.modelsync_middleware.exam_runner import Verdict, take

EXIT_FAILED = 1
EXIT_UNREACHABLE = 4
EXIT_DEFECT = 70

_ENVIRONMENT = """\b
Environment:
  VLLM_API_KEY    the server's key, where it wants one; it is never taken from the command line
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY, SSL_CERT_FILE   as usual
"""
_RECORD = f"""\b
Example:
  modelsync exam record http://localhost:8000 --prompts questions.txt > golden.jsonl
  modelsync exam check http://localhost:8000 golden.jsonl
then log the file with the model as {GOLDEN_FILE}.

{_ENVIRONMENT}
\b
Exit codes:
  0    recorded
  1    the server does not answer a question
  2    what was asked for cannot be asked
  4    the server cannot be reached
  70   a defect in modelsync
"""
_CHECK = f"""{_ENVIRONMENT}
\b
Exit codes:
  0    every answer is as expected
  1    some are not
  2    the exam cannot be read
  4    the server cannot be reached
  70   a defect in modelsync
"""

T = TypeVar("T")


@click.group("exam", short_help="Record a version's own exam, or take it against a running server.")
def command() -> None:
    """A version's own exam: prompts, and what a good server answers to them.

    A version that brings one (modelsync/golden.jsonl in its artifact) gets no traffic before it has passed it.
    """


@command.command("record", epilog=_RECORD)
@click.argument("url")
@click.option(
    "--prompts",
    required=True,
    type=click.File("r", encoding="utf-8"),
    help="What to ask, one text a line; a line that begins with { is one of an exam, as in the file that is written. "
    "With '-' from the standard input.",
)
@click.option("--completions", is_flag=True, help="Ask texts as prompts, and not through the chat template.")
@click.option("--model", default="", metavar="NAME", help="Which model to ask. [default: what the server lists first]")
@click.option(
    "--max-tokens",
    type=click.IntRange(1, MAX_TOKENS),
    default=DEFAULT_TOKENS,
    show_default=True,
    help="Tokens to record of an answer.",
)
@click.option(
    "--top", type=click.IntRange(1, MAX_TOP), default=3, show_default=True, help="Likeliest tokens to record of each."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, MAX_TOLERANCE, min_open=True),
    default=DEFAULT_TOLERANCE,
    show_default=True,
    help="By how much a log-probability may differ.",
)
def record_command(
    url: str, prompts: Any, completions: bool, model: str, max_tokens: int, top: int, tolerance: float
) -> None:
    """Ask the server at URL, and write what it answers as an exam to the standard output.

    Questions are asked greedily. Ask what shows that the template, the tokenizer and the weights belong together: some
    chats of a few tokens each are enough, up to 200 questions.
    """

    async def run() -> tuple[list[Any], str]:
        async with Server(url, os.environ.get("VLLM_API_KEY", "")) as server:
            name = model or await server.first_model()
            lines = await record(
                text, server.ask, name, chat=not completions, tokens=max_tokens, top=top, tolerance=tolerance
            )
            return list(lines), name

    try:
        text = prompts.read()
    except UnicodeDecodeError:
        raise click.UsageError(f"--prompts {prompts.name}: not UTF-8; write the file in UTF-8") from None
    try:
        lines, name = _run(run())
    except ExamError as error:
        raise click.UsageError(f"--prompts {prompts.name}: {error}") from None
    except RecordingError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_FAILED)
    click.echo(encode(lines).decode(), nl=False)
    count = len(lines) - 1
    told = f"recorded {count} question{'' if count == 1 else 's'} (of at most {MAX_LINES}) from {printable(name)}"
    click.echo(f"{told}; log the file with the model as {GOLDEN_FILE}", err=True)


@command.command("check", epilog=_CHECK)
@click.argument("url")
@click.argument("file", type=click.File("rb"))
@click.option("--model", default="", metavar="NAME", help="Which model to ask. [default: what the server lists first]")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="What to print.")
def check_command(url: str, file: Any, model: str, output: str) -> None:
    """Take the exam in FILE against the server at URL, as a pod does before it is ready."""
    try:
        questions = parse_exam(file.read())
    except ExamError as error:
        raise click.UsageError(f"{file.name}: {error}") from None

    async def run() -> tuple[Verdict, str]:
        async with Server(url, os.environ.get("VLLM_API_KEY", "")) as server:
            first = await server.first_model()
            return await take(questions, server.ask, model or first, told=MAX_LINES), model or first

    verdict, name = _run(run())
    if output == "json":
        click.echo(json.dumps({"model": name, **verdict.document()}, indent=2))
    else:
        _show(verdict, questions, name)
    sys.exit(0 if verdict.state == "Passed" else EXIT_FAILED)


def _show(verdict: Verdict, questions: tuple[Question, ...], name: str) -> None:
    wheres = {question.line: question.where for question in questions}
    for mistake in verdict.mistakes:
        click.echo(f"{printable(wheres[mistake.line])}: {printable(mistake.message)}")
    outcome = click.style("passed", fg="green") if verdict.state == "Passed" else click.style("failed", fg="red")
    counts = (
        f"{verdict.passed} of {verdict.total} answers of {printable(name)} are as expected, in {verdict.seconds:g} s"
    )
    click.echo(f"{outcome}: {counts}")


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except (ExamError, RecordingError):
        raise
    except ServerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_UNREACHABLE)
    except Exception as error:
        click.echo(f"error: {defect(error)}; please report it", err=True)
        sys.exit(EXIT_DEFECT)
