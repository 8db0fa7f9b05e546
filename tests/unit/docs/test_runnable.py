"""Every block of the documentation that tests run can be parsed."""

from pathlib import Path

from docs_runner.console import commands
from docs_runner.pages import Page

ROOT = Path(__file__).resolve().parents[3]
LANGUAGES = {"", "console", "sh", "yaml", "python", "jsonl", "text", "lua", "promql", "json"}


def test_every_block_that_is_run_can_be_read(all_pages: list[Page]) -> None:
    runnable = [page.path.name for page in all_pages if commands(page)]
    assert "quickstart.md" in runnable


def test_every_block_has_a_kind_that_the_checks_know(user_pages: list[Page]) -> None:
    odd = [
        f"{page.path}:{block.line}: {' '.join(block.info)}"
        for page in user_pages
        for block in page.blocks
        if block.language not in LANGUAGES or block.info[1:] not in ((), ("run",))
    ]
    assert not odd, "\n".join(odd)


def test_the_readme_installs_with_the_command_that_the_quickstart_is_run_with() -> None:
    installing = commands(Page(ROOT / "docs" / "quickstart.md"), "install-the-operator")[0]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert installing.text.splitlines()[0].rstrip("\\ ") in readme
