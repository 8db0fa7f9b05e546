"""Programs are built once by the real Go, and appear in the cache atomically."""

import fcntl
import io
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from integration.localcluster.workspace import wait_for
from localcluster import ClusterError, Progress, build, tools
from localcluster.paths import tools_source

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def go_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared cache for these tests: the standard library is compiled once."""
    return tmp_path_factory.mktemp("go-cache")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, go_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELSYNC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GOCACHE", str(go_cache))
    return tmp_path / "cache"


def test_a_tool_is_built_once_and_then_needs_no_go(monkeypatch: pytest.MonkeyPatch) -> None:
    build.build([tools.PAUSE], QUIET)
    with subprocess.Popen([tools.program("pause")]) as pause:
        pause.send_signal(signal.SIGTERM)
        assert pause.wait(timeout=10) in (0, -signal.SIGTERM)
    monkeypatch.setenv("PATH", "/nowhere")
    build.build([tools.PAUSE], QUIET)


def test_a_missing_go_is_reported_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        ClusterError, match=r"Go is needed .* install Go 1\.26 or later \(https://go\.dev/doc/install\)"
    ):
        build.build([tools.PAUSE], QUIET)


def test_a_build_that_fails_publishes_nothing_and_shows_the_compilers_words(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "sources"
    shutil.copytree(tools_source(), broken)
    (broken / "pause" / "main.go").write_text("package main\n\nfunc main() { undefinedName() }\n")
    monkeypatch.setattr(build, "tools_source", lambda: broken)
    with pytest.raises(ClusterError, match=r"`go build` in hack/tools/pause failed:(.|\n)*undefined: undefinedName"):
        build.build([tools.PAUSE], QUIET)
    assert not tools.present(tools.PAUSE)
    assert [path.name for path in (cache / "tools" / "pause").iterdir()] == []


def test_a_second_run_waits_for_the_first_and_finds_its_work_done(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "tools").mkdir(parents=True)
    output = io.StringIO()
    second = threading.Thread(target=build.build, args=([tools.PAUSE], Progress(output)))
    with (cache / "tools" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second.start()
        wait_for("the second to report that it waits", lambda: "another run is building" in output.getvalue())
        tools.PAUSE.folder().mkdir(parents=True)
        (tools.PAUSE.folder() / "pause").touch()
    second.join(timeout=30)
    assert not second.is_alive()
    assert output.getvalue() == "another run is building; waiting for it\n"


def test_what_a_killed_run_left_is_removed(cache: Path) -> None:
    leftover = cache / "tools" / "pause" / ".building-killed"
    leftover.mkdir(parents=True)
    build.build([tools.PAUSE], QUIET)
    assert os.listdir(cache / "tools" / "pause") == [tools.PAUSE.version]
