"""An adapter is read in a process apart, and whatever its author wrote costs the operator neither memory nor time."""

import asyncio
import base64
import hashlib
import json
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from modelsync.effects import adapter_process
from modelsync.effects.adapter_process import MEMORY_BYTES, Order, ReadingFailedError, answer, read_apart
from modelsync.puller.digests import Algorithm
from modelsync.puller.inspect_artifact import MAX_MANIFEST_BYTES, Location
from modelsync.resources.adapter_config import AdapterConfig, AdapterRefusedError
from unit.puller.filestore import FileStore, serving

CONFIG = json.dumps({"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}).encode()
GOOD = {"adapter_config.json": CONFIG, "adapter_model.safetensors": b"x"}
KEY = "a signature nobody may see"


@pytest.fixture
def store() -> Iterator[FileStore]:
    with serving() as made:
        yield made


def order(store: FileStore, files: Mapping[str, bytes], manifest: bytes | None = None) -> Order:
    """Have the store serve an artifact with `files`; `manifest` is served instead of theirs."""
    digests = {
        name: base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        for name, content in files.items()
    }
    lines = "".join(f"{name}:{digest}\n" for name, digest in sorted(digests.items()))
    digest = hashlib.md5(b"wandb-artifact-manifest-v1\n" + lines.encode(), usedforsecurity=False).hexdigest()
    if manifest is None:
        contents = {name: {"digest": digests[name], "size": len(content)} for name, content in files.items()}
        manifest = json.dumps({"version": 1, "contents": contents}).encode()
    store.content = {"manifest": manifest, "config": files.get("adapter_config.json", b"")}
    urls = {"adapter_config.json": store.url("config")} if "adapter_config.json" in files else {}
    return Order(Location(digest, Algorithm.MD5, store.url("manifest"), urls), "a test")


def children() -> set[str]:
    return {
        pid
        for each in Path("/proc/self/task").iterdir()
        for pid in (each / "children").read_text().split()
        if "adapter_process" in Path(f"/proc/{pid}/cmdline").read_text()
    }


async def test_a_plain_adapter_is_read(store: FileStore) -> None:
    assert await read_apart(order(store, GOOD)) == AdapterConfig(8)
    assert children() == set()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({**GOOD, "adapter_config.json": b"{}"}, "lacks r"),
        ({"model.safetensors": b"x"}, "no adapter_config.json"),
        ({"adapter_config.json": CONFIG}, "no adapter_model.safetensors"),
        ({**GOOD, "adapter_config.json": b'{"r": 1' + b"0" * 5000 + b"}"}, "300 digits"),
        ({**GOOD, "adapter_config.json": b"[" * 100_000}, "nested"),
        ({**GOOD, "adapter_config.json": json.dumps({"peft_type": "\x1b" * 10_000}).encode()}, "peft_type"),
    ],
)
def test_content_that_no_vllm_loads_is_refused_in_a_short_printable_line(
    store: FileStore, files: Mapping[str, bytes], message: str
) -> None:
    refused = answer(order(store, files))["refused"]
    assert message in refused
    assert len(refused) <= 500
    assert refused.isprintable()


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b'{"version":1,"contents":[' + b"[]," * 1_300_000 + b"0]}", "not a map of files"),
        (b'{"version":1,"contents":{' + b'"a":{},' * 500_000 + b'"a":{}}}', "names a twice"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "larger than 4 MiB"),
        (b'{"version":' + b"1" * 1_000_000 + b"}", "300 digits"),
    ],
    ids=["lists", "twice", "large", "number"],
)
async def test_a_hostile_manifest_is_refused_and_takes_no_memory_here(
    store: FileStore, manifest: bytes, message: str
) -> None:
    asked = order(store, GOOD, manifest)
    tracemalloc.start()
    try:
        with pytest.raises(AdapterRefusedError, match=message):
            await read_apart(asked)
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**20, "in this process, the list of lists took 100 MiB"
    finally:
        tracemalloc.stop()


async def test_the_names_that_took_841_mib_are_refused(store: FileStore) -> None:
    names = ("/".join([*format(number, "010b"), *("a" * 990)]) for number in range(800))
    with pytest.raises(AdapterRefusedError, match="999 folders deep"):
        await read_apart(order(store, dict.fromkeys(names, b"")))


def test_the_process_cannot_take_more_memory_than_its_limit() -> None:
    code = f"from modelsync.effects.adapter_process import _limit; _limit(); bytearray({MEMORY_BYTES})"
    where = str(Path(adapter_process.__file__).parents[2])
    ended = subprocess.run([sys.executable, "-c", code], cwd=where, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "MemoryError" in ended.stderr


def test_an_adapter_that_needs_more_memory_is_refused(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(adapter_process, "inspect", too_much)
    assert "more than 256 MiB of memory" in answer(order(store, GOOD))["refused"]


async def test_a_store_that_never_ends_its_answer_holds_no_process(store: FileStore) -> None:
    reading = asyncio.create_task(read_apart(order(store, GOOD)))
    store.stalled = True
    await store.until_requested()
    assert len(children()) == 1
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert children() == set()


async def test_a_store_that_is_out_of_reach_is_a_reason_to_try_again_without_its_signed_url(store: FileStore) -> None:
    asked = order(store, GOOD)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    location = Location(asked.location.digest, Algorithm.MD5, f"http://127.0.0.1:{port}/m?key={KEY}", {})
    with pytest.raises(ReadingFailedError, match="Connection refused") as failed:
        await read_apart(Order(location, "a test"))
    assert KEY not in str(failed.value)


async def test_a_process_that_ends_without_an_answer_is_a_reason_to_try_again(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_process, "_START", "import os; os._exit(9)")
    with pytest.raises(ReadingFailedError, match="ended with status 9"):
        await read_apart(order(store, GOOD))


async def test_the_process_gets_no_secret_of_the_operators_environment(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODELSYNC_WEBHOOK_TOKEN", KEY)
    monkeypatch.setattr(
        adapter_process, "_START", "import json, os; print(json.dumps({'failing': ' '.join(os.environ)}), flush=True)"
    )
    with pytest.raises(ReadingFailedError) as failed:
        await read_apart(order(store, GOOD))
    assert "PATH" in str(failed.value)
    assert "MODELSYNC" not in str(failed.value)
