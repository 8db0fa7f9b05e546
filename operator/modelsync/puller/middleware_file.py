"""Placing the ASGI middleware where the model's container finds it.

It comes with the puller because the puller's image is ours and the server's is not. Must never touch the model.
"""

import os
from pathlib import Path

from modelsync import middleware
from modelsync.puller.staging import storage_errors


def place_middleware(folder: Path) -> Path:
    """Put the middleware's file into `folder`, whole or not at all, and return its path. Raises PullError."""
    path = folder / middleware.FILE_NAME
    new = folder / f".{middleware.FILE_NAME}.{os.getpid()}.part"
    with storage_errors(f"the middleware cannot be placed at {path}"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with open(new, "wb") as file:
                file.write(middleware.source())
                file.flush()
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)
    return path
