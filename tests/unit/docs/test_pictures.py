"""The documentation's pictures exist, are small, are made as the design notes describe, and reveal no machine."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from demo.__main__ import HOLD_PICTURE, ROLLOUT_PICTURE
from generate.__main__ import GENERATED

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ROOT / "docs" / "images"
PICTURES = sorted(path.name for path in IMAGES.iterdir())
MAKERS = dict(
    re.findall(r"^\| `([\w-]+\.svg)` \| (.+?) \|$", (ROOT / "docs/design/documentation.md").read_text(), re.M)
)
KILOBYTES = 150
OF_A_MACHINE = re.compile(r"/(root|home|tmp|work)/|localhost|127\.0\.0\.1|\b10\.\d+\.\d+\.\d+|\b192\.168\.")


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_small_and_reveals_no_machine(name: str) -> None:
    text = (IMAGES / name).read_text(encoding="utf-8")
    assert len(text.encode()) < KILOBYTES * 1024
    assert ElementTree.fromstring(text).tag.endswith("svg")  # noqa: S314  it is our own
    assert not OF_A_MACHINE.search(text)


def test_every_picture_is_shown_and_none_is_missing() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    shown = {
        (page.parent / path).resolve()
        for page in pages
        for path in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    assert shown == {IMAGES / name for name in PICTURES}


def test_the_design_notes_list_how_each_picture_is_made() -> None:
    generated = {Path(name).name for name in GENERATED if name.startswith("docs/images/")}
    assert {name for name, maker in MAKERS.items() if maker == "`make generate`"} == generated
    played = {name for name, maker in MAKERS.items() if maker == "`make demo PICTURES=docs/images`"}
    assert played == {ROLLOUT_PICTURE, HOLD_PICTURE}
    assert "PICTURES" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert sorted(MAKERS) == PICTURES
