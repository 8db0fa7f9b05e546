"""Builds our images without a registry and without Docker: the operator's and the vLLM stand-in's.

Three layers on the base system: dependencies (rebuilt when uv.lock changes), source (when a file changes), users. They
contain compiled Python byte code, so that pods do not compile at startup.
"""

import os
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

from localcluster.base_system import BaseSystem, base_system
from localcluster.errors import ClusterError
from localcluster.layers import key_of, layer, staging
from localcluster.oci import Entry, Image, Layer, write_layer
from localcluster.paths import cache_folder, repository
from localcluster.progress import Progress

MODELSYNC_IMAGE = "docker.io/library/modelsync"
VLLM_STANDIN_IMAGE = "docker.io/library/vllm-standin"
VLLM_VERSION = "v0.32.0"

# Packages that the vLLM stand-in imports; the versions are in uv.lock.
VLLM_STANDIN_REQUIREMENTS = ("prometheus-client", "starlette", "uvicorn")

_PLATFORMS = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}
IMAGE_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
MODELSYNC_ENVIRONMENT = IMAGE_ENVIRONMENT | {"HOME": "/tmp"}  # noqa: S108 - in the container, the only writable place
MODELSYNC_USER = 65532
MODELSYNC_FOLDER = "opt/modelsync"
"""The folder of its packages, separate from the system's own; the Dockerfile uses the same on every base."""
LAUNCHER = "hack/image/modelsync"
# Not isolated (-I), as vLLM's own is not: an init container's middleware is found by PYTHONPATH.
_VLLM_SCRIPT = """#!/usr/bin/python3
import sys

from vllm_standin.cli import main

sys.exit(main())
"""


def modelsync_image(tag: str = "dev", *, progress: Progress | None = None) -> Image:
    """The operator's (and puller's) image from this checkout, like that of the Dockerfile, but on another base.

    Another `tag` of the same source shares all layers.
    """
    progress = progress or Progress(quiet=True)
    base = base_system(progress)
    with progress.step(f"image modelsync:{tag}"):
        project = tomllib.loads((repository() / "pyproject.toml").read_text())["project"]
        metadata = f"Metadata-Version: 2.1\nName: modelsync\nVersion: {project['version']}\n"
        extras = [
            Entry("usr/local/bin/modelsync", (repository() / LAUNCHER).read_bytes(), mode=0o755),
            Entry(f"{MODELSYNC_FOLDER}/modelsync-{project['version']}.dist-info/METADATA", metadata.encode()),
        ]
        return Image(
            f"{MODELSYNC_IMAGE}:{tag}",
            (
                *base.layers,
                _dependencies(base, "modelsync", _locked_requirements("--no-dev"), folder=MODELSYNC_FOLDER),
                _source(base, repository() / "operator" / "modelsync", extras, folder=MODELSYNC_FOLDER),
                user_layer(base, "nonroot", MODELSYNC_USER),
            ),
            entrypoint=("modelsync",),
            user=f"{MODELSYNC_USER}:{MODELSYNC_USER}",
            environment=MODELSYNC_ENVIRONMENT,
            labels={"org.opencontainers.image.version": tag},
        )


def vllm_standin_image(*, progress: Progress | None = None) -> Image:
    """The image that replaces `vllm/vllm-openai`: `vllm serve …` starts the stand-in.

    As in vLLM's own image, there is a user `vllm` (2000), and containers run as root unless the pod specifies a user.
    """
    progress = progress or Progress(quiet=True)
    base = base_system(progress)
    flags = repository() / "operator" / "modelsync" / "policy" / "vllm_flags.json"
    with progress.step(f"image vllm-standin:{VLLM_VERSION}"):
        return Image(
            f"{VLLM_STANDIN_IMAGE}:{VLLM_VERSION}",
            (
                *base.layers,
                _dependencies(base, "vllm-standin", _locked_requirements("--all-groups"), VLLM_STANDIN_REQUIREMENTS),
                _source(
                    base,
                    repository() / "hack" / "vllm_standin",
                    [
                        Entry("usr/local/bin/vllm", _VLLM_SCRIPT.encode(), mode=0o755),
                        # The stand-in must take nothing else from modelsync, so that it stays independent of our code.
                        Entry(f"{base.packages}/modelsync/policy/vllm_flags.json", flags.read_bytes()),
                    ],
                ),
                user_layer(base, "vllm", 2000),
            ),
            entrypoint=("vllm", "serve"),
            environment=IMAGE_ENVIRONMENT,
        )


