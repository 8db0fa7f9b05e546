"""What the command lines of `modelsync` and of the kubectl plugin have in common.

Imports nothing of ours, and little of others: the plugin's completion and a pod's pull must start quickly.
"""

import importlib
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click


class LazyGroup(click.Group):
    """Imports a command's module when it is called; `modules` says for each name where it is, as `module:attribute`."""

    def __init__(self, *args: Any, modules: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every command."""
        return sorted(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of `cmd_name`."""
        if cmd_name not in self._modules:
            return None
        module, _, attribute = self._modules[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


def defect(error: Exception) -> str:
    """Say on one line what a person can pass on: which error, and where in the code; no traceback reaches a user."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"a defect in modelsync: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def printable(text: str) -> str:
    """`text` without what a terminal would obey: names and answers come from servers."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
