"""Several pulls into one folder, as pods on one claim do: one transfer, even if processes die or are paused."""

import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from integration.puller.test_failures import LARGE, wait_until
from wandb_standin import Admin

QUICK = """
from modelsync.puller import lease
lease.BEAT_SECONDS, lease.EXPIRY_SECONDS = 0.1, 1.0
"""
"""A lease that expires after a second."""


@pytest.fixture
def model(admin: Admin, collection: str) -> list[object]:
    """A pod's arguments for a version with a large file."""
    logged = admin.log_artifact("acme-ml", "llm", collection, {"config.json": b"{}", "large.bin": LARGE})
    return ["--artifact-id", logged.artifact_id, "--digest", logged.digest, "--repair"]


@pytest.fixture
def small(admin: Admin, collection: str) -> list[object]:
    """Like `model`, with a smaller file."""
    files = {"config.json": b"{}", "large.bin": LARGE[: 3 * 2**20]}
    logged = admin.log_artifact("acme-ml", "llm", collection, files)
    return ["--artifact-id", logged.artifact_id, "--digest", logged.digest, "--repair"]


def elsewhere(name: str) -> str:
    """A prelude that makes a process look like on another machine: the death of others cannot be proved."""
    named = f"type('', (), {{'nodename': {name!r}}})()"
    return f"{QUICK}\nlease._process = lambda pid: ''\nlease.os.uname = lambda: {named}\n"


def test_of_pods_that_start_at_once_one_pulls_and_the_others_wait_and_show_it(
    pull: Any, admin: Admin, model: list[object], tmp_path: Path
) -> None:
    fault = admin.add_fault("truncate", file="large.bin", offset=30 * 2**20)
    running = []
    for name in ("pod-a", "pod-b", "pod-c", "pod-d"):
        pull.prelude = elsewhere(name)
        with (tmp_path / f"{name}.err").open("w") as err:
            arguments = ("--connections", 1, "--pod-uid", name, *model, tmp_path / "claim/model")
            running.append(pull.start(*arguments, stderr=err))
    logs = [tmp_path / f"{name}.err" for name in ("pod-a", "pod-b", "pod-c", "pod-d")]
    wait_until(lambda: sum("another pull is working on" in path.read_text() for path in logs) == 3)
    wait_until(lambda: sum("waiting for the pull of pod-" in path.read_text() for path in logs) == 3)
    admin.lift_fault(fault)
    outcomes = []
    for process in running:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, [path.read_text() for path in logs]
        outcomes.append(json.loads(out)["outcome"])
    assert sorted(outcomes) == ["AlreadyPublished"] * 3 + ["Pulled"], "one transfer for all"
    assert [path.name for path in (tmp_path / "claim").iterdir()] == ["model"]
    assert (tmp_path / "claim/model/large.bin").read_bytes() == LARGE


def test_when_the_one_that_pulls_dies_another_goes_on_from_there(
    pull: Any, admin: Admin, model: list[object], tmp_path: Path
) -> None:
    fault = admin.add_fault("truncate", file="large.bin", offset=30 * 2**20)
    pull.prelude = elsewhere("pod-a")
    first = pull.start("--connections", 1, "--pod-uid", "a", *model, tmp_path / "model")
    staging = tmp_path / ".model.modelsync"
    wait_until(lambda: any(str(30 * 2**20) in path.read_text() for path in staging.glob("work-*/*.ranges.part")))
    pull.prelude = elsewhere("pod-b")
    second = pull.start("--connections", 1, "--pod-uid", "b", *model, tmp_path / "model")
    first.kill()
    first.communicate()
    admin.lift_fault(fault)
    done = pull.finish(second)
    assert done.code == 0, done.err
    assert done.document["reused_bytes"] >= 30 * 2**20
    assert (tmp_path / "model/large.bin").read_bytes() == LARGE
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_one_that_stood_still_and_wakes_up_later_changes_nothing(
    pull: Any, admin: Admin, model: list[object], tmp_path: Path
) -> None:
    fault = admin.add_fault("truncate", file="large.bin", offset=30 * 2**20)
    pull.prelude = elsewhere("pod-a")
    first = pull.start("--connections", 1, "--pod-uid", "a", *model, tmp_path / "model")
    staging = tmp_path / ".model.modelsync"
    wait_until(lambda: any(str(30 * 2**20) in path.read_text() for path in staging.glob("work-*/*.ranges.part")))
    first.send_signal(signal.SIGSTOP)
    admin.lift_fault(fault)
    pull.prelude = elsewhere("pod-b")
    second = pull("--connections", 1, "--pod-uid", "b", *model, tmp_path / "model")
    published = (tmp_path / "model/large.bin").stat()
    first.send_signal(signal.SIGCONT)
    woken = pull.finish(first)
    assert (second.code, second.document["outcome"]) == (0, "Pulled"), second.err
    assert (woken.code, woken.document["outcome"]) == (0, "AlreadyPublished"), woken.err
    after = (tmp_path / "model/large.bin").stat()
    assert (after.st_ino, after.st_mtime_ns) == (published.st_ino, published.st_mtime_ns)
    assert (tmp_path / "model/large.bin").read_bytes() == LARGE
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


STAGES: dict[str, str] = {
    "with the lease empty": "lease.Lease._content = kill",
    "with the lease": "work_folder.WorkFolder.begin = kill",
    "with a file fetched and not yet named": "os.fchmod = kill",
    "with files named and nothing put together": "staging.Staging.publish = kill",
    "while it puts the folder together": "staging.link_or_copy = kill",
    "with the folder not yet marked": "staging.write_marker = kill",
    "with the folder marked and not yet named": "staging.publish = kill",
    "with the folder named and nothing cleaned up": "staging.Staging._clean = kill",
    "with all cleaned up but the lease": "lease.Lease.release = kill",
}


