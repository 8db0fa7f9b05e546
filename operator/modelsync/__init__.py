"""modelsync: serve the version that a Weights & Biases alias names, and take it back when it must not serve."""

from typing import TYPE_CHECKING

__version__: str

if not TYPE_CHECKING:  # or a type checker would take every other name for one that is there

    def __getattr__(name: str) -> str:
        """`__version__` when somebody asks: to look it up takes longer than many a command."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version

        return version("modelsync")
