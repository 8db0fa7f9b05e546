"""modelsync: serve the version that a Weights & Biases alias names, and take it back when it must not serve."""

from importlib.metadata import version

__version__ = version("modelsync")