@pytest.mark.parametrize(
    ("stage", "place"),
    [
        *((stage, "another machine") for stage in STAGES),
        ("with the lease", "the same pod"),
        ("while it puts the folder together", "the same pod"),
        ("with the folder named and nothing cleaned up", "the same pod"),
    ],
)
def test_after_a_kill_at_any_stage_the_next_pull_publishes_the_whole_and_leaves_nothing(
    pull: Any, small: list[object], tmp_path: Path, stage: str, place: str
) -> None:
    kill = "import os, signal\ndef kill(*args, **options): os.kill(os.getpid(), signal.SIGKILL)\n"
    modules = "from modelsync.puller import lease, staging, work_folder\n"
    pull.prelude = f"{elsewhere('pod-a')}{kill}{modules}{STAGES[stage]}\n"
    killed = pull.start("--pod-uid", "a", *small, tmp_path / "model")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    pull.prelude = elsewhere("pod-b")
    done = pull("--pod-uid", "a" if place == "the same pod" else "b", *small, tmp_path / "model")
    assert done.code == 0, done.err
    assert (tmp_path / "model/large.bin").read_bytes() == LARGE[: 3 * 2**20]
    left = {path.name for path in tmp_path.iterdir()} - {"model"}
    # If a pod's death cannot be proved at once, its empty lease may stay until the next pull.
    assert not left or (place == "another machine" and stage.startswith(("with the folder named", "with all cleaned")))


def test_where_neither_links_nor_shared_locks_are_to_be_had_it_is_just_as_whole(
    pull: Any, admin: Admin, model: list[object], tmp_path: Path
) -> None:
    pull.prelude = f"""{elsewhere("pod-a")}
import fcntl, os
def refused(*args, **options): raise PermissionError(1, "Operation not permitted")
os.link = fcntl.flock = fcntl.lockf = os.copy_file_range = refused
"""
    done = pull("--pod-uid", "a", *model, tmp_path / "model")
    assert done.code == 0, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model/large.bin").read_bytes() == LARGE


@pytest.fixture
def published(pull: Any, model: list[object], tmp_path: Path) -> Path:
    assert pull(*model, tmp_path / "model").code == 0
    return tmp_path / "model"


def flip(path: Path) -> None:
    """Change one byte in the middle, as a broken disk would."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(5)
        file.write(bytes([LARGE[5] ^ 1]))


def test_a_published_folder_is_proved_from_the_disk_with_the_registry_away(
    pull: Any, admin: Admin, model: list[object], published: Path
) -> None:
    pull.url, pull.env = "http://127.0.0.1:9", {"WANDB_API_KEY": "unset"}
    done = pull(*model, published)
    assert (done.code, done.document["outcome"]) == (0, "AlreadyPublished"), done.err
    os.utime(published / "large.bin")
    assert pull(*model, published).code == 0, "a different modification time alone is no change"


@pytest.mark.parametrize(
    "damage", [flip, lambda path: os.truncate(path, 7), lambda path: path.unlink()], ids=["byte", "length", "gone"]
)
def test_damage_is_seen_and_what_is_damaged_fetched_again(
    pull: Any, admin: Admin, model: list[object], published: Path, damage: Callable[[Path], None]
) -> None:
    damage(published / "large.bin")
    before = admin.last_request()
    done = pull(*model, published)
    assert (done.code, done.document["outcome"]) == (0, "Pulled"), done.err
    assert "large.bin" in done.err
    assert "fetched again" in done.err
    assert (published / "large.bin").read_bytes() == LARGE
    assert not admin.requests(since=before, operation="download", ref="*config.json")
    assert [path.name for path in published.parent.iterdir()] == ["model"]


def test_damage_while_the_registry_is_down_is_reported_and_nothing_is_removed(
    pull: Any, model: list[object], published: Path
) -> None:
    os.truncate(published / "large.bin", 7)
    pull.url = "http://127.0.0.1:9"
    done = pull("--retry-for", "0s", *model, published)
    assert (done.code, done.document["outcome"]) == (3, "Unreachable"), done.err
    assert (published / "config.json").read_bytes() == b"{}"


def test_a_full_claim_is_reported_with_the_missing_space(pull: Any, model: list[object], tmp_path: Path) -> None:
    pull.prelude = f"""{QUICK}
from modelsync.puller import staging
staging.Staging.free_bytes = lambda self: 2**20
"""
    done = pull(*model, tmp_path / "model")
    assert (done.code, done.document["outcome"]) == (3, "NoSpace")
    assert "1 MiB free, but 40 MiB are still to be fetched" in done.document["message"]
    assert list(tmp_path.iterdir()) == []


def test_random_kills_of_many_pulls_never_publish_anything_but_the_whole(
    pull: Any, model: list[object], tmp_path: Path
) -> None:
    dice = random.Random(3)
    for round_ in range(2):
        running = []
        for number in range(3):
            pull.prelude = elsewhere(f"pod-{number}")
            running.append(pull.start("--pod-uid", f"{round_}-{number}", *model, tmp_path / "model"))
        for process in dice.sample(running, 2):
            with suppress(subprocess.TimeoutExpired):
                process.wait(dice.uniform(0.3, 1.5))
            process.kill()
        for process in running:
            process.communicate(timeout=60)
        assert any(process.returncode == 0 for process in running)
        assert (tmp_path / "model/large.bin").read_bytes() == LARGE
        shutil.rmtree(tmp_path / "model")
