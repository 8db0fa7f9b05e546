"""Commands against a simulated cluster; golden outputs are rewritten by `pytest tests/unit --update-golden`."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from golden.simulator import POLICY, World
from modelsync.kubectl import PROGRAM as NAME
from modelsync.kubectl import cli
from modelsync.kubectl.cluster import watching
from modelsync.kubectl.view import text
from modelsync.rollout.model import Pause, SetWeight
from unit.kubectl.fake import FakeCluster
from unit.kubectl.scripted import OPEN, PROGRAM, Answer, Script

GOLDEN = Path(__file__).parent / "golden"
OPEN_PAUSE = replace(POLICY, steps=(SetWeight(10), Pause(), SetWeight(50), Pause()))


@dataclass
class Shell:
    """Runs commands as a user would type them."""

    cluster: FakeCluster

    def __call__(self, command: str, *, code: int = 0) -> str:
        """What the command printed, including standard error; asserts its exit code."""
        result = CliRunner().invoke(cli, command.split(), obj=self.cluster, prog_name=NAME)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, f"exit code {result.exit_code}: {result.output}"
        return result.output

    @property
    def world(self) -> World:
        return self.cluster.world


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Nothing is deployed yet; the clock is that of the simulated world."""
    made = Shell(FakeCluster(World(OPEN_PAUSE)))
    monkeypatch.setattr(text, "now", lambda: made.world.now)
    return made


@pytest.fixture
def in_canary(shell: Shell) -> Shell:
    """v1 serves, v2 waits at 10 % to be promoted."""
    world = shell.world
    world.move_alias("v1")
    world.run(minutes=5)
    world.move_alias("v2")
    world.run(minutes=5)
    assert world.status.waiting is not None
    assert world.status.waiting.who == "person"
    return shell


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """A kubectl that gives each answer once, to a call that contains the answer's first part."""
    program = tmp_path / "kubectl"
    program.write_text(PROGRAM.format(python=sys.executable, folder=str(tmp_path), open=OPEN))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join((str(tmp_path), os.environ["PATH"])))
    monkeypatch.setattr(watching, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.05)

    def write(*answers: Answer) -> Path:
        (tmp_path / "answers.json").write_text(json.dumps(answers))
        return tmp_path

    return write


Golden = Callable[[str, str], None]


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares an output with a golden file."""

    def compare(name: str, output: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--update-golden", default=False):
            path.write_text(output, encoding="utf-8")
            return
        assert path.exists(), f"{path.name} is missing; write it with --update-golden and read it"
        assert output == path.read_text(encoding="utf-8")

    return compare
