"""`python -m wandb_standin`: its commands, and its errors for wrong input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wandb_standin import StandIn
from wandb_standin.cli import main


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def ctl(standin: StandIn) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(main, ["ctl", "--url", standin.url, *arguments])


def test_a_version_is_uploaded_linked_aliased_and_tagged(ctl: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    registry = "acme/wandb-registry-model/chat llm"

    steps = [
        ctl("upload", "acme-ml/llm/chat", str(tmp_path), "--alias", "best", "--metadata", '{"accuracy": 0.9}'),
        ctl("link", "acme-ml/llm/chat:best", registry, "--alias", "staging"),
        ctl("alias", f"{registry}:v0", "production"),
        ctl("alias", registry, "staging", "--remove"),
        ctl("tag", f"{registry}:production", "regulatory-hold"),
        ctl("tag", registry, "regulatory-hold v0"),
    ]

    assert [step.output for step in steps if step.exit_code] == []
    assert ctl("list").output.splitlines() == [
        f"{registry}  [regulatory-hold v0]",
        "  v0    7b094cfd  latest, production  [regulatory-hold]",
        "acme-ml/llm/chat",
        "  v0    7b094cfd  latest, best  [regulatory-hold]",
    ]


def test_a_fault_is_set_shown_and_lifted(ctl: Callable[..., Result]) -> None:
    fault = ctl("fault", "status", "--operation", "Resolve", "--status", "429", "--retry-after", "5").output.strip()

    assert ctl("faults").output.startswith(f'{fault}  status  {{"operation": "Resolve", "status": 429')
    assert ctl("lift", fault).exit_code == 0
    assert ctl("faults").output == ""


def test_the_log_shows_the_requests_of_clients(standin: StandIn, ctl: Callable[..., Result]) -> None:
    from integration.wandb_standin.wire import resolve

    resolve(standin.url, "acme-ml/llm/nothing:best")

    line = ctl("log").output.splitlines()[-1]
    assert "200 alice" in line
    assert line.endswith("Resolve acme-ml/llm/nothing:best")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["alias", "acme-ml/llm/none:v0", "x"], "Error: collection 'none'"),
        (["tag", "chat:v0", "x"], "Error: 'chat' is not entity/project/collection"),
        (["down", "refused"], "Error: down('refused') needs seconds"),
        (["lift", "fault-99"], "Error: no fault 'fault-99'; there are none"),
    ],
)
def test_a_mistake_is_reported_without_a_traceback(
    ctl: Callable[..., Result], tmp_path: Path, arguments: list[str], expected: str
) -> None:
    ctl("upload", "acme-ml/llm/mistakes", str(tmp_path))
    result = ctl(*arguments)

    assert result.exit_code == 1
    assert result.output.startswith(expected)


def test_a_missing_server_is_named() -> None:
    result = CliRunner().invoke(main, ["ctl", "--url", "http://127.0.0.1:9", "list"])

    assert result.exit_code == 1
    assert result.output.startswith("Error: no stand-in answers at http://127.0.0.1:9: ")


def test_a_short_api_key_is_refused() -> None:
    result = CliRunner().invoke(main, ["--api-key", "short"])

    assert result.exit_code == 2
    assert "has 5 characters; W&B's keys have 40 or more" in result.output


def test_the_server_prints_its_address_and_ends_on_sigterm(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    hack = str(Path(__file__).parents[3] / "hack")
    command = [sys.executable, "-m", "wandb_standin", "--port-file", str(port_file)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": hack}, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while not port_file.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        line = process.stdout.readline() if process.stdout else ""
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=10) == 0
    assert f"http://127.0.0.1:{port_file.read_text().strip()};" in line


def test_a_port_in_use_is_reported(standin: StandIn) -> None:
    result = CliRunner().invoke(main, ["--port", str(standin.server.port)])

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: cannot listen on 127.0.0.1:{standin.server.port}: ")
