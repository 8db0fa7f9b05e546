"""The middleware's package is written atomically, however often and whatever the folder already contains."""

import os
from pathlib import Path

import pytest

from modelsync import middleware
from modelsync.puller.errors import PullError
from modelsync.puller.middleware_folder import place_middleware


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_file_is_placed_readable_for_everyone(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        placed = place_middleware(tmp_path / "modelsync")
    finally:
        os.umask(before)

    assert placed == tmp_path / "modelsync" / "modelsync_middleware"
    assert contents(placed) == middleware.files()
    assert {path.stat().st_mode & 0o777 for path in placed.iterdir()} == {0o444}
    assert placed.stat().st_mode & 0o777 == 0o755


def test_placing_it_again_leaves_one_copy(tmp_path: Path) -> None:
    place_middleware(tmp_path)

    assert contents(place_middleware(tmp_path)) == middleware.files()
    assert len(list(tmp_path.iterdir())) == 2  # the link and what it names


def test_what_a_killed_puller_left_is_not_used(tmp_path: Path) -> None:
    folder = os.readlink(place_middleware(tmp_path / "other"))
    left = tmp_path / f"{folder}.{os.getpid()}.part"  # the first process of a container always has the same id
    left.mkdir()
    (left / "fuse.py").write_bytes(b"half")

    assert contents(place_middleware(tmp_path)) == middleware.files()


def test_another_version_replaces_it_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place_middleware(tmp_path)
    monkeypatch.setattr(middleware, "files", lambda: {"__init__.py": b"VersionHeader = None\n"})

    placed = place_middleware(tmp_path)

    assert contents(placed) == {"__init__.py": b"VersionHeader = None\n"}


def test_an_unwritable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(PullError, match="the middleware cannot be placed at"):
        place_middleware(tmp_path / "file")
