"""`modelsync pull` against a W&B server, as a user and as an init container run it."""

import json
import os
import pty
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from modelsync.middleware import PACKAGE, files
from wandb_standin import Admin, StandIn

Contents = Callable[[Path], dict[str, bytes]]

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "original/params.json": b"{}",
    "original/deep/er/empty.txt": b"",
    "Ünï code name.bin": bytes(range(256)) * 10,
    "same content.bin": bytes(range(256)) * 10,
    "model-00001.safetensors": random.Random(1).randbytes(3_000_000),
    "model-00002.safetensors": random.Random(2).randbytes(1_500_001),
}


@pytest.mark.parametrize("algorithm", ["MD5", "XXH128"])
@pytest.mark.parametrize("linked", [False, True], ids=["plain", "registry"])
def test_it_equals_what_wandbs_own_download_gives(
    pull: Any,
    admin: Admin,
    collection: str,
    tmp_path: Path,
    contents: Contents,
    oracle: Any,
    algorithm: Any,
    linked: bool,
) -> None:
    version = admin.log_artifact("acme-ml", "llm", collection, FILES, algorithm=algorithm, aliases=["production"])
    reference = f"acme-ml/llm/{collection}"
    if linked:
        reference = f"acme/wandb-registry-model/{collection} linked"
        admin.link(version, reference, aliases=["production"])

    done = pull(f"{reference}:production", tmp_path / "model")

    assert done.code == 0, done.err
    assert contents(tmp_path / "model") == oracle(f"{reference}:production") == FILES
    document = done.document
    assert (document["outcome"], document["digest"], document["files"]) == ("Pulled", version.digest, len(FILES))
    assert document["bytes"] == sum(map(len, FILES.values()))
    assert document["ref"] == f"{reference}:v0"


def test_an_init_container_pulls_by_id_and_leaves_its_result_in_place(
    pull: Any, admin: Admin, collection: str, tmp_path: Path, contents: Contents
) -> None:
    version = admin.log_artifact("acme-ml", "llm", collection, FILES)
    log = tmp_path / "termination-log"
    log.touch()
    inode = log.stat().st_ino
    target = tmp_path / "models" / version.digest

    done = pull("--artifact-id", version.artifact_id, "--digest", version.digest, "--ref", version.path,
                "--result", log, "--middleware-dir", tmp_path / "middleware", target)  # fmt: skip

    assert done.code == 0, done.err
    assert contents(target) == FILES
    assert json.loads(log.read_text()) == done.document
    assert log.stat().st_ino == inode
    assert log.stat().st_size <= 4096
    placed = {path.name: path.read_bytes() for path in (tmp_path / "middleware" / PACKAGE).iterdir()}
    assert placed == files()


def test_what_is_published_needs_no_registry_and_no_key(
    pull: Any, admin: Admin, collection: str, tmp_path: Path
) -> None:
    version = admin.log_artifact("acme-ml", "llm", collection, FILES)
    arguments = ("--artifact-id", version.artifact_id, "--digest", version.digest, tmp_path / "model")
    assert pull(*arguments).code == 0
    pull.env = {"WANDB_BASE_URL": "unset", "WANDB_API_KEY": "unset"}

    done = pull(*arguments, "--middleware-dir", tmp_path / "middleware")

    assert done.code == 0, done.err
    assert done.document["outcome"] == "AlreadyPublished"
    assert (tmp_path / "middleware" / PACKAGE / "__init__.py").exists()


def test_a_reference_whose_version_is_published_asks_once_and_fetches_nothing(
    pull: Any, admin: Admin, collection: str, tmp_path: Path
) -> None:
    admin.log_artifact("acme-ml", "llm", collection, FILES, aliases=["production"])
    assert pull(f"acme-ml/llm/{collection}:production", tmp_path / "model").code == 0
    before = admin.last_request()

    assert pull(f"acme-ml/llm/{collection}:production", tmp_path / "model").document["outcome"] == "AlreadyPublished"

    assert not admin.requests(since=before, operation="download")


def test_the_next_version_fetches_only_the_files_that_changed(
    pull: Any, admin: Admin, collection: str, tmp_path: Path, contents: Contents
) -> None:
    admin.log_artifact("acme-ml", "llm", collection, FILES)
    changed = FILES | {"model-00002.safetensors": random.Random(3).randbytes(200_000)}
    admin.log_artifact("acme-ml", "llm", collection, changed)
    assert pull(f"acme-ml/llm/{collection}:v0", tmp_path / "v0").code == 0
    before = admin.last_request()

    done = pull(f"acme-ml/llm/{collection}:v1", tmp_path / "v1")

    assert contents(tmp_path / "v1") == changed
    fetched = [request.refs for request in admin.requests(since=before, operation="download")]
    assert len(fetched) == 2, fetched  # the manifest and the file
    assert done.document["bytes"] - done.document["reused_bytes"] == 200_000


