"""The server never loads a whole file into memory, since it runs permanently beside a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.wandb_standin.wire import file_urls, send
from wandb_standin import Admin

FILE_BYTES = 128 << 20
GROWTH_BYTES = 32 << 20


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[Admin, int]]:
    """A server in its own process, with its pid."""
    port_file, hack = tmp_path / "port", str(Path(__file__).parents[3] / "hack")
    command = [sys.executable, "-m", "wandb_standin", "--port-file", str(port_file), "--blobs", str(tmp_path / "blobs")]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": hack}, stdout=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 30
        while not port_file.exists():
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield Admin(f"http://127.0.0.1:{port_file.read_text().strip()}"), running.pid
        running.terminate()


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_a_large_file_passes_in_and_out_without_being_held(process: tuple[Admin, int], tmp_path: Path) -> None:
    admin, pid = process
    folder = tmp_path / "model"
    folder.mkdir()
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(FILE_BYTES)
    before = peak_bytes(pid)

    admin.log_artifact("acme-ml", "llm", "large", folder)
    url = file_urls(admin.url, "acme-ml/llm/large:v0")["model.safetensors"]
    assert len(send(url).body) == FILE_BYTES
    with admin.fault("corrupt", file="model.safetensors", offset=FILE_BYTES - 1):
        assert send(url).body[-2:] == b"\0\xff"

    assert peak_bytes(pid) - before < GROWTH_BYTES
