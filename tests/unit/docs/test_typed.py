"""The commands in the documentation are valid, also in blocks that no test runs."""

from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml

from docs_runner import typed, words
from docs_runner.console import commands
from docs_runner.pages import Page
from modelsync.cli import main
from modelsync.kubectl import cli as plugin

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS: dict[str, click.Command] = {"modelsync": main, "kubectl modelsync": plugin, "kubectl-modelsync": plugin}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = words.known_targets(MAKEFILE)
VALUES = yaml.safe_load((ROOT / "helm" / "modelsync" / "values.yaml").read_text(encoding="utf-8"))


def problems(pages: list[Page], check: Callable[[tuple[str, ...]], str | None]) -> str:
    """A line for each invalid command; empty if there is none."""
    return "\n".join(
        f"{page.path.relative_to(ROOT)}:{line.line}: {line}: {problem}"
        for page in pages
        for line in typed.lines(page)
        if (problem := check(line.words))
    )


def test_every_command_of_ours_is_understood_with_all_its_arguments(all_pages: list[Page]) -> None:
    found = problems(all_pages, lambda line: typed.problem_of_ours(line, PROGRAMS))
    assert not found, found


def test_every_target_and_variable_of_make_is_there(all_pages: list[Page]) -> None:
    assert not (found := problems(all_pages, lambda line: typed.problem_of_make(line, MAKEFILE, TARGETS))), found


def test_every_value_that_helm_is_to_set_is_the_charts(all_pages: list[Page]) -> None:
    assert not (found := problems(all_pages, lambda line: typed.problem_of_helm(line, VALUES))), found


def test_every_file_of_the_project_that_a_command_names_is_there(all_pages: list[Page]) -> None:
    assert not (found := problems(all_pages, lambda line: typed.missing_file(line, ROOT))), found


def test_all_that_is_run_is_typed_by_a_reader(all_pages: list[Page]) -> None:
    there = {(command.page, command.line) for page in all_pages for command in commands(page)}
    read = {
        (command.page, command.line)
        for name in typed.READERS
        for command in commands(Page(ROOT / "docs" / f"{name}.md"))
    }
    assert there == read


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("kubectl modelsync get chat -n prod -w", None),
        ("kubectl modelsync get chat --wach", "--wach"),
        ("kubectl modelsync promote", "Missing argument 'NAME'."),
        ("kubectl modelsync promot chat", "kubectl modelsync has no command promot"),
        ("kubectl modelsync status chat --timeout=soon", "soon"),
        ("modelsync exam check http://localhost golden.jsonl", None),
        ("modelsync exma check", "modelsync has no command exma"),
        ("vllm serve --no-such-flag", None),
        ("make image TAG=x", None),
        ("make image TAGS=x", "the Makefile has no variable TAGS"),
        ("make tset", "the Makefile has no target tset"),
        ("helm upgrade x helm/modelsync --set metrics.podMonitor.enabled=true", None),
        ("helm upgrade x helm/modelsync --set metrics.podMonitor.on=true", "metrics.podMonitor.on is not a value"),
        ("helm upgrade x helm/modelsink", "there is no helm/modelsink"),
    ],
)
def test_an_invalid_command_is_found(line: str, problem: str | None) -> None:
    command = tuple(line.split())
    found = [
        typed.problem_of_ours(command, PROGRAMS),
        typed.problem_of_make(command, MAKEFILE, TARGETS),
        typed.problem_of_helm(command, VALUES),
        typed.missing_file(command, ROOT),
    ]
    assert (problem or "None") in str([each for each in found if each] or None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("kubectl get pods | grep -e 'a b' && echo done", ["kubectl get pods", "grep -e 'a b'", "echo done"]),
        ('canary=$(kubectl get mdep chat -o jsonpath="{.x}") # why', ["kubectl get mdep chat -o jsonpath={.x}"]),
        ("openssl rand -hex 32 > token; rm token 2>&1", ["openssl rand -hex 32", "rm token 2"]),
        ("if ./evaluate --header 'X: 1'; then", ["./evaluate --header 'X: 1'"]),
        ("cat > log.py <<'EOF'", ["cat"]),
    ],
)
def test_the_commands_of_a_line_of_shell_are_found(text: str, found: list[str]) -> None:
    assert [str(typed.Line(words, 1)) for words in typed.simple_commands(text)] == [
        str(typed.Line(tuple(words_of(line)), 1)) for line in found
    ]


def words_of(line: str) -> tuple[str, ...]:
    (only,) = typed.simple_commands(line)
    return only


def test_console_output_and_here_documents_are_not_commands(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# P\n\n```console\n$ cat <<EOF\nmake nothing\nEOF\n$ true \\\n  --x\nmake nothing\n```\n")
    assert [(line.line, str(line)) for line in typed.lines(Page(path))] == [(4, "cat"), (7, "true --x")]
