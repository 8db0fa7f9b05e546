"""One server for all tests here, and the real SDK, whose files are in a temporary folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wandb_standin import Admin, StandIn

SDK_FOLDERS = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR")


@pytest.fixture(scope="session")
def standin() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def admin(standin: StandIn) -> Iterator[Admin]:
    """The server's admin API; faults are lifted after each test."""
    client = standin.admin
    yield client
    client.lift_fault()
    client.rate_limit(None)
    client.configure(url_expiry_seconds=3600.0, registry_tag_events=False, xxhash_digests={"acme-ml": False})


@pytest.fixture(scope="module")
def wandb(standin: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The SDK as a user sets it up: `WANDB_BASE_URL` and `WANDB_API_KEY`, with its own home folder.

    None of this may outlive the module: other tests of the process use another home and may use the SDK, too.
    """
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for name in SDK_FOLDERS:
            folder = home / name.lower()
            folder.mkdir()
            patch.setenv(name, str(folder))
        patch.setenv("WANDB_BASE_URL", standin.url)
        patch.setenv("WANDB_API_KEY", standin.api_key)
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.chdir(home)
        import wandb

        yield wandb
        wandb.teardown()


@pytest.fixture(scope="module")
def api(wandb: Any) -> Any:
    return wandb.Api()


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A model with three files, one of them in a folder and one empty."""
    folder = tmp_path / "model"
    (folder / "original").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 700)
    (folder / "original" / "empty.txt").write_bytes(b"")
    return folder


_numbers = itertools.count(1)


@pytest.fixture
def collection() -> str:
    """A collection name that no other test uses."""
    return f"chat-llm-{next(_numbers)}"


def read_folder(folder: Path) -> dict[str, bytes]:
    """Contents by relative name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    return read_folder
