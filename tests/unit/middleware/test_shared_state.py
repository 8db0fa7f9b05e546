"""State shared by a pod's processes is valid while its process lives, and an unusable folder never raises."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from modelsync.middleware.modelsync_middleware.shared_state import SharedState

ANOTHER = """
import sys
from modelsync.middleware.modelsync_middleware.shared_state import SharedState
shared = SharedState(sys.argv[1])
shared.publish(name=sys.argv[2])
with shared.exclusively("proof") as mine:
    print(mine, len(shared.published()), shared.marked("blown"), flush=True)
    for line in sys.stdin:
        print(shared.mark(line.strip()), flush=True)
"""


class Process:
    """Another process that has joined the folder and runs until it is killed."""

    def __init__(self, folder: Path, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", ANOTHER, str(folder), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        self.saw = self.heard()

    def heard(self) -> list[str]:
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()

    def marks(self, name: str) -> list[str]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        return self.heard()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


Another = Callable[..., Process]


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Another]:
    with ExitStack() as stack:

        def start(name: str = "another") -> Process:
            process = Process(tmp_path, name)
            stack.callback(process.kill)
            return process

        yield start


def test_a_mark_of_one_process_is_seen_by_the_others_and_by_those_that_come_later(
    another: Another, tmp_path: Path
) -> None:
    mine = SharedState(str(tmp_path))
    other = another()
    assert not mine.marked("blown")

    assert other.marks("blown") == ["True"]

    assert mine.marked("blown")
    other.kill()
    assert SharedState(str(tmp_path)).marked("blown")
    assert another("later").saw[2] == "True"


def test_what_a_process_says_holds_until_it_dies_however_it_dies(another: Another, tmp_path: Path) -> None:
    mine = SharedState(str(tmp_path))
    mine.publish(name="mine")
    other = another()
    assert other.saw[1] == "2"
    assert [values["name"] for values in mine.published()] == ["mine", "another"]

    other.kill()

    assert [values["name"] for values in mine.published()] == ["mine"]


def test_a_new_process_clears_away_what_the_dead_left(another: Another, tmp_path: Path) -> None:
    another().kill()
    assert len(list(tmp_path.glob("*.alive"))) == 1

    third = another("third")

    assert third.saw[1] == "1"
    assert len(list(tmp_path.glob("*.alive"))) == len(list(tmp_path.glob("*.json"))) == 1


def test_a_dead_process_with_the_same_id_is_not_taken_for_this_one(tmp_path: Path) -> None:
    """In a container the first process always has the same PID."""
    before = SharedState(str(tmp_path))
    (tmp_path / f"{before._name.partition('-')[0]}-0000.alive").touch()

    assert len(before.published()) == 1


def test_only_one_process_at_a_time_has_a_task_and_a_killed_one_gives_it_up(another: Another, tmp_path: Path) -> None:
    mine = SharedState(str(tmp_path))
    other = another()
    assert other.saw[0] == "True"
    with mine.exclusively("proof") as got:
        assert not got

    other.kill()

    with mine.exclusively("proof") as got:
        assert got
        assert another("third").saw[0] == "False"


def test_without_a_folder_a_process_is_alone() -> None:
    alone = SharedState("")
    alone.publish(a=1)

    assert alone.mark("blown")
    assert alone.marked("blown")
    assert alone.published() == [{"a": 1}]
    with alone.exclusively("proof") as mine:
        assert mine
    assert alone.usable() is None


def test_a_missing_folder_is_reported_and_is_used_once_it_exists(tmp_path: Path) -> None:
    shared = SharedState(str(tmp_path / "state"))

    assert not shared.publish(a=1)
    assert not shared.mark("blown")
    assert shared.marked("blown")
    assert shared.published() == [{"a": 1}]
    assert f"{tmp_path / 'state'}: it cannot be written: No such file" in str(shared.usable())

    (tmp_path / "state").mkdir()

    assert shared.usable() is None
    assert shared.publish(a=2)


def test_a_folder_that_cannot_be_read_any_more_leaves_what_was_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedState(str(tmp_path))

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        for function in ("stat", "open", "listdir", "replace"):
            broken.setattr(f"os.{function}", refuse)
        assert not shared.marked("blown")
        assert not shared.mark("other")
        assert shared.published() == [{}]
        assert "Input/output error" in str(shared.usable())

    assert not shared.marked("blown")
    assert shared.usable() is None, "the problem was temporary"


def test_what_another_process_says_may_be_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SharedState(str(tmp_path))
    monkeypatch.setattr(SharedState, "_lives", lambda *_: True)
    for number, content in enumerate(("", "[1]", '{"a": 1')):
        (tmp_path / f"{number}.alive").touch()
        (tmp_path / f"{number}.json").write_text(content)

    assert shared.published() == [{}, {}, {}, {}]
