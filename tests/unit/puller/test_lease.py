import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from modelsync.puller import lease as module
from modelsync.puller.errors import NoSpaceError
from modelsync.puller.lease import Lease, Owner
from modelsync.puller.staging import Staging


class Watch:
    """The monotonic clock of a lease's observer."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    found = Watch()
    monkeypatch.setattr(module, "time", found)
    return found


def elsewhere(token: str = "b" * 32, *, pod: str = "pod-b") -> Owner:
    """A pull on another machine."""
    return Owner(token, pod, "other-boot/pid:[1]/7-100", "node-b")


def test_one_has_it_at_a_time_and_the_next_gets_it_when_it_is_released(tmp_path: Path) -> None:
    first, second = Lease(tmp_path / "lease", elsewhere()), Lease(tmp_path / "lease", Owner.me())
    assert first.try_take()
    assert not second.try_take()
    first.release()
    assert second.try_take()
    assert [path.name for path in tmp_path.iterdir()] == ["lease"]


def test_who_waits_can_say_for_whom_and_how_far_that_is(tmp_path: Path) -> None:
    first, second = Lease(tmp_path / "lease", elsewhere()), Lease(tmp_path / "lease", Owner.me())
    first.try_take()
    second.try_take()
    assert second.holder == "node-b"
    assert first.beat("fetching: 1 of 2 files")
    second.try_take()
    assert second.holder == "node-b: fetching: 1 of 2 files"


def test_a_heartbeat_keeps_it_however_long_it_takes(tmp_path: Path, watch: Watch) -> None:
    first, second = Lease(tmp_path / "lease", elsewhere()), Lease(tmp_path / "lease", Owner.me())
    first.try_take()
    for _ in range(20):
        assert not second.try_take()
        watch.seconds += module.EXPIRY_SECONDS - 1
        assert first.beat()
    assert not second.try_take()


def test_one_whose_heart_has_stopped_loses_it_and_finds_out(tmp_path: Path, watch: Watch) -> None:
    first, second = Lease(tmp_path / "lease", elsewhere()), Lease(tmp_path / "lease", Owner.me())
    first.try_take()
    assert not second.try_take()
    watch.seconds += module.EXPIRY_SECONDS - 1
    assert not second.try_take()
    watch.seconds += 1
    assert second.try_take()
    assert not first.beat()
    first.release()
    assert second.beat(), "who has lost it cannot take it from the next one"
    assert [path.name for path in tmp_path.iterdir()] == ["lease"]


def test_a_clock_that_is_wrong_on_one_machine_takes_nothing_away(tmp_path: Path) -> None:
    first, second = Lease(tmp_path / "lease", elsewhere()), Lease(tmp_path / "lease", Owner.me())
    first.try_take()
    os.utime(tmp_path / "lease", (0, 0))
    assert not second.try_take()


def test_of_two_that_find_it_dead_one_gets_it(tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = Lease(tmp_path / "lease", elsewhere())
    second = Lease(tmp_path / "lease", elsewhere("c" * 32, pod="pod-c"))
    third = Lease(tmp_path / "lease", elsewhere("d" * 32, pod="pod-d"))
    dead.try_take()
    assert not second.try_take()
    assert not third.try_take()
    watch.seconds += module.EXPIRY_SECONDS
    rename = os.rename

    def third_was_faster(source: Path, target: Path) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", rename)
            assert third.try_take()
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", third_was_faster)
        assert not second.try_take()
    assert third.beat()
    assert [path.name for path in tmp_path.iterdir()] == ["lease"]


def test_a_restarted_container_of_the_same_pod_need_not_wait(tmp_path: Path) -> None:
    before = Lease(tmp_path / "lease", elsewhere(pod="pod-a"))
    assert before.try_take()
    assert Lease(tmp_path / "lease", elsewhere("c" * 32, pod="pod-c")).try_take() is False
    assert Lease(tmp_path / "lease", Owner.me(pod="pod-a")).try_take()


def test_the_lease_of_a_killed_process_of_this_machine_is_free_at_once(tmp_path: Path) -> None:
    script = f"""
