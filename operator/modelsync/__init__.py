"""modelsync: serve the model version that a Weights & Biases alias names, and stop serving a version that is held."""

from typing import TYPE_CHECKING

__version__: str

if not TYPE_CHECKING:  # otherwise a type checker would accept every attribute name

    def __getattr__(name: str) -> str:
        """Look up `__version__` on first use: the lookup takes longer than some commands."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version

        return version("modelsync")
