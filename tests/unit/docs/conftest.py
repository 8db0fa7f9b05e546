"""The project's own pages, read once."""

from pathlib import Path

import pytest

from docs_runner.pages import Page, pages

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def all_pages() -> list[Page]:
    """Every page of the project."""
    return pages(ROOT)


@pytest.fixture(scope="session")
def user_pages(all_pages: list[Page]) -> list[Page]:
    """The pages for users: all except the design notes and the changelog, which also mention what does not exist."""
    design, changelog = ROOT / "docs" / "design", ROOT / "CHANGELOG.md"
    return [page for page in all_pages if design not in page.path.parents and page.path != changelog]