def test_a_damaged_neighbour_is_not_believed(
    pull: Any, admin: Admin, collection: str, tmp_path: Path, contents: Contents
) -> None:
    admin.log_artifact("acme-ml", "llm", collection, FILES)
    admin.log_artifact("acme-ml", "llm", collection, FILES | {"new": b"1"})
    assert pull(f"acme-ml/llm/{collection}:v0", tmp_path / "v0").code == 0
    victim = tmp_path / "v0" / "model-00001.safetensors"
    victim.chmod(0o644)
    with victim.open("r+b") as file:
        file.write(b"changed")
    victim.chmod(0o444)

    assert pull(f"acme-ml/llm/{collection}:v1", tmp_path / "v1").code == 0

    assert contents(tmp_path / "v1") == FILES | {"new": b"1"}


def test_a_changed_file_is_found_by_verify(pull: Any, admin: Admin, collection: str, tmp_path: Path) -> None:
    admin.log_artifact("acme-ml", "llm", collection, FILES)
    arguments = (f"acme-ml/llm/{collection}:v0", tmp_path / "model", "--verify")
    assert pull(*arguments).code == 0
    assert pull(*arguments).document["outcome"] == "AlreadyPublished"
    victim = tmp_path / "model" / "config.json"
    victim.chmod(0o644)
    victim.write_bytes(FILES["config.json"].swapcase())

    done = pull(*arguments)

    assert (done.code, done.document["outcome"], done.document["file"]) == (4, "PublishedChanged", "config.json")


def test_two_pulls_into_one_place_fetch_once(
    pull: Any, admin: Admin, collection: str, tmp_path: Path, contents: Contents
) -> None:
    admin.log_artifact("acme-ml", "llm", collection, {"a": b"x" * 1000})
    before = admin.last_request()
    with admin.fault("slow", operation="download", delay=1.0):
        started = [pull.start(f"acme-ml/llm/{collection}:v0", tmp_path / "model") for _ in range(2)]
        done = [pull.finish(process) for process in started]

    assert sorted(each.document["outcome"] for each in done) == ["AlreadyPublished", "Pulled"]
    assert contents(tmp_path / "model") == {"a": b"x" * 1000}
    assert len(admin.requests(since=before, operation="download")) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    assert "another pull is working on" in "".join(each.err for each in done)


def test_who_may_only_read_the_registry_can_pull_through_it(
    pull: Any, admin: Admin, standin: StandIn, collection: str, tmp_path: Path, contents: Contents
) -> None:
    version = admin.log_artifact("acme-ml", "llm", collection, FILES)
    admin.link(version, f"acme/wandb-registry-model/{collection}", aliases=["production"])
    pull.key = "r" * 40
    admin.add_user("reader", pull.key, roles={"acme/wandb-registry-model": "viewer"})
    before = admin.last_request()

    done = pull(f"acme/wandb-registry-model/{collection}:production", tmp_path / "model")

    assert done.code == 0, done.err
    assert contents(tmp_path / "model") == FILES
    # wandb's own client requests files through the link too; by id a server may hide them from this user.
    asked = {request.operation for request in admin.requests(since=before, operation="ModelsyncPullFiles*")}
    assert asked == {"ModelsyncPullFiles"}


def test_a_log_gets_lines_and_no_bar(pull: Any, admin: Admin, collection: str, tmp_path: Path) -> None:
    admin.log_artifact("acme-ml", "llm", collection, FILES)
    with admin.fault("slow", operation="download", delay=6.0, file="config.json"):
        done = pull(f"acme-ml/llm/{collection}:v0", tmp_path / "model")
    assert done.code == 0
    assert "fetching: 6 of 7 files, 4.3 MiB of 4.3 MiB" in done.err
    assert "\x1b" not in done.err


def test_a_terminal_gets_a_bar(pull: Any, admin: Admin, collection: str, tmp_path: Path) -> None:
    admin.log_artifact("acme-ml", "llm", collection, FILES)
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def look() -> None:
        with suppress(OSError):  # the end of a terminal
            while data := os.read(ours, 4096):
                shown.append(data)

    looking = threading.Thread(target=look)
    looking.start()
    pull.env = {"TERM": "xterm", "COLUMNS": "120"}
    process = pull.start(f"acme-ml/llm/{collection}:v0", tmp_path / "model", stderr=theirs)
    os.close(theirs)
    assert process.wait(60) == 0
    looking.join(60)
    os.close(ours)
    process.stdout.close()
    assert b"\x1b" in b"".join(shown)
    assert b"files" in b"".join(shown)


def test_a_server_from_before_xxh128_is_understood(
    pull: Any, admin: Admin, collection: str, tmp_path: Path, contents: Contents
) -> None:
    admin.log_artifact("acme-ml", "llm", collection, FILES)
    refusal = 'Cannot query field "digestAlgorithm" on type "Artifact".'
    with admin.fault("status", operation="ModelsyncPullArtifact", status=400, message=refusal, times=1):
        done = pull(f"acme-ml/llm/{collection}:v0", tmp_path / "model")
    assert done.code == 0, done.err
    assert contents(tmp_path / "model") == FILES
