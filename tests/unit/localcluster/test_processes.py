"""Only started processes are ended: a record contains a pid, its start time and the boot."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

import localcluster.processes
from localcluster.errors import ClusterError
from localcluster.processes import Processes, Record, end, identify

ENVIRONMENT = {"PATH": os.environ["PATH"]}
SLEEP = ("sleep", "1000")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path / "processes")
    yield made
    end(list(made), grace=timedelta())


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEP) as process:
        yield process
        process.kill()


def start(processes: Processes, tmp_path: Path, *command: str, name: str = "one") -> Record:
    processes.start(name, command, environment=ENVIRONMENT, log=tmp_path / "logs" / f"{name}.log")
    record = processes.get(name)
    assert record is not None
    return record


def test_a_started_process_is_recorded_under_the_pid_of_the_program(processes: Processes, tmp_path: Path) -> None:
    record = start(processes, tmp_path, *SLEEP)
    assert record.alive
    assert record.pid != os.getpid()
    assert [found.name for found in processes] == ["one"]


def test_its_output_is_in_its_log(processes: Processes, tmp_path: Path) -> None:
    record = start(processes, tmp_path, "sh", "-c", "echo out; echo err >&2; exec sleep 1000")
    log = tmp_path / "logs" / "one.log"
    while log.read_text() != "out\nerr\n":
        assert record.alive


def test_starting_the_same_command_again_keeps_the_process(processes: Processes, tmp_path: Path) -> None:
    first = start(processes, tmp_path, *SLEEP)
    assert not processes.start("one", SLEEP, environment=ENVIRONMENT, log=tmp_path / "log")
    assert processes.get("one") == first


def test_starting_another_command_under_the_same_name_replaces_the_process(
    processes: Processes, tmp_path: Path
) -> None:
    first = start(processes, tmp_path, *SLEEP)
    second = start(processes, tmp_path, "sleep", "2000")
    assert not first.alive
    assert second.alive


def test_a_process_that_ended_is_started_again(processes: Processes, tmp_path: Path) -> None:
    first = start(processes, tmp_path, *SLEEP)
    end([first])
    assert start(processes, tmp_path, *SLEEP).alive


def test_end_kills_what_ignores_the_request_to_end(processes: Processes, tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(1000)"
    record = start(processes, tmp_path, sys.executable, "-c", deaf)
    while "deaf" not in (tmp_path / "logs" / "one.log").read_text():
        assert record.alive
    end([record], grace=timedelta(milliseconds=100))
    assert not record.alive


def test_a_killed_process_is_not_asked_first(processes: Processes, tmp_path: Path) -> None:
    polite = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(print('bye', flush=True))); "
    record = start(processes, tmp_path, sys.executable, "-c", f"{polite} print('up', flush=True); time.sleep(1000)")
    log = tmp_path / "logs" / "one.log"
    while "up" not in log.read_text():
        assert record.alive
    processes.kill("one")
    assert not record.alive
    assert log.read_text() == "up\n"
    assert processes.get("one") == record


def test_closing_ends_all_and_nothing_that_was_about_to_start_starts(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = start(processes, tmp_path, *SLEEP)
    gate, made = tmp_path / "gate", tmp_path / "made-by-the-program"
    os.mkfifo(gate)
    slow = f"cat {gate} > /dev/null && {localcluster.processes._LAUNCHER.strip()}"
    monkeypatch.setattr("localcluster.processes._LAUNCHER", slow)
    monkeypatch.setattr("localcluster.processes._RECORDED_WITHIN", timedelta())
    with pytest.raises(ClusterError):  # the starter does not wait for it, as if it had been killed
        processes.start("late", ["touch", str(made)], environment=ENVIRONMENT, log=tmp_path / "log")

    processes.close()
    with gate.open("w"):
        pass
    while not (tmp_path / "log").read_text():  # the launcher's complaint about the missing folder
        assert not made.exists()

    assert not record.alive
    assert not made.exists()
    assert [found.name for found in processes] == ["one"]
    processes.close()


def test_a_recycled_pid_is_not_ended(bystander: subprocess.Popen[bytes]) -> None:
    found = identify(bystander.pid, "bystander")
    assert found is not None
    end([replace(found, start_ticks=found.start_ticks - 1)])
    assert bystander.poll() is None


def test_a_pid_of_another_boot_is_not_ended(bystander: subprocess.Popen[bytes]) -> None:
    found = identify(bystander.pid, "bystander")
    assert found is not None
    end([replace(found, boot="11111111-2222-3333-4444-555555555555")])
    assert bystander.poll() is None


def test_a_process_that_is_rightly_named_is_ended(bystander: subprocess.Popen[bytes]) -> None:
    found = identify(bystander.pid, "bystander")
    assert found is not None
    end([found])
    assert bystander.wait(timeout=10) == -signal.SIGTERM


def test_a_zombie_does_not_count_as_running(bystander: subprocess.Popen[bytes]) -> None:
    found = identify(bystander.pid, "bystander")
    assert found is not None
    bystander.kill()
    os.waitid(os.P_PID, bystander.pid, os.WEXITED | os.WNOWAIT)  # ended, but not yet reaped by its parent
    assert not found.alive
    assert identify(bystander.pid, "bystander") is None


def test_a_truncated_record_is_ignored(processes: Processes, tmp_path: Path) -> None:
    start(processes, tmp_path, *SLEEP, name="whole")
    (tmp_path / "processes" / "cut.process").write_text("1234")
    assert [record.name for record in processes] == ["whole"]


def test_a_process_that_cannot_record_itself_never_runs(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localcluster.processes._RECORDED_WITHIN", timedelta(milliseconds=300))
    made = tmp_path / "made-by-the-program"
    (tmp_path / "processes" / "one.process.new").mkdir(parents=True)  # the record cannot be written
    with pytest.raises(ClusterError, match="one did not start"):
        processes.start("one", ["touch", str(made)], environment=ENVIRONMENT, log=tmp_path / "log")
    assert not made.exists()


def test_a_tied_helper_ends_with_the_starter_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys\n"
        "from localcluster.processes import tied\n"
        "helper = subprocess.Popen(tied(['sleep', '1000']))\n"
        "print(helper.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    search = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=ENVIRONMENT | {"PYTHONPATH": search},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        helper = identify(int(starter.stdout.readline()), "helper")
        assert helper is not None
        while b"sleep" not in Path(f"/proc/{helper.pid}/cmdline").read_bytes().split(b"\0")[0]:
            assert helper.alive  # setpriv has not become the helper yet
        starter.kill()
    while helper.alive:
        os.sched_yield()
