"""The real kubectl and Helm accept every command of theirs in the documentation.

With --help added, a program parses its whole command line, does nothing, and reports what it does not know.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from docs_runner import typed
from docs_runner.pages import Page, pages
from localcluster.tools import program
from modelsync.api.settings import parse

ROOT = Path(__file__).resolve().parents[2]


def complaint(words: tuple[str, ...]) -> str | None:
    """The program's error for the command; None if it accepts it."""
    command: list[str | Path] = [program(words[0]), *words[1:], "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return answer.stderr.strip().partition("\n")[0] if answer.returncode else None


def commands() -> Iterator[tuple[str, tuple[str, ...]]]:
    """The place of each command, and the command; only the first of those that differ in names alone."""
    seen = set()
    for page in pages(ROOT):
        for line in typed.lines(page):
            first, *rest = line.words
            form = (first, *rest[:1], *sorted(word for word in rest[1:] if word.startswith("-")))
            if first in ("kubectl", "helm") and rest[:1] != ["modelsync"] and form not in seen:
                seen.add(form)
                yield f"{page.path.relative_to(ROOT)}:{line.line}", line.words


def test_kubectl_and_helm_know_every_command_and_flag_of_the_pages() -> None:
    found = [f"{where}: {problem}" for where, words in commands() if (problem := complaint(words))]
    assert not found, "\n".join(found)


def test_the_kustomization_of_the_page_puts_the_image_and_the_settings_in_their_places(tmp_path: Path) -> None:
    page = Page(ROOT / "docs" / "how-to" / "install.md")
    (shown,) = [block.text for block in page.blocks if "kustomize.config.k8s.io" in block.text]
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    site = tmp_path / "site"
    site.mkdir()
    (site / "kustomization.yaml").write_text(shown)
    built = subprocess.run(
        [program("kubectl"), "kustomize", site],
        capture_output=True,
        text=True,
        check=True,
    )
    objects = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(built.stdout)}
    (container,) = objects["Deployment", "modelsync"]["spec"]["template"]["spec"]["containers"]
    settings = yaml.safe_load(objects["ConfigMap", "modelsync-settings"]["data"]["settings.yaml"])
    assert container["image"] == settings["pullerImage"] == "registry.example.com/modelsync:0.1.0"
    assert parse(settings).allowed_registries == ("https://wandb.example.com",)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("kubectl get pods --forever", "unknown flag: --forever"),
        ("kubectl fetch pods", 'unknown command "fetch"'),
        ("kubectl scale mdep chat --replicas=two", 'invalid argument "two"'),
        ("helm upgrade modelsync helm/modelsync --vals x", "unknown flag: --vals"),
        ("helm uninstall modelsync -n modelsync-system", None),
    ],
)
def test_a_command_that_kubectl_or_helm_does_not_know_is_found(command: str, error: str | None) -> None:
    found = complaint(tuple(command.split()))
    assert found is None if error is None else error in (found or "")
