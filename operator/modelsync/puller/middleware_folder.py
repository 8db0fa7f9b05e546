"""Writes the ASGI middleware to a folder from which the model's container loads it.

The puller does it because the puller's image is ours and the server's is not. Must never touch the model.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from modelsync import middleware
from modelsync.puller.staging import storage_errors


def place_middleware(folder: Path) -> Path:
    """Write the middleware's package into `folder` atomically, and return its path. Raises PullError.

    The package's name is a link to a folder that is named after its content, as kubelet publishes ConfigMaps: a link
    can be replaced atomically, a non-empty folder cannot.
    """
    files = middleware.files()
    path = folder / middleware.PACKAGE
    content = folder / f".{middleware.PACKAGE}-{_digest(files)}"
    with storage_errors(f"the middleware cannot be placed at {path}"):
        folder.mkdir(parents=True, exist_ok=True)
        if not content.is_dir():
            _write(files, content)
        link = folder / f".{middleware.PACKAGE}.{os.getpid()}.part"
        try:
            link.symlink_to(content.name)
            os.replace(link, path)
        finally:
            link.unlink(missing_ok=True)
    return path


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    new = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(new, ignore_errors=True)  # left by a container that was killed here
    try:
        new.mkdir()
        for name, content in files.items():
            with open(new / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
        os.chmod(new, 0o755)  # noqa: S103  the server may run as another user than the puller
        os.replace(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _digest(files: Mapping[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name, content in files.items():
        whole.update(f"{name} {len(content)}\n".encode() + content)
    return whole.hexdigest()[:16]
