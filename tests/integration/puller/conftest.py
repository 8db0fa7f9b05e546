"""A W&B stand-in, `modelsync pull` as a process, and the real SDK as the oracle."""

import itertools
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wandb_standin import Admin, StandIn

TIMEOUT_SECONDS = 90


@dataclass
class Pulled:
    """The result of one `modelsync pull`."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The output of `-o json`."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass
class Puller:
    """Runs `modelsync pull` with the environment that a user of W&B has."""

    url: str
    key: str
    env: dict[str, str] = field(default_factory=dict)
    prelude: str = ""
    """Python code to run before the command."""

    def start(self, *arguments: object, **options: Any) -> "subprocess.Popen[str]":
        """Start it, with `-o json` and 30 seconds of retries."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        environment |= {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": self.key, "PYTHONUNBUFFERED": "1"} | self.env
        command = ["pull", "-o", "json", "--retry-for", "30s", *(str(argument) for argument in arguments)]
        return subprocess.Popen(
            [sys.executable, "-c", f"{self.prelude}\nfrom modelsync.cli import main; main()", *command],
            env={name: value for name, value in environment.items() if value != "unset"}
            | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            text=True,
            **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options),
        )

    def finish(self, process: "subprocess.Popen[str]") -> Pulled:
        """Wait for its end."""
        try:
            out, err = process.communicate(timeout=TIMEOUT_SECONDS)
        except BaseException:
            process.kill()
            raise
        assert "Traceback" not in out + err, err
        assert self.key not in out + err
        return Pulled(process.returncode, out, err)

    def __call__(self, *arguments: object, **options: Any) -> Pulled:
        """Run it to its end."""
        return self.finish(self.start(*arguments, **options))


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def admin(standin: StandIn) -> Iterator[Admin]:
    """The server's admin API; faults are removed after each test."""
    client = standin.admin
    yield client
    client.lift_fault()
    client.rate_limit(None)


@pytest.fixture
def pull(standin: StandIn) -> Puller:
    return Puller(standin.url, standin.api_key)


_numbers = itertools.count(1)


@pytest.fixture
def collection() -> str:
    """A collection that no other test uses."""
    return f"chat llm {next(_numbers)}"


def read_folder(folder: Path) -> dict[str, bytes]:
    """Content by name, without our marker."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".modelsync.json"
    }


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    return read_folder


@pytest.fixture
def oracle(standin: StandIn, tmp_path: Path) -> Callable[[str], dict[str, bytes]]:
    """The files that wandb's own `download()` fetches for a reference."""

    def download(reference: str) -> dict[str, bytes]:
        home = tmp_path / "sdk"
        home.mkdir()
        script = """
            import sys, wandb
            artifact = wandb.Api().artifact(sys.argv[1])
            artifact.verify(artifact.download(root=sys.argv[2]))
        """
        folders = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR")
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), reference, str(home / "files")],
            env={name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
            | {name: str(home) for name in (*folders, "HOME")}
            | {"WANDB_BASE_URL": standin.url, "WANDB_API_KEY": standin.api_key, "WANDB_SILENT": "true"}
            | {"WANDB_ERROR_REPORTING": "false"},
            cwd=home,
            check=True,
            timeout=TIMEOUT_SECONDS,
        )
        return read_folder(home / "files")

    return download