import pathlib, sys, time
from modelsync.puller.lease import Lease, Owner
assert Lease(pathlib.Path({str(tmp_path / "lease")!r}), Owner.me()).try_take()
print("taken", flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert not Lease(tmp_path / "lease", Owner.me()).try_take()
        process.send_signal(signal.SIGKILL)
    assert Lease(tmp_path / "lease", Owner.me()).try_take()


def test_a_process_id_that_is_used_again_proves_no_life(tmp_path: Path) -> None:
    me = Owner.me()
    place, _, rest = me.process.rpartition("/")
    pid = rest.partition("-")[0]
    earlier = replace(elsewhere(), process=f"{place}/{pid}-1")
    assert earlier.is_dead(seen_by=replace(me, process=f"{place}/1-1"))
    assert not replace(earlier, process=me.process).is_dead(seen_by=replace(me, process=f"{place}/1-1"))
    assert not replace(earlier, process="").is_dead(seen_by=me), "nothing is proved of whom nothing is known"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"token": "../../x", "pod": "", "process": "", "host": ""}'])
def test_a_lease_that_cannot_be_read_expires_like_any_other(tmp_path: Path, watch: Watch, content: bytes) -> None:
    (tmp_path / "lease").write_bytes(content)
    waiting = Lease(tmp_path / "lease", Owner.me())
    assert not waiting.try_take()
    assert waiting.holder == ""
    watch.seconds += module.EXPIRY_SECONDS
    assert waiting.try_take()


def test_a_full_volume_raises_and_blocks_no_other_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(NoSpaceError, match="No space left"):
            Staging(tmp_path / "model").try_lock()
    assert Staging(tmp_path / "model").try_lock()


def left_behind(folder: Path, owner: Owner, content: bytes) -> Path:
    """The state after a killed pull: a lease, and a file with 3 bytes present."""
    work = folder / ".model.modelsync" / f"work-{owner.token}"
    work.mkdir(parents=True)
    (work.parent / "lease").write_text(json.dumps(asdict(owner)))
    (work / "owner").write_bytes(owner.encode())
    (work / "md5-x.part").write_bytes(content)
    (work / "md5-x.ranges.part").write_text("[[0, 3]]")
    return work


def test_files_of_a_pull_that_is_proved_dead_are_gone_on_with_in_place(tmp_path: Path) -> None:
    work = left_behind(tmp_path, elsewhere(pod="pod-a"), b"abcdef")
    node = (work / "md5-x.part").stat().st_ino
    staging = Staging(tmp_path / "model", pod="pod-a")
    assert staging.try_lock()
    taken = next(staging.folder.glob("work-*/md5-x.part"))
    assert (taken.stat().st_ino, taken.with_name("md5-x.ranges.part").read_text()) == (node, "[[0, 3]]")
    assert not work.exists()


def test_files_of_a_pull_that_may_still_live_are_copied_so_that_its_late_writes_hit_nothing(
    tmp_path: Path,
) -> None:
    work = left_behind(tmp_path, elsewhere(), b"abcdef")
    with (work / "md5-x.part").open("r+b", buffering=0) as late:
        staging = Staging(tmp_path / "model", pod="pod-a", expiry=0.0)
        assert staging.try_lock()
        late.write(b"XYZ")
    taken = next(staging.folder.glob("work-*/md5-x.part"))
    assert taken.read_bytes() == b"abc"
    assert not work.exists()


def test_who_has_lost_the_lease_leaves_the_next_pull_its_folder(tmp_path: Path, watch: Watch) -> None:
    first, second = Staging(tmp_path / "model", pod="a"), Staging(tmp_path / "model", pod="b", expiry=0.0)
    assert first.try_lock()
    assert second.try_lock()
    first.unlock()
    assert (second.folder / "objects").is_dir()
    assert second.beat("")


def test_who_waits_leaves_nothing_behind(tmp_path: Path) -> None:
    first, waiting = Staging(tmp_path / "model"), Staging(tmp_path / "model")
    assert first.try_lock()
    assert not waiting.try_lock()
    first.unlock()
    assert list(tmp_path.iterdir()) == []
