"""`modelsync exam`: record a version's exam, and take one against a running server."""

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
  VLLM_API_KEY    the server's API key, if it requires one; it cannot be passed on the command line
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY, SSL_CERT_FILE   as usual
"""
_RECORD = f"""\b
Example:
  modelsync exam record http://localhost:8000 --prompts questions.txt > golden.jsonl
  modelsync exam check http://localhost:8000 golden.jsonl
Then log the file with the model as {GOLDEN_FILE}.

{_ENVIRONMENT}
\b
Exit codes:
  0    recorded
  1    the server did not answer a question
  2    invalid arguments
  4    the server cannot be reached
  70   a defect in modelsync
"""
_CHECK = f"""{_ENVIRONMENT}
\b
Exit codes:
  0    all answers are as expected
  1    some answers are not as expected
  2    the exam cannot be read
  4    the server cannot be reached
  70   a defect in modelsync
"""

T = TypeVar("T")


@click.group("exam", short_help="Record a version's own exam, or take it against a running server.")
def command() -> None:
    """A version's own exam: prompts and their expected answers.

    A version whose artifact contains one (modelsync/golden.jsonl) gets no traffic until it has passed.
    """


@command.command("record", epilog=_RECORD)
@click.argument("url")
@click.option(
    "--prompts",
    required=True,
    type=click.File("r", encoding="utf-8"),
    help="File with the prompts, one per line; a line that starts with { is a line of an exam, in the output format. "
    "'-' reads from standard input.",
)
@click.option("--completions", is_flag=True, help="Send the texts as plain prompts instead of chat messages.")
@click.option(
    "--model", default="", metavar="NAME", help="The model to query. [default: the first one listed by the server]"
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1, MAX_TOKENS),
    default=DEFAULT_TOKENS,
    show_default=True,
    help="Tokens to record per answer.",
)
@click.option(
    "--top",
    type=click.IntRange(1, MAX_TOP),
    default=3,
    show_default=True,
    help="Most likely tokens to record per position.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, MAX_TOLERANCE, min_open=True),
    default=DEFAULT_TOLERANCE,
    show_default=True,
    help="Allowed difference of a log-probability.",
)
def record_command(
    url: str, prompts: Any, completions: bool, model: str, max_tokens: int, top: int, tolerance: float
) -> None:
    """Query the server at URL, and write its answers as an exam to standard output.

    Answers use greedy decoding. Choose prompts that show that the template, the tokenizer and the weights belong
    together: some chats of a few tokens each are enough; the limit is 200 questions.
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
    summary = f"recorded {count} question{'' if count == 1 else 's'} (of at most {MAX_LINES}) from {printable(name)}"
    click.echo(f"{summary}; log the file with the model as {GOLDEN_FILE}", err=True)


@command.command("check", epilog=_CHECK)
@click.argument("url")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--model", default="", metavar="NAME", help="The model to query. [default: the first one listed by the server]"
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="What to print.")
def check_command(url: str, file: Any, model: str, output: str) -> None:
    """Take the exam in FILE against the server at URL, as a pod does before it becomes ready."""
    try:
        questions = parse_exam(file.read())
    except ExamError as error:
        raise click.UsageError(f"{file.name}: {error}") from None

    async def run() -> tuple[Verdict, str]:
        async with Server(url, os.environ.get("VLLM_API_KEY", "")) as server:
            first = await server.first_model()
            return await take(questions, server.ask, model or first, max_mistakes=MAX_LINES), model or first

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
