"""The base system of our images: a minimal Debian (or Ubuntu) with Python, from the host's own package mirror.

Created once per release by debootstrap and kept unpacked, because layers compile their Python with its interpreter. It
must never name a mirror itself: it uses the mirror that apt on this machine is configured with.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import debian
from localcluster.errors import ClusterError
from localcluster.layers import images_folder, key_of, layer, locked, staging
from localcluster.oci import Entry, Layer, layer_from_tar, write_layer
from localcluster.processes import tied
from localcluster.progress import Note, Progress

_PACKAGES = ("python3", "ca-certificates")
_RECIPE = "1"  # raise it when what follows changes the result
_WITHOUT = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/cache/apt",
    "var/lib/apt/lists",
)
_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_USUAL = "usually 60 s"


@dataclass(frozen=True)
class BaseSystem:
    """An unpacked system in `root`, as `layers` of an image; `python` is its interpreter, such as `python3.11`."""

    root: Path
    layers: tuple[Layer, ...]

    @property
    def python(self) -> str:
        return os.readlink(self.root / "usr/bin/python3")

    @property
    def packages(self) -> str:
        """Folder of an image for the Python packages that do not come from the distribution."""
        return f"usr/local/lib/{self.python}/dist-packages"

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def compile(self, folder: Path, installed_in: str) -> None:
        """Compile the Python files in `folder` with the system's own interpreter; tracebacks name `installed_in`.

        The byte code is never compared with the sources' times: image layers have none.
        """
        script = 'mount --bind "$1" "$2/mnt" && shift && exec chroot "$@"'
        compiling = [
            f"/usr/bin/{self.python}",
            "-I",
            "-m",
            "compileall",
            "-qq",
            "--invalidation-mode",
            "unchecked-hash",
        ]
        compiling += ["-s", "/mnt", "-p", f"/{installed_in}", "/mnt"]
        # In its own mount namespace, the mount is removed when the command ends, in any way. compileall's exit code 1
        # only means that some file is not valid Python of this version, which packages' templates often are not.
        _run(["unshare", "--mount", "sh", "-c", script, "sh", folder, self.root, *compiling], allowed=(0, 1))


def base_system(progress: Progress) -> BaseSystem:
    """The base system for this machine's release; made if it is not there. Raises ClusterError."""
    debian.require(debian.IMAGE_PROGRAMS, progress)
    release, mirror = _release_and_mirror()
    key = key_of(_RECIPE, release, mirror, *_PACKAGES, *_WITHOUT)
    root = images_folder() / "base" / f"{release}-{key}"
    if not root.exists():
        with locked("base"):
            if not root.exists():
                for leftover in root.parent.glob(".making-*"):  # left by a killed run: we hold the lock
                    shutil.rmtree(leftover, ignore_errors=True)
                with progress.step(f"base system {release} with {', '.join(_PACKAGES)} ({_USUAL})") as note:
                    _bootstrap(root, release, mirror, note)
    layers = [layer("base", root.name, lambda path: _pack(root, path))]
    if _CA_BUNDLE.exists():  # containers trust the same certificates as this machine (a proxy, a private mirror)
        bundle = [Entry(str(_CA_BUNDLE).lstrip("/"), _CA_BUNDLE)]
        inputs = key_of(_CA_BUNDLE.read_text(errors="replace"))
        layers.append(layer("trust", inputs, lambda path: write_layer(bundle, path)))
    return BaseSystem(root, tuple(layers))


def _release_and_mirror() -> tuple[str, str]:
    """The code name of this machine's release, and the URL of its `main`."""
    wanted = "$(CODENAME) $(COMPONENT) $(REPO_URI)"
    targets = _run(["apt-get", "indextargets", "--format", wanted, "Created-By: Packages"]).splitlines()
    values = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    release = values.get("VERSION_CODENAME", "").strip('"')
    for target in targets:
        codename, component, mirror = target.split(" ", 2)
        if codename == release and component == "main":
            return release, mirror
    raise ClusterError(
        f"apt has no source for `main` of release {release!r}: base images are made from the machine's own package "
        "mirror; add one to /etc/apt/sources.list.d and run apt-get update"
    )


def _bootstrap(root: Path, release: str, mirror: str, note: Note) -> None:
    with staging(root) as work:
        command: list[str | Path] = ["unshare", "--mount", "debootstrap", "--variant=minbase"]
        command += [f"--include={','.join(_PACKAGES)}", release, work / "root", mirror]
        _run_noting(command, note)
        for folder in _WITHOUT:
            for content in (work / "root" / folder).iterdir():
                shutil.rmtree(content) if content.is_dir() and not content.is_symlink() else content.unlink()
        (work / "root").rename(root)


def _pack(root: Path, path: Path) -> Layer:
    command: list[str | Path] = ["tar", "--create", "--numeric-owner", "--sort=name", "--mtime=@0", "--one-file-system"]
    command += [f"--directory={root}", "--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*"]
    _run([*command, f"--file={path}", "."])
    return layer_from_tar(path)


def _environment() -> dict[str, str]:
    """This process's environment, with apt's proxy: debootstrap downloads without apt."""
    environment = os.environ | {
        "PATH": f"{os.environ.get('PATH', '')}:{debian.SYSTEM_PATH}",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    proxy = _run(["apt-config", "shell", "proxy", "Acquire::http::Proxy"], environment=environment).strip()
    if proxy:
        environment["http_proxy"] = proxy.removeprefix("proxy=").strip("'\"")
    return environment


def _run_noting(command: Sequence[str | Path], note: Note) -> None:
    lines: list[str] = []
    with subprocess.Popen(
        tied(command), env=_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            note(line.removeprefix("I: ").strip()[:60])
    if process.returncode:
        raise ClusterError(f"debootstrap failed:\n{''.join(lines[-15:])}")


def _run(
    command: Sequence[str | Path], *, allowed: Sequence[int] = (0,), environment: dict[str, str] | None = None
) -> str:
    arguments = [str(part) for part in command]
    try:
        answer = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as problem:
        raise ClusterError(
            f"building images needs {arguments[0]}, from Debian or Ubuntu, which is not installed"
        ) from problem
    if answer.returncode not in allowed:
        raise ClusterError(f"`{arguments[0]} …` failed: {(answer.stderr or answer.stdout).strip()[-1000:]}")
    return answer.stdout