def _locked_requirements(*groups: str) -> str:
    """The pins of uv.lock, with hashes, as a requirements file."""
    return _uv("export", "--frozen", "--no-emit-project", "--no-header", "--no-annotate", *groups)


def _dependencies(
    base: BaseSystem, kind: str, locked: str, only: Sequence[str] = (), *, folder: str | None = None
) -> Layer:
    """A layer with the locked requirements; with `only`, just these and their dependencies, in the locked versions.

    They are installed in `folder`, by default where the base's Python looks for packages.
    """
    where = folder or base.packages

    def make(path: Path) -> Layer:
        with staging(path) as work:
            requirements, target = work / "requirements.txt", work / "packages"
            requirements.write_text(locked)
            what = [*only, "--constraint", str(requirements)] if only else ["--no-deps", "-r", str(requirements)]
            machine = os.uname().machine
            _uv(
                *("pip", "install", "--target", str(target), "--only-binary", ":all:", "--link-mode", "copy"),
                *("--python-version", base.python.removeprefix("python")),
                *("--python-platform", _PLATFORMS.get(machine, machine)),
                *what,
            )
            shutil.rmtree(target / "bin", ignore_errors=True)  # the libraries' scripts are for another interpreter
            base.compile(target, where)
            return write_layer(tree_of(target, where), path)

    return layer(f"{kind}-dependencies", key_of(base.root.name, where, locked, *only), make)


def _source(base: BaseSystem, package: Path, extras: Sequence[Entry], *, folder: str | None = None) -> Layer:
    """A layer with a package of this checkout, in `folder` as above, plus the `extras`."""
    where = folder or base.packages
    files = {
        path.relative_to(package): path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    if not files:
        raise ClusterError(f"{package.relative_to(repository())} is empty: there is nothing to build an image from")

    def make(path: Path) -> Layer:
        with staging(path) as work:
            tree = work / "packages"
            for name, content in files.items():
                (tree / package.name / name).parent.mkdir(parents=True, exist_ok=True)
                (tree / package.name / name).write_bytes(content)
            base.compile(tree, where)
            return write_layer([*tree_of(tree, where), *extras], path)

    parts = [f"{name}\0{key_of(content.decode('latin-1'))}" for name, content in files.items()]
    parts += [f"{extra.path}\0{extra.content!r}" for extra in extras]
    return layer(f"{package.name.replace('_', '-')}-source", key_of(base.root.name, where, *parts), make)


def user_layer(base: BaseSystem, name: str, number: int) -> Layer:
    """A layer with a user of this name and id, and its home folder."""
    home = f"home/{name}"
    entries = [
        Entry(
            "etc/passwd", f"{base.read('etc/passwd')}{name}:x:{number}:{number}::/{home}:/usr/sbin/nologin\n".encode()
        ),
        Entry("etc/group", f"{base.read('etc/group')}{name}:x:{number}:\n".encode()),
        Entry(home, mode=0o750, owner=number),
    ]
    return layer(f"{name}-user", key_of(base.root.name, name, str(number)), lambda path: write_layer(entries, path))


def tree_of(folder: Path, destination: str) -> list[Entry]:
    """The files below `folder` as entries below `destination`."""
    return [
        Entry(f"{destination}/{path.relative_to(folder)}", path, mode=0o755 if os.access(path, os.X_OK) else 0o644)
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    ]


def _uv(*arguments: str) -> str:
    command = [uv_program(), *arguments, "--quiet"]
    environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}
    environment.pop("VIRTUAL_ENV", None)
    answer = subprocess.run(command, cwd=repository(), env=environment, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ClusterError(f"`uv {' '.join(arguments[:2])}` failed: {answer.stderr.strip()}")
    return answer.stdout


def uv_program() -> str:
    """The uv that the Makefile installs, else the one on PATH."""
    ours = sorted((cache_folder() / "uv").glob("*/bin/uv"), key=lambda path: path.stat().st_mtime)
    found = str(ours[-1]) if ours else shutil.which("uv")
    if not found:
        raise ClusterError("uv is needed to build images: run `make setup`")
    return found
