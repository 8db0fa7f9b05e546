"""Runs the commands in the documentation, and compares their output with the documentation."""

import asyncio
from pathlib import Path

import pytest

from docs_runner.console import Command, commands
from docs_runner.pages import Page
from docs_runner.reader import reader
from docs_runner.running import Typed, type_all
from docs_runner.typed import READERS
from stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = Page(ROOT / "docs" / "quickstart.md")
INSTALLATION = "install-the-operator"


async def test_the_quickstart_and_the_how_tos_print_what_they_show(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One newcomer installs; then each page has its own reader, all at the same time."""

    async def read(name: str, todo: list[Command]) -> Typed:
        return await type_all(todo, folder=tmp_path / name, environment=reader(stage, name, tmp_path / name))

    installing = commands(QUICKSTART, INSTALLATION)
    installed = await read("installation", installing)
    pages = {Path(name).name: commands(Page(ROOT / "docs" / f"{name}.md")) for name in READERS}
    pages["quickstart"] = pages["quickstart"][len(installing) :]
    ended = await asyncio.gather(*(read(name, todo) for name, todo in pages.items()), return_exceptions=True)
    done = {name: typed for name, typed in zip(pages, ended, strict=True) if isinstance(typed, Typed)}
    with capsys.disabled():
        for typed in (installed, *done.values()):
            print(f"\n{typed.table()}")  # noqa: T201
        if "quickstart" in done:
            newcomer = installed.total + done["quickstart"].total
            print(f"a newcomer's path: {newcomer:.0f} s, without reading time")  # noqa: T201
    wrong = [str(problem) for problem in ended if isinstance(problem, BaseException)]
    assert not wrong, "\n\n".join(wrong)
