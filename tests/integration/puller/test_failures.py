"""Failures of a pull: each has its outcome, exit code and message, and publishes nothing."""

import random
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wandb_standin import Admin

LARGE = random.Random(7).randbytes(40 * 2**20)


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    waiting, deadline = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        waiting.wait(0.02)


def assert_refused(done: Any, code: int, outcome: str, *words: str) -> None:
    document = done.document
    assert (done.code, document["outcome"]) == (code, outcome), done.err
    for word in words:
        assert word in document["message"], document["message"]
    assert f"error: {document['message']}" in done.err


@pytest.fixture
def model(admin: Admin, collection: str) -> str:
    """A version with a small and a larger file."""
    admin.log_artifact("acme-ml", "llm", collection, {"config.json": b"{}", "w.bin": LARGE[: 3 * 2**20]})
    return f"acme-ml/llm/{collection}:v0"


def test_a_wrong_byte_is_refused_and_nothing_published(pull: Any, admin: Admin, model: str, tmp_path: Path) -> None:
    with admin.fault("corrupt", file="w.bin", offset=2_000_000):
        done = pull(model, tmp_path / "model")
    assert_refused(done, 4, "CorruptFile", "w.bin", "expected", "second time", "nothing was published")
    assert done.document["file"] == "w.bin"
    assert not (tmp_path / "model").exists()
    assert pull(model, tmp_path / "model").code == 0


@pytest.mark.parametrize("offset", [-1, 1])
def test_a_file_of_another_length_is_refused(pull: Any, admin: Admin, model: str, tmp_path: Path, offset: int) -> None:
    with admin.fault("resize", file="w.bin", offset=offset):
        done = pull(model, tmp_path / "model")
    assert_refused(done, 4, "CorruptFile", "w.bin", f"{3 * 2**20 + offset} bytes, expected {3 * 2**20}")
    assert not (tmp_path / "model").exists()


def test_a_manifest_that_is_not_the_artifacts_is_refused(pull: Any, admin: Admin, model: str, tmp_path: Path) -> None:
    with admin.fault("manifest"):
        done = pull(model, tmp_path / "model")
    assert_refused(done, 4, "ManifestMismatch", "not the manifest of this artifact")
    assert list(tmp_path.iterdir()) == []


def test_a_digest_that_is_not_the_artifacts_is_refused(pull: Any, admin: Admin, model: str, tmp_path: Path) -> None:
    version = admin.show(model)
    done = pull("--artifact-id", version.artifact_id, "--digest", "0" * 32, tmp_path / "model")
    assert_refused(done, 4, "ManifestMismatch", version.digest, "0" * 32)


