import tracemalloc

import pytest

from modelsync.puller.errors import UnsafeNameError
from modelsync.puller.file_names import MARKER, check_names, shown


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("../model.bin", r"\.\."),
        ("a/../../model.bin", r"\.\."),
        ("a/..", r"\.\."),
        ("a//b", "normalized"),
        ("./a", "normalized"),
        ("a/.", "normalized"),
        ("a/", "normalized"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a\x1b[2Jb", "control character"),
        ("a\x85b", "control character"),
        ("a\u2028b", "control character"),
        ("\ud800", "Unicode"),
        ("a" * 256, "longer than 255 bytes"),
        ("ä" * 128, "longer than 255 bytes"),
        ("/".join(["a" * 200] * 11), "2210 bytes"),
        ("a/" * 65 + "b", "65 folders deep"),
        (MARKER, "reserved"),
        (f"{MARKER}/x", "reserved"),
    ],
)
def test_a_name_that_could_do_harm_is_refused_and_the_reason_given(name: str, why: str) -> None:
    with pytest.raises(UnsafeNameError, match=why) as caught:
        check_names(["config.json", name])
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "a b/ä.bin",
        "..a",
        "a..b",
        "a/...",
        "c:/d",
        "a\\..\\b",
        "x" * 255,
        f"sub/{MARKER}",
        "a/" * 64 + "b",
        "模型.safetensors",
    ],
)
def test_a_plain_relative_name_is_accepted(name: str) -> None:
    check_names([name])


def test_a_name_cannot_be_a_file_and_a_folder_at_once() -> None:
    with pytest.raises(UnsafeNameError, match="a/b both as a file and as a folder"):
        check_names(["a/b/c", "a/b", "a/bc"])


def test_neighbours_with_a_common_beginning_are_no_clash() -> None:
    check_names(["a/b", "a/b.json", "a/bc/d", "ab"])


def test_a_printed_name_holds_nothing_that_moves_a_cursor() -> None:
    assert shown("a\x1b[2J") == r"'a\x1b[2J'"
    assert len(shown("a" * 5000)) == 200


def test_deep_names_take_memory_in_proportion_to_their_length() -> None:
    names = [f"{number:032b}/".replace("0", "a/").replace("1", "b/") + "c/" * 20 + "d" for number in range(3000)]
    names = [name.replace("//", "/") for name in names]
    tracemalloc.start()
    try:
        check_names(names)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * sum(map(len, names)), "a set of all folders takes 30 times as much"
