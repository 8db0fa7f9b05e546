"""Keeps image layers by what they were made from, so that a layer is made again only when its inputs change.

A layer's key is a hash of its inputs, never of the clock; the layer and what is known of it are published at once.
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
    """Where layers and the base system are kept."""
    return cache_folder() / "images"


def layer(kind: str, inputs: str, make: Callable[[Path], Layer]) -> Layer:
    """The layer of this `kind` for these `inputs`; `make` writes it to the given path if it is not there yet."""
    key = key_of(inputs)
    folder = images_folder() / "layers" / kind / key
    if not (folder / "layer.json").exists():
        with locked(kind):
            if not (folder / "layer.json").exists():
                _make(folder, make)
                _prune(folder.parent)
    folder.touch()  # pruning goes by the time of the last use
    known = json.loads((folder / "layer.json").read_text())
    return Layer(folder / "layer.tar", known["digest"], known["size"])


def key_of(*inputs: str) -> str:
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:20]


@contextmanager
def locked(kind: str) -> Iterator[None]:
    """Only one run at a time makes things of this kind."""
    folder = images_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def staging(beside: Path) -> Iterator[Path]:
    """A folder to fill on the same file system as `beside`; gone afterwards unless it was renamed."""
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
    """Remove layers that have not been used for the longest time, and what killed runs left."""
    layers = sorted(kind.glob("[!.]*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in [*layers[_KEPT_OF_EACH_KIND:], *kind.glob(".making-*")]:
        shutil.rmtree(old, ignore_errors=True)
