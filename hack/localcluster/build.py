"""Installs the programs of a cluster: Debian packages by apt-get, Go programs built from the module proxy.

Built programs are cached permanently by name and version, and published by one rename, so that a half-built tool is
never visible. It must never change the user's Go settings or remove a cache that is not ours.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from localcluster.errors import ClusterError
from localcluster.paths import cache_folder, tools_source
from localcluster.processes import tied
from localcluster.progress import Note, Progress, duration
from localcluster.tools import (
    EVERYTHING,
    GATEWAY_API_MODULE,
    GATEWAY_API_VERSION,
    TRAEFIK,
    Tool,
    present,
)


def build(tools: Sequence[Tool], progress: Progress) -> None:
    """Build the missing `tools`, one after the other; raise ClusterError if a build fails.

    Safe to run concurrently: the second run waits for the first and uses its results.
    """
    if all(present(tool) for tool in tools):
        return
    with _only_one_builder(progress):
        missing = [tool for tool in tools if not present(tool)]
        if missing:
            _require_go()
            usual = sum(tool.usual_seconds for tool in missing)
            progress.info(
                f"building {len(missing)} Go tools once, into {cache_folder() / 'tools'}: "
                f"about {max(1, round(usual / 60))} min on 2 cores"
            )
        for number, tool in enumerate(missing, start=1):
            title = f"[{number}/{len(missing)}] {tool.name} {tool.version} (usually {duration(tool.usual_seconds)})"
            with progress.step(title) as note:
                _build(tool, note)
        if all(present(tool) for tool in EVERYTHING):
            shutil.rmtree(_own_go_cache(), ignore_errors=True)


def gateway_api_manifests(progress: Progress) -> Path:
    """The folder with the standard CRDs of the Gateway API, in the version with which Traefik is built."""
    folder = cache_folder() / "tools" / "gateway-api" / GATEWAY_API_VERSION
    if folder.exists():
        return folder
    with _only_one_builder(progress):
        if folder.exists():
            return folder
        _require_go()
        with progress.step(f"Gateway API {GATEWAY_API_VERSION} CRDs"):
            source = tools_source() / TRAEFIK.module
            _run(["go", "mod", "download", GATEWAY_API_MODULE], source)
            module = _run(["go", "list", "-m", "-f", "{{.Version}} {{.Dir}}", GATEWAY_API_MODULE], source).split()
            if module[0] != GATEWAY_API_VERSION:
                raise ClusterError(
                    f"Traefik is built with Gateway API {module[0]}, the cluster wants {GATEWAY_API_VERSION}: "
                    "change GATEWAY_API_VERSION in hack/localcluster/tools.py together with Traefik's version"
                )
            with _published(folder) as staging:
                for manifest in sorted((Path(module[1]) / "config/crd/standard").glob("*.yaml")):
                    shutil.copy(manifest, staging / manifest.name)
                    (staging / manifest.name).chmod(0o644)
    return folder


def copy_from_module(tool: Tool, module: str, files: Sequence[str], folder: Path, progress: Progress) -> None:
    """Create `folder` from files of a Go module that `tool` is built with, unless it exists. Raises ClusterError."""
    with _only_one_builder(progress):
        if folder.exists():
            return
        _require_go()
        source = tools_source() / tool.module
        _run(["go", "mod", "download", module], source)
        root = Path(_run(["go", "list", "-m", "-f", "{{.Dir}}", module], source).strip())
        with _published(folder) as staging:
            for name in files:
                target = staging / Path(name).name
                shutil.copy(root / name, target)
                target.chmod(0o644)


@contextmanager
def _only_one_builder(progress: Progress) -> Iterator[None]:
    folder = cache_folder() / "tools"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.info("another run is building; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.glob("*/.building-*"):  # left by a killed run: we hold the lock
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _require_go() -> None:
    if shutil.which("go") is None:
        raise ClusterError(
            "Go is needed to build the cluster's programs and is not on PATH: install Go 1.26 or later "
            "(https://go.dev/doc/install), or put the programs in the right versions on PATH"
        )
    _run(["go", "env", "GOVERSION"], tools_source() / EVERYTHING[0].module)


def _build(tool: Tool, note: Note) -> None:
    source = tools_source() / tool.module
    environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"}
    environment.setdefault("GOCACHE", str(_own_go_cache()))
    with _published(tool.folder()) as staging:
        note("downloading modules")
        command = ["go", "build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false"]
        command += ["-tags", ",".join(tool.tags)] if tool.tags else []
        command += ["-ldflags", f"-s -w {tool.link_flags}", "-o", f"{staging}/", *tool.programs.values()]
        _run_build(command, source, environment, note)
        for name, package in tool.programs.items():
            built = staging / _binary_name(package)
            if built.name != name:
                built.rename(staging / name)


def _binary_name(package: str) -> str:
    """The name of a program built by `go build`: the last part of its path that is not a major version."""
    *parents, last = package.split("/")
    return parents[-1] if last[0] == "v" and last[1:].isdigit() else last


def _run_build(command: list[str], source: Path, environment: dict[str, str], note: Note) -> None:
    output: list[str] = []
    downloads = packages = 0

    def read(stream: Iterator[str]) -> None:
        nonlocal downloads, packages
        for line in stream:
            output.append(line)
            if line.startswith("go: downloading"):
                downloads += 1
            else:
                packages += 1

    with subprocess.Popen(
        tied(command), cwd=source, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        if process.stderr is None:  # pragma: no cover - it is a pipe
            raise AssertionError
        reader = threading.Thread(target=read, args=(process.stderr,), daemon=True)
        reader.start()
        try:
            while process.poll() is None:
                note(f"{downloads} modules downloaded, {packages} packages compiled")
                time.sleep(0.25)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)  # go terminates its compilers itself
                process.wait()
        reader.join()
    if process.returncode:
        tail = "".join(line for line in output[-60:] if not line.startswith("go: downloading"))
        raise ClusterError(
            f"`go build` in hack/tools/{source.name} failed:\n{tail}\nIf modules could not be downloaded, "
            "check GOPROXY (`go env GOPROXY`) and run the command again: finished builds are kept."
        )


@contextmanager
def _published(folder: Path) -> Iterator[Path]:
    """A folder to fill; renamed to `folder` if the body succeeds."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    try:
        yield staging
        staging.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)  # incomplete, since a complete one would not have been rebuilt
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _own_go_cache() -> Path:
    return cache_folder() / "tools" / ".go-build"


def _run(command: list[str], source: Path) -> str:
    answer = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed in hack/tools/{source.name}: {answer.stderr.strip()}")
    return answer.stdout
