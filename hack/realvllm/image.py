"""The image of real vLLM for the local cluster's node: the base system, vLLM's packages, the user `vllm`.

The layer with the packages is 5 GB, so no tar file of it is kept: it is written anew from the packages' folder when it
is sent, and only its digest is remembered.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from localcluster.base_system import base_system
from localcluster.images import IMAGE_ENVIRONMENT, tree_of, user_layer
from localcluster.layers import key_of
from localcluster.oci import Entry, Image, Layer, streamed_layer
from localcluster.progress import Progress
from realvllm import VERSION
from realvllm.packages import packages

NAME = "docker.io/library/vllm-cpu"

_SCRIPT = """#!/usr/bin/python3
import sys

from vllm.entrypoints.cli.main import main

sys.exit(main())
"""


def image(progress: Progress | None = None) -> Image:
    """`docker.io/library/vllm-cpu:v0.32.0`: `vllm serve …` starts real vLLM on the CPU. Raises ClusterError.

    As in vLLM's own image there is a user `vllm` (2000), and a container is root unless its pod says otherwise.
    """
    progress = progress or Progress(quiet=True)
    base = base_system(progress)
    folder = packages(progress)
    with progress.step(f"image vllm-cpu:v{VERSION}"):
        return Image(
            f"{NAME}:v{VERSION}",
            (*base.layers, _packages_layer(folder, base.packages), user_layer(base, "vllm", 2000)),
            entrypoint=("vllm", "serve"),
            environment=IMAGE_ENVIRONMENT,
        )


def _packages_layer(folder: Path, destination: str) -> Layer:
    def entries() -> Iterable[Entry]:
        return [*tree_of(folder, destination), Entry("usr/local/bin/vllm", _SCRIPT.encode(), mode=0o755)]

    known = folder.with_name(f"{folder.name}.layer.json")
    seen = _signature(folder)
    if known.exists() and (found := json.loads(known.read_text()))["seen"] == seen:
        return Layer(folder, found["digest"], found["size"], entries)
    layer = streamed_layer(folder, entries)
    known.write_text(json.dumps({"seen": seen, "digest": layer.digest, "size": layer.size}))
    return layer


def _signature(folder: Path) -> str:
    """Changes with every file that comes, goes or is written: a server that ran from the folder may have left some."""
    seen = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in sorted(folder.rglob("*"))]
    return key_of(*map(str, seen))
