"""The ASGI middleware that runs inside the model's pod, and how the puller gets at its file.

The file `modelsync_middleware.py` is copied beside the model and loaded by vLLM with `--middleware`, in an image that
holds nothing of modelsync. This package must therefore never make that file depend on anything of ours.
"""

from pathlib import Path

FILE_NAME = "modelsync_middleware.py"
"""The name that the copy must keep, in a folder that is in the pod's PYTHONPATH."""

IMPORT_PATH = "modelsync_middleware.VersionHeader"
"""What vLLM's `--middleware` takes."""

READY_PATH = "/modelsync/ready"
"""What the readiness probe asks: 200 once the model has really answered."""

FUSE_PATH = "/modelsync/fuse"
"""Where a POST with the revision's token silences the model for good."""


def path() -> Path:
    """Where the middleware's file lies."""
    return Path(__file__).with_name(FILE_NAME)


def source() -> bytes:
    """The middleware's file, for the puller to write beside the model."""
    return path().read_bytes()
