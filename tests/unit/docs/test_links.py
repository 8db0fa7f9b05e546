"""Every link in the documentation works, and every page can be reached from the README."""

from pathlib import Path

from docs_runner.links import broken, unreachable
from docs_runner.pages import Page, pages

ROOT = Path(__file__).resolve().parents[3]


def test_every_relative_link_leads_to_a_file_and_a_heading_that_are_there(all_pages: list[Page]) -> None:
    assert not (found := list(broken(all_pages, ROOT))), "\n".join(found)


def test_every_page_can_be_reached_from_the_readme(all_pages: list[Page]) -> None:
    readme = next(page for page in all_pages if page.path == ROOT / "README.md")
    lost = [str(page.path.relative_to(ROOT)) for page in unreachable(all_pages, readme)]
    assert not lost, f"no page links to {', '.join(lost)}; add a link to docs/README.md"


def test_every_page_has_one_title(all_pages: list[Page]) -> None:
    assert [str(page.path) for page in all_pages if not page.title] == []


def test_a_broken_link_is_reported_with_page_and_line(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(
        "# Top\n\nGood: [a](docs/a.md#the-way-x), [b](docs/a.md).\n"
        "Bad: [c](docs/c.md),\n[d](docs/a.md#nowhere), <a href='docs/e.svg'>e</a>.\n"
        "Not ours: [f](https://example.com/x#y).\n"
    )
    (tmp_path / "docs" / "a.md").write_text("# A\n\n## The way, `x`\n")
    assert list(broken(pages(tmp_path), tmp_path)) == [
        "README.md:4: docs/c.md: there is no such file",
        "README.md:5: docs/a.md#nowhere: there is no such heading; there are a, the-way-x",
        "README.md:5: docs/e.svg: there is no such file",
    ]


def test_the_second_heading_of_a_name_has_its_own_anchor(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# Hold\n\n## What `it` does\n\n## Hold\n")
    assert Page(page).anchors == {"hold", "what-it-does", "hold-1"}


def test_a_page_that_only_an_unreachable_page_links_is_unreachable_too(tmp_path: Path) -> None:
    for name, link in (("README", "a"), ("a", "README"), ("b", "c"), ("c", "b")):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\n[next]({link}.md)\n")
    found = pages(tmp_path)
    readme = next(page for page in found if page.path.stem == "README")
    assert [page.path.stem for page in unreachable(found, readme)] == ["b", "c"]
