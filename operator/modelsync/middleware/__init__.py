"""The ASGI middleware that runs inside the model's pod, and how the puller gets at its files.

The folder `modelsync_middleware` is copied beside the model and loaded by vLLM with `--middleware`, in an image that
holds nothing of modelsync. This package must therefore never make that folder depend on anything of ours.
"""

from collections.abc import Mapping
from pathlib import Path

PACKAGE = "modelsync_middleware"
"""The name that the copy must keep, in a folder that is in the pod's PYTHONPATH."""


def files() -> Mapping[str, bytes]:
    """The package's modules, name → content, for the puller to write beside the model."""
    folder = Path(__file__).parent / PACKAGE
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.py"))}
