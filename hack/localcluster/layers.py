"""Caches image layers by their inputs, so that a layer is rebuilt only when its inputs change.

A layer's key is a hash of its inputs, never of the time; the layer and its metadata are published together.
"""

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from localcluster.oci import Layer
from localcluster.paths import cache_folder

_KEPT_OF_EACH_KIND = 4


def images_folder() -> Path:
    """The folder of image layers and the base system."""
    return cache_folder() / "images"


def layer(kind: str, inputs: str, make: Callable[[Path], Layer]) -> Layer:
    """The layer of this `kind` for these `inputs`; if it is missing, `make` writes it to the given path."""
    key = key_of(inputs)
    folder = images_folder() / "layers" / kind / key
    if not (folder / "layer.json").exists():
        with locked(kind):
            if not (folder / "layer.json").exists():
                _make(folder, make)
                _prune(folder.parent)
    folder.touch()  # pruning is by time of last use
    known = json.loads((folder / "layer.json").read_text())
    return Layer(folder / "layer.tar", known["digest"], known["size"])


def key_of(*inputs: str) -> str:
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:20]


@contextmanager
def locked(kind: str) -> Iterator[None]:
    """Lock against concurrent builds of this kind."""
    folder = images_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def staging(beside: Path) -> Iterator[Path]:
    """A temporary folder on the same file system as `beside`; removed afterwards unless it was renamed."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".making-", dir=beside.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(folder: Path, make: Callable[[Path], Layer]) -> None:
    with staging(folder) as work:
        made = make(work / "layer.tar")
        (work / "layer.json").write_text(json.dumps({"digest": made.digest, "size": made.size}))
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)


def _prune(kind: Path) -> None:
    """Remove the least recently used layers, and leftovers of killed runs."""
    layers = sorted(kind.glob("[!.]*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in [*layers[_KEPT_OF_EACH_KIND:], *kind.glob(".making-*")]:
        shutil.rmtree(old, ignore_errors=True)
