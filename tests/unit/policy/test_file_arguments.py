"""Which files an argument may name."""

import pytest

from modelsync.policy.file_arguments import path_problems


def problems(value: str, **options: object) -> list[str]:
    given = {"artifacts": ["prompts"]} | options
    return [str(problem) for problem in path_problems([f"--chat-template={value}"], **given)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", ["/artifacts/prompts/chat.jinja", "/artifacts/prompts/de/chat.jinja", "{{ messages[0].content }}", "a\nb"]
)
def test_a_file_of_a_named_side_artifact_and_a_template_as_text_are_fine(value: str) -> None:
    assert problems(value) == []


@pytest.mark.parametrize(
    "value",
    [
        "/etc/passwd",
        "template_chatml.jinja",
        "/models/0123/chat.jinja",
        "/artifacts",
        "/artifacts/prompts",
        "/artifacts/prompts/",
        "/artifacts/prompts/../../etc/passwd",
        "/artifacts/prompts//chat.jinja",
        "/artifacts/./prompts/chat.jinja",
        "/artifactsprompts/chat.jinja",
        "artifacts/prompts/chat.jinja",
        "",
    ],
)
def test_every_other_file_is_refused_with_what_to_write(value: str) -> None:
    (problem,) = problems(value)
    assert problem.startswith(f"spec.serving.args[0]: --chat-template={value} is not allowed")
    assert "/artifacts/<name>/<file>" in problem


def test_an_unknown_side_artifact_is_refused_with_those_of_the_spec() -> None:
    (problem,) = problems("/artifacts/templates/chat.jinja")
    assert "spec.serving.artifacts has no 'templates' (it has: prompts)" in problem
    assert "it has: none" in problems("/artifacts/templates/chat.jinja", artifacts=[])[0]


def test_what_the_administrator_allows_may_name_any_file() -> None:
    assert problems("/opt/templates/chat.jinja", allowed=["--chat-template"]) == []


def test_other_flags_are_no_files() -> None:
    assert list(path_problems(["--max-model-len=8192", "--chat-template-content-format=auto"], [])) == []
