"""The image of real vLLM for the local cluster's node: the base system, a library of it, vLLM's packages and program.

The layer with the packages is 5 GB, so its tar file is not kept: it is written again from the packages' folder whenever
it is sent, and only its digest is stored.
"""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

from localcluster.base_system import BaseSystem, base_system
from localcluster.errors import ClusterError
from localcluster.images import IMAGE_ENVIRONMENT, tree_of, user_layer
from localcluster.layers import key_of, layer, staging
from localcluster.oci import Entry, Image, Layer, streamed_layer, write_layer
from localcluster.progress import Progress
from realvllm import VERSION
from realvllm.packages import packages

NAME = "docker.io/library/vllm-cpu"

# Guarded, since vLLM's engine process imports this program again.
_SCRIPT = """#!/usr/bin/python3
import sys

from vllm.entrypoints.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
"""
_LIBRARY = "libnuma1"  # the only package of the distribution that vLLM's CPU kernels need


def image(progress: Progress | None = None) -> Image:
    """`docker.io/library/vllm-cpu:v0.32.0`: `vllm serve …` starts real vLLM on the CPU. Raises ClusterError.

    As in vLLM's own image, there is a user `vllm` (2000), and containers run as root unless the pod specifies a user.
    """
    progress = progress or Progress(quiet=True)
    base = base_system(progress)
    folder = packages(progress)
    program = Entry("usr/local/bin/vllm", _SCRIPT.encode(), mode=0o755)
    with progress.step(f"image vllm-cpu:v{VERSION}"):
        return Image(
            f"{NAME}:v{VERSION}",
            (
                *base.layers,
                _packages_layer(folder, base.packages),
                _library_layer(base),
                layer("vllm-program", _SCRIPT, lambda path: write_layer([program], path)),
                user_layer(base, "vllm", 2000),
            ),
            entrypoint=("vllm", "serve"),
            environment=IMAGE_ENVIRONMENT,
        )


def _packages_layer(folder: Path, destination: str) -> Layer:
    def entries() -> Iterable[Entry]:
        return tree_of(folder, destination)

    known = folder.with_name(f"{folder.name}.layer.json")
    seen = _signature(folder)
    if known.exists() and (found := json.loads(known.read_text()))["seen"] == seen:
        return Layer(folder, found["digest"], found["size"], entries)
    made = streamed_layer(folder, entries)
    known.write_text(json.dumps({"seen": seen, "digest": made.digest, "size": made.size}))
    return made


def _library_layer(base: BaseSystem) -> Layer:
    """Download the library from the mirror that apt uses on this machine. Raises ClusterError."""

    def make(path: Path) -> Layer:
        with staging(path) as work:
            work.chmod(0o755)
            for command in (
                ["apt-get", "--quiet", "download", "-o", "APT::Sandbox::User=root", _LIBRARY],
                ["sh", "-c", f"dpkg-deb --extract {_LIBRARY}_*.deb unpacked"],
            ):
                answer = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
                if answer.returncode:
                    raise ClusterError(f"`{' '.join(command[:2])} … {_LIBRARY}` failed: {answer.stderr.strip()[-500:]}")
            files = [file for file in (work / "unpacked").rglob("*.so.*") if file.is_file()]
            if not files:
                raise ClusterError(f"{_LIBRARY} does not contain a library")
            # Links become files, too, and /lib is a link to /usr/lib.
            entries = [Entry(f"usr/lib/{file.parent.name}/{file.name}", file.read_bytes()) for file in files]
            return write_layer(entries, path)

    return layer("vllm-library", key_of(base.root.name, _LIBRARY), make)


def _signature(folder: Path) -> str:
    """A fingerprint of all files and their times: a server that ran from the folder may have left files."""
    seen = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in sorted(folder.rglob("*"))]
    return key_of(*map(str, seen))
