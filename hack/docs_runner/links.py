"""Checks that the documentation's links work, and that every page can be reached.

Only links inside the project are followed: other sites may be down without our fault.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from docs_runner.pages import Page


def broken(pages: Sequence[Page], root: Path) -> Iterator[str]:
    """A message for each relative link whose file or anchor does not exist."""
    by_path = {page.path.resolve(): page for page in pages}
    for page in pages:
        for link in page.links:
            parts = urlsplit(link.text)
            if parts.scheme or parts.netloc:
                continue
            at = f"{page.path.relative_to(root)}:{link.line}: {link.text}"
            target = target_of(page, link.text)
            if not target.exists():
                yield f"{at}: there is no such file"
            elif not target.is_relative_to(root.resolve()):
                yield f"{at}: points outside the project"
            elif parts.fragment and target in by_path and parts.fragment not in by_path[target].anchors:
                near = ", ".join(sorted(by_path[target].anchors))
                yield f"{at}: there is no such heading; there are {near}"


def unreachable(pages: Sequence[Page], start: Page) -> list[Page]:
    """The pages that cannot be reached from `start` by links."""
    by_path = {page.path.resolve(): page for page in pages}
    seen, todo = {start.path.resolve()}, [start]
    while todo:
        page = todo.pop()
        for link in page.links:
            target = target_of(page, link.text)
            if target in by_path and target not in seen:
                seen.add(target)
                todo.append(by_path[target])
    return [page for path, page in by_path.items() if path not in seen]


def target_of(page: Page, link: str) -> Path:
    """The file that a relative link points to."""
    path = unquote(urlsplit(link).path)
    return (page.path.parent / path).resolve() if path else page.path.resolve()
