"""Parses Markdown pages for the checks: anchors, links, code spans and code blocks, each with its line.

Anchors are built as on GitHub, where the pages are read.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

_HTML_LINK = re.compile(r"""<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)\s*=\s*["']([^"']+)""")
_NOT_IN_A_SLUG = re.compile(r"[^\w\- ]")


@dataclass(frozen=True, slots=True)
class Found:
    """A part of a page, and its line number, from 1."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the words after the fence, the content, and the line number of the first content line."""

    info: tuple[str, ...]
    text: str
    line: int

    @property
    def language(self) -> str:
        """The first word after the fence; empty if there is none."""
        return self.info[0] if self.info else ""


class Page:
    """One Markdown file. Parsed on first use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")

    @cached_property
    def _tokens(self) -> list[Token]:
        return MarkdownIt("commonmark").enable("table").parse(self.text)

    @cached_property
    def title(self) -> str:
        """The first heading."""
        return next((text for _, text in self._headings()), "")

    @cached_property
    def anchors(self) -> frozenset[str]:
        """The valid anchors in links to this page."""
        return frozenset(slug for _, slug in self._sections)

    def section(self, line: int) -> str:
        """The anchor of the last heading above a line; empty if there is none."""
        return next((slug for start, slug in reversed(self._sections) if start < line), "")

    @cached_property
    def _sections(self) -> Sequence[tuple[int, str]]:
        """The line and the anchor of each heading."""
        seen: dict[str, int] = {}
        found = []
        for line, text in self._headings():
            slug = _NOT_IN_A_SLUG.sub("", text.lower()).replace(" ", "-")
            number = seen.get(slug, 0)
            seen[slug] = number + 1
            found.append((line, f"{slug}-{number}" if number else slug))
        return tuple(found)

    @cached_property
    def links(self) -> Sequence[Found]:
        """Targets of links and pictures, in Markdown and in HTML."""
        return tuple(self._links())

    @cached_property
    def spans(self) -> Sequence[Found]:
        """Code spans."""
        return tuple(
            Found(child.content, self._line_of(f"`{child.content}`", token))
            for token in self._inline()
            for child in token.children or ()
            if child.type == "code_inline"
        )

    @cached_property
    def blocks(self) -> Sequence[Block]:
        """Fenced blocks, in order."""
        return tuple(
            Block(tuple(token.info.split()), token.content, (token.map or [0])[0] + 2)
            for token in self._tokens
            if token.type == "fence"
        )

    def _headings(self) -> Iterator[tuple[int, str]]:
        for opening, token in zip(self._tokens, self._tokens[1:], strict=False):
            if opening.type == "heading_open":
                parts = (child.content for child in token.children or () if child.type in ("text", "code_inline"))
                yield (opening.map or [0])[0] + 1, "".join(parts)

    def _inline(self) -> Iterator[Token]:
        return (token for token in self._tokens if token.type == "inline")

    def _links(self) -> Iterator[Found]:
        for token in self._inline():
            for child in token.children or ():
                target = child.attrGet("href") if child.type == "link_open" else None
                target = child.attrGet("src") if child.type == "image" else target
                if target is not None:
                    yield Found(str(target), self._line_of(str(target), token))
                if child.type == "html_inline":
                    yield from (Found(link, self._line_of(link, token)) for link in _HTML_LINK.findall(child.content))
        for token in self._tokens:
            if token.type == "html_block":
                yield from (Found(link, self._line_of(link, token)) for link in _HTML_LINK.findall(token.content))

    def _line_of(self, needle: str, token: Token) -> int:
        """The line of `needle` within a token's lines; the first one if the source spells it differently."""
        first, end = token.map or [0, 1]
        for number, line in enumerate(self.text.splitlines()[first:end], first + 1):
            if needle in line:
                return number
        return first + 1


def pages(root: Path) -> list[Page]:
    """All pages of the project: at its root and below `docs/`."""
    return [Page(path) for path in (*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md")))]
