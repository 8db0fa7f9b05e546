"""The names in the documentation exist: fields, annotations, reasons, flags, metrics, Makefile targets."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from docs_runner import words
from docs_runner.pages import Found, Page
from modelsync.api import names
from modelsync.api.crd import crd
from modelsync.cli import main
from modelsync.kubectl import cli as plugin

ROOT = Path(__file__).resolve().parents[3]

OTHERS = {
    "Api",  # wandb.Api
    "Block",  # of a hold, and Kubernetes' volume mode
    "InPlace",  # KAITO's
    "InferenceService",  # KServe's
    "InvalidSelector",  # of an HPA's condition
    "False",
    "Ignore",  # of an admission policy's failurePolicy
    "True",
    "PartiallyInvalid",  # of an HTTPRoute's condition
    "ReadOnlyMany",  # access modes of a volume
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
    "RequestHeaderModifier",  # a filter of the Gateway API
    "SourceDrifted",  # LLMKube's
    "Surge",  # KAITO's
}
"""CamelCase words of other projects in the pages. Our own must not be listed here."""


def wrong(pages: Iterable[Page], find: Callable[[Page], Iterable[Found]], known: Callable[[str], bool]) -> str:
    """The lines of a failure message, one for each unknown name; empty if there is none."""
    return "\n".join(
        f"{page.path.relative_to(ROOT)}:{found.line}: {found.text}"
        for page in pages
        if not words.is_generated(page)
        for found in find(page)
        if not known(found.text)
    )


def sources() -> str:
    """All of the operator's code."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "operator").rglob("*.py")))


def test_every_annotation_and_label_of_ours_is_in_the_code(all_pages: list[Page]) -> None:
    known = words.known_keys(ROOT) | {f"{names.GROUP}/{names.KIND}"}  # group and kind, as Argo CD names an action
    assert not (found := wrong(all_pages, words.keys, known.__contains__)), found


def test_every_reason_condition_and_value_is_in_the_code(user_pages: list[Page]) -> None:
    known = words.known_words(ROOT) | OTHERS
    found = wrong(user_pages, words.reasons, known.__contains__)
    assert not found, f"{found}\n(add words of Kubernetes or other projects to OTHERS in this test)"


def test_every_field_is_in_the_resource(user_pages: list[Page]) -> None:
    (version,) = crd()["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    code = sources()  # log events are written like fields
    found = wrong(user_pages, words.fields, lambda path: words.has_field(schema, path) or f'"{path}"' in code)
    assert not found, found


def test_every_metric_of_ours_is_in_the_code(user_pages: list[Page]) -> None:
    code = sources()
    suffixes = ("", "_total", "_bucket", "_sum", "_count")
    known = lambda name: any(name.removesuffix(suffix) in code for suffix in suffixes)  # noqa: E731
    assert not (found := wrong(user_pages, words.metrics, known)), found


def test_every_target_is_in_the_makefile(all_pages: list[Page]) -> None:
    known = words.known_targets((ROOT / "Makefile").read_text())
    assert "test-unit" in known
    assert not (found := wrong(all_pages, words.targets, known.__contains__)), found


def test_every_command_of_ours_and_every_flag_of_it_exists(all_pages: list[Page]) -> None:
    programs = {"modelsync": main, "kubectl modelsync": plugin, "kubectl-modelsync": plugin}
    found = wrong(all_pages, words.commands, lambda command: words.unknown_option(command, programs) is None)
    assert not found, found


@pytest.mark.parametrize(
    ("command", "unknown"),
    [
        ("modelsync pull --digest=x acme/p/c:v1 DIR", None),
        ("modelsync pull --digets=x acme/p/c:v1 DIR", "--digets"),
        ("modelsync exam check http://localhost golden.jsonl", None),
        ("modelsync exma check", "exma"),
        ("vllm serve --no-such-flag", None),
    ],
)
def test_a_misspelt_flag_or_verb_is_found(command: str, unknown: str | None) -> None:
    assert words.unknown_option(command, {"modelsync": main}) == unknown


def test_a_missing_field_is_found() -> None:
    (version,) = crd()["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    found = ["spec.rollout.steps[].match", "rollout.steps[].setWeight", "status.holds[].since"]
    missing = ["spec.rollout.step", "hold.release", "status.nothing"]
    assert [words.has_field(schema, path) for path in found + missing] == [True] * 3 + [False] * 3
