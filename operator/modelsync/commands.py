"""Shared by the command lines of `modelsync` and the kubectl plugin.

Must not import other modelsync modules, and only few libraries: the plugin's completion and a pod's pull must start
quickly.
"""

import importlib
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click


class LazyGroup(click.Group):
    """Imports a command's module when it is called; `modules` maps each name to `module:attribute`."""

    def __init__(self, *args: Any, modules: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List all commands."""
        return sorted(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of `cmd_name`."""
        if cmd_name not in self._modules:
            return None
        module, _, attribute = self._modules[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


def defect(error: Exception) -> str:
    """Describe a bug in one line that a user can report: the error and its place in the code, without a traceback."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"a defect in modelsync: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def printable(text: str) -> str:
    """`text` without control characters: names and answers from servers must not control a terminal."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