def test_pickled_weights_alone_are_refused_before_a_byte_of_them_is_fetched(
    pull: Any, admin: Admin, collection: str, tmp_path: Path
) -> None:
    admin.log_artifact("acme-ml", "llm", collection, {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    ref, folder = f"acme-ml/llm/{collection}:v0", tmp_path / "model"
    with admin.fault("status", operation="download", file="pytorch_model.bin", status=403):
        done = pull("--weights=*.safetensors", ref, folder)
    assert_refused(done, 4, "PickledWeights", "pytorch_model.bin", "no *.safetensors", "not pulled")
    assert done.document["file"] == "pytorch_model.bin"
    assert not folder.exists()

    assert pull(ref, folder).code == 0, "without a pattern, everything is pulled"
    again = pull("--weights=*.safetensors", ref, folder)
    assert_refused(again, 4, "PickledWeights", "pytorch_model.bin")
    version = admin.show(ref)
    by_id = pull("--weights=*.safetensors", "--artifact-id", version.artifact_id, "--digest", version.digest, folder)
    assert_refused(by_id, 4, "PickledWeights", "pytorch_model.bin")


def test_a_reference_to_a_bucket_is_refused_by_name(pull: Any, admin: Admin, collection: str, tmp_path: Path) -> None:
    admin.log_artifact("acme-ml", "llm", collection, {"a": b"1"}, references={"w.bin": "s3://bucket/w.bin"})
    done = pull(f"acme-ml/llm/{collection}:v0", tmp_path / "model")
    assert_refused(done, 4, "UnsupportedReference", "w.bin is a reference to s3://bucket/w.bin", "add_file")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/outside-of-modelsync", "a//b", ".modelsync.json"])
def test_a_name_that_leads_out_of_the_folder_is_refused(
    pull: Any, admin: Admin, collection: str, tmp_path: Path, name: str
) -> None:
    admin.log_artifact("acme-ml", "llm", collection, {"a": b"1", name: b"2"})
    done = pull(f"acme-ml/llm/{collection}:v0", tmp_path / "inner" / "model")
    assert_refused(done, 4, "UnsafeName", name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inner"]
    assert not Path("/outside-of-modelsync").exists()


def test_cut_connections_expired_urls_and_a_failing_server_cost_time_only(
    pull: Any, admin: Admin, model: str, tmp_path: Path
) -> None:
    admin.add_fault("truncate", file="w.bin", offset=1_000_000, times=1)
    admin.add_fault("expired", file="w.bin", times=1)
    admin.add_fault("expired", file="wandb_manifest.json", times=1)
    admin.add_fault("status", operation="download", status=503, retry_after=0.2, times=2)
    admin.add_fault("status", operation="ModelsyncPull*", status=500, times=1)
    admin.add_fault("status", operation="ModelsyncPull*", status=429, retry_after=1, times=1)
    admin.add_fault("reset", operation="ModelsyncPull*", times=1)
    done = pull(model, tmp_path / "model")
    assert done.code == 0, done.err
    assert (tmp_path / "model" / "w.bin").read_bytes() == LARGE[: 3 * 2**20]
    assert "requesting a fresh URL" in done.err
    assert "retrying in" in done.err
    assert not admin.faults()


def test_urls_that_expire_while_it_runs_are_replaced(pull: Any, admin: Admin, model: str, tmp_path: Path) -> None:
    before = admin.last_request()
    fault = admin.add_fault("truncate", file="w.bin", offset=1_000_000)
    process = pull.start(model, tmp_path / "model")
    admin.wait_for_requests(2, since=before, operation="download", ref="*w.bin*")
    admin.expire_urls()
    admin.lift_fault(fault)
    done = pull.finish(process)
    assert done.code == 0, done.err
    assert "403; requesting a fresh URL" in done.err


def start_and_hold_in_the_middle(pull: Any, admin: Admin, reference: str, tmp_path: Path, *arguments: object) -> Any:
    """A pull that has fetched most of a file of 40 MiB, and cannot fetch the rest."""
    admin.add_fault("truncate", file="large.bin", offset=30 * 2**20)
    process = pull.start("--connections", 1, *arguments, reference, tmp_path / "model")
    held = tmp_path / ".model.modelsync"
    wait_until(lambda: any(str(30 * 2**20) in path.read_text() for path in held.glob("work-*/*.ranges.part")))
    return process


@pytest.fixture
def large(admin: Admin, collection: str) -> str:
    """A version with a file of 40 MiB."""
    admin.log_artifact("acme-ml", "llm", collection, {"config.json": b"{}", "large.bin": LARGE})
    return f"acme-ml/llm/{collection}:v0"


def test_after_a_kill_nothing_looks_published_and_the_next_pull_goes_on(
    pull: Any, admin: Admin, large: str, tmp_path: Path
) -> None:
    process = start_and_hold_in_the_middle(pull, admin, large, tmp_path)
    process.kill()
    process.communicate()
    admin.lift_fault()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.modelsync"]

    done = pull(large, tmp_path / "model")

    assert done.code == 0, done.err
    assert done.document["reused_bytes"] >= 30 * 2**20
    assert (tmp_path / "model" / "large.bin").read_bytes() == LARGE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_sigterm_ends_it_at_once_and_the_next_pull_goes_on(pull: Any, admin: Admin, large: str, tmp_path: Path) -> None:
    result = tmp_path / "result"
    process = start_and_hold_in_the_middle(pull, admin, large, tmp_path, "--result", result)
    asked_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    ended = pull.finish(process)
    assert time.monotonic() - asked_at < 4
    assert_refused(ended, 143, "Interrupted", "SIGTERM", "resumes from there")
    assert '"Interrupted"' in result.read_text()
    admin.lift_fault()

    done = pull(large, tmp_path / "model")

    assert done.code == 0, done.err
    assert done.document["reused_bytes"] >= 30 * 2**20
    assert (tmp_path / "model" / "large.bin").read_bytes() == LARGE


def test_sigterm_is_heard_while_the_registry_is_silent(pull: Any, admin: Admin, model: str, tmp_path: Path) -> None:
    with admin.fault("slow", operation="ModelsyncPull*", delay=20):
        process = pull.start(model, tmp_path / "model")
        wait_until(lambda: any(fault["hits"] for fault in admin.faults()))
        asked_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert_refused(pull.finish(process), 143, "Interrupted")
        assert time.monotonic() - asked_at < 4


def test_sigterm_is_heard_while_the_dns_is_silent(pull: Any, model: str, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    pull.url = "http://wandb.invalid"
    pull.prelude = f"""
import pathlib, socket, time
def silent(*args, **options):
    pathlib.Path({str(asked)!r}).touch()
    time.sleep(60)
socket.getaddrinfo = silent
"""
    process = pull.start(model, tmp_path / "model")
    wait_until(asked.exists)
    asked_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert_refused(pull.finish(process), 143, "Interrupted")
    assert time.monotonic() - asked_at < 4


def test_a_file_size_limit_or_full_volume_is_no_space(pull: Any, large: str, tmp_path: Path) -> None:
    done = pull(large, tmp_path / "model", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20)))
    assert_refused(done, 3, "NoSpace", "large.bin", "File too large", "enlarge the volume")
    assert not (tmp_path / "model").exists()


def test_memory_does_not_grow_with_the_artifact(pull: Any, admin: Admin, collection: str, tmp_path: Path) -> None:
    folder = tmp_path / "logged"
    folder.mkdir()
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(1 << 30)
    admin.log_artifact("acme-ml", "llm", collection, folder)
    peak = tmp_path / "peak"
    # Not the parent's wait4: Linux counts in what the child inherited from it.
    pull.prelude = f"""
import atexit, pathlib
atexit.register(lambda: pathlib.Path({str(peak)!r}).write_text(pathlib.Path("/proc/self/status").read_text()))
"""
    done = pull("--connections", 32, f"acme-ml/llm/{collection}:v0", tmp_path / "model")
    assert done.code == 0, done.err
    assert (tmp_path / "model" / "model.safetensors").stat().st_size == 1 << 30
    mebibytes = next(int(line.split()[1]) for line in peak.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    assert 10 < mebibytes <= 200, f"{mebibytes:.0f} MiB"


def test_an_unknown_alias_is_not_found(pull: Any, model: str, tmp_path: Path) -> None:
    reference = model.replace(":v0", ":production")
    done = pull(reference, tmp_path / "model")
    assert_refused(done, 3, "NotFound", f"has no {reference}", "check the spelling")
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_version_is_not_found(pull: Any, admin: Admin, model: str, tmp_path: Path) -> None:
    version = admin.show(model)
    admin.delete_version(model, keep_membership=True)
    done = pull("--artifact-id", version.artifact_id, "--digest", version.digest, tmp_path / "model")
    assert_refused(done, 3, "NotFound", version.artifact_id)


def test_a_wrong_key_is_denied(pull: Any, model: str, tmp_path: Path) -> None:
    pull.key = "w" * 40
    done = pull(model, tmp_path / "model")
    assert_refused(done, 3, "Denied", "does not accept this API key")


def test_a_truncated_key_is_reported(pull: Any, model: str, tmp_path: Path) -> None:
    pull.key = "short-key"
    done = pull(model, tmp_path / "model")
    assert_refused(done, 2, "InvalidInput", "WANDB_API_KEY must have 40 characters or more, has 9")


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "WANDB_BASE_URL"])
def test_a_missing_setting_is_named(pull: Any, model: str, tmp_path: Path, name: str) -> None:
    pull.env = {name: "unset"}
    assert_refused(pull(model, tmp_path / "model"), 2, "InvalidInput", f"set {name}")


def test_a_server_that_is_not_there_is_given_up(pull: Any, model: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pull.url = f"http://127.0.0.1:{server.getsockname()[1]}"
    done = pull(model, tmp_path / "model", "--retry-for", "1s")
    assert_refused(done, 3, "Unreachable", pull.url, "gave up after")


def test_a_login_page_is_no_server(pull: Any, admin: Admin, model: str, tmp_path: Path) -> None:
    with admin.fault("html", operation="ModelsyncPull*"):
        done = pull(model, tmp_path / "model")
    assert_refused(done, 3, "Unreachable", "is a W&B server")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "modelsync pull REF DIR"),
        (("acme/llm/chat:v0",), "modelsync pull REF DIR"),
        (("acme/llm/chat", "model"), "has no alias"),
        (("--artifact-id", "QQ==", "model"), "must be passed together"),
        (("--digest", "0" * 32, "model"), "must be passed together"),
        (("--artifact-id", "QQ==", "--digest", "0" * 32, "acme/llm/chat:v0", "model"), "only argument"),
        (("--artifact-id", "QQ==", "--digest", "xyz", "model"), "32 hex digits"),
        (("acme/llm/chat:v0", "model", "--retry-for", "soon"), "--retry-for: 'soon' is not a duration"),
        (("acme/llm/chat:v0", "/proc"), "mount point"),
        (("acme/llm/chat:v0", "model", "--ca-file", "/nowhere.pem"), "nowhere.pem"),
    ],
)
def test_what_cannot_be_asked_is_answered_with_what_can(
    pull: Any, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    assert_refused(
        pull(*arguments, cwd=tmp_path), 2, "InvalidInput" if words != "mount point" else "TargetUnusable", words
    )


def test_a_folder_with_other_things_is_left_alone(pull: Any, model: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes").write_text("mine")
    done = pull(model, tmp_path / "model")
    assert_refused(done, 2, "TargetUnusable", "not empty")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["notes"]
