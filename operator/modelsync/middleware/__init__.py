"""The ASGI middleware that runs inside the model's pod, and access to its files for the puller.

The folder `modelsync_middleware` is copied to the pod and loaded by vLLM with `--middleware`, in an image that does not
contain modelsync. That folder must therefore never depend on any other part of modelsync.
"""

from collections.abc import Mapping
from pathlib import Path

PACKAGE = "modelsync_middleware"
"""The name of the copied folder, inside a folder on the container's PYTHONPATH."""


def files() -> Mapping[str, bytes]:
    """The package's modules, name → content, for the puller to write."""
    folder = Path(__file__).parent / PACKAGE
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.py"))}
