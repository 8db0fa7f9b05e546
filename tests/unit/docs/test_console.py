"""The commands of a page are extracted with their expected output, and run in one shell."""

from pathlib import Path

import pytest

from docs_runner.console import commands, matches
from docs_runner.pages import Page
from docs_runner.running import DocsError, run


def page(folder: Path, text: str) -> Page:
    path = folder / "page.md"
    path.write_text(text)
    return Page(path)


def test_commands_are_found_with_their_lines_and_output(tmp_path: Path) -> None:
    found = commands(
        page(
            tmp_path,
            "# Page\n\n```console run\n$ echo a \\\n  b\na b\n$ cat <<'EOF'\n$ not typed\nEOF\n$ not typed\n"
            "$ true\n```\n\n```console\n$ rm -rf left-alone\n```\n",
        )
    )
    assert [(c.line, c.text, tuple(c.printed)) for c in found[:1]] == [(4, "echo a \\\n  b", ("a b",))]
    assert found[1].text == "cat <<'EOF'\n$ not typed\nEOF"
    assert [c.line for c in found] == [4, 7, 10, 11]


def test_a_block_that_does_not_start_with_a_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"page.md:4: a block to run must start with"):
        commands(page(tmp_path, "# Page\n\n```console run\nkubectl get pods\n```\n"))


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (["NAME   READY", "chat   True"], "NAME          READY\nchat          True\n", True),
        (["chat   v…   10"], "chat   v1-3fa9c1d2   10", True),
        (["first", "…", "last"], "first\n1\n2\nlast\n", True),
        (["first", "…", "last"], "first\nlast\n", True),
        (["first"], "first\nsecond\n", False),
        ([], "", True),
        ([], "surprise", False),
        (["…"], "", True),
        (["a.c"], "abc", False),
    ],
)
def test_output_is_compared_except_for_blanks_and_ellipses(expected: list[str], printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


async def test_one_shell_types_all_commands_of_a_page(tmp_path: Path) -> None:
    text = "# Page\n\n```console run\n$ export WHO=me; cd /\n$ echo $WHO in $PWD, $GIVEN\nme in /, given\n$ cat\n```\n"
    typed = await run(page(tmp_path, text), folder=tmp_path, environment={"GIVEN": "given"})
    assert [command.line for command, _ in typed.seconds] == [4, 5, 7]
    assert "page.md:5  echo $WHO" in typed.table()


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("$ echo one\ntwo\n", "page.md:4: `echo one` should print\ntwo\nand printed\none"),
        ("$ true\n$ false\n", "page.md:5: `false` ended with 1"),
        ("$ exit 3\n", "page.md:4: `exit 3` ended with 3"),
    ],
)
async def test_a_page_that_is_wrong_fails_with_its_line(tmp_path: Path, block: str, message: str) -> None:
    with pytest.raises(DocsError) as wrong:
        await run(page(tmp_path, f"# Page\n\n```console run\n{block}```\n"), folder=tmp_path, environment={})
    assert message in str(wrong.value)


def test_a_page_continues_sections_of_another(tmp_path: Path) -> None:
    first = "# First\n\n## One\n\n```console run\n$ echo 1\n```\n\n## Two\n\n```console run\n$ echo 2\n```\n"
    (tmp_path / "first.md").write_text(first)
    next_page = page(tmp_path, "# Next\n\n<!-- goes on from: first.md#two -->\n\n```console run\n$ echo 3\n```\n")
    assert [(c.page.name, c.line, c.text) for c in commands(next_page)] == [
        ("first.md", 12, "echo 2"),
        ("page.md", 6, "echo 3"),
    ]


def test_a_missing_section_is_reported(tmp_path: Path) -> None:
    (tmp_path / "first.md").write_text("# First\n")
    with pytest.raises(ValueError, match="nothing to run in a section #two"):
        commands(page(tmp_path, "# Next\n\n<!-- goes on from: first.md#two -->\n"))
