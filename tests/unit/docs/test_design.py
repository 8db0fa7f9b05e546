"""docs/design/README.md lists every room and every invariant, and has every section that the repository cites."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs_runner.pages import Page
from model.invariants import ON_ACTIONS
from model.search import GOAL, QUIET

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "design" / "README.md"
PACKAGE = ROOT / "operator" / "modelsync"
FOLDERS = ("operator", "hack", "tests", "docs")
SUFFIXES = {".json", ".log", ".md", ".py", ".tpl", ".toml", ".yaml", ".yml"}

CITATION = re.compile(r'docs/design/README\.md, "([^"]+)"')
LINE_BREAK = re.compile(r"\s*\n[\s#>]*")
"""With the mark of a comment or a quotation on the next line: a citation may be wrapped."""
OF_VLLM = {"envs.py", "lora/peft_helper.py"}
"""Modules that the pages name and that are not ours."""
OLD_CITATION = re.compile(r"\bDESIGN\b")
"""A file that the repository does not hold."""


def section(title: str) -> str:
    """The text below the heading `title`, up to the next heading of its level."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    return rest.partition("\n## ")[0]


def first_cells(title: str) -> list[str]:
    """The names in the first column of the tables of a section."""
    return re.findall(r"^\| `([^`]+)` \|", section(title), re.M)


def sources() -> Iterator[tuple[Path, str]]:
    """Every text file that may cite the design, except this one."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*"))]
    for path in (*files, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "pyproject.toml"):
        if path.suffix in SUFFIXES and path.is_file() and path != Path(__file__).resolve():
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")


def citations(text: str) -> list[str]:
    """The titles of the sections that `text` cites."""
    return CITATION.findall(LINE_BREAK.sub(" ", text))


def test_every_room_has_one_row_and_every_row_is_a_room() -> None:
    packages = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    modules = [path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")]
    assert sorted(first_cells("Rooms")) == sorted(packages + modules)


def test_every_invariant_has_one_row_and_every_row_is_an_invariant() -> None:
    assert first_cells("Invariants") == [*(invariant.__name__ for invariant in ON_ACTIONS), GOAL, QUIET]


def test_every_module_that_a_design_page_names_is_there(all_pages: list[Page]) -> None:
    ours = [f"/{path.relative_to(ROOT)}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    wrong = [
        f"{page.path.relative_to(ROOT)}:{span.line}: {span.text}"
        for page in all_pages
        if page.path.parent == PAGE.parent
        for span in page.spans
        if re.fullmatch(r"[\w/]+\.py", span.text) and span.text not in OF_VLLM
        if not any(path.endswith(f"/{span.text}") for path in ours)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_section_that_is_cited_is_there() -> None:
    titles = set(re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.M))
    wrong = [f"{path}: {title!r}" for path, text in sources() for title in citations(text) if title not in titles]
    assert not wrong, "docs/design/README.md has no such section:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    "text",
    [
        '"""Holds (docs/design/README.md, "Going back").',
        '"""Holds: they stay until shown gone (docs/design/README.md,\n    "Going back").',
        '# docs/design/README.md, "Going\n# back"',
    ],
)
def test_a_citation_is_found_also_when_it_is_wrapped(text: str) -> None:
    assert citations(text) == ["Going back"]


def test_nothing_cites_a_design_that_is_not_in_the_repository() -> None:
    wrong = [
        f"{path}:{number}: {line.strip()}"
        for path, text in sources()
        for number, line in enumerate(text.splitlines(), 1)
        if OLD_CITATION.search(line)
    ]
    assert not wrong, "cite docs/design/README.md and a section instead:\n" + "\n".join(wrong)
