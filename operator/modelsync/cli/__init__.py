"""The `modelsync` command. Each subcommand lives in a module of its own and is imported only when it is called."""

import importlib
from typing import Any

import click

COMMANDS = {
    "pull": "modelsync.cli.pull",
    "resolve": "modelsync.cli.resolve",
    "run": "modelsync.cli.run",
    "crds": "modelsync.cli.crds",
    "exam": "modelsync.cli.exam",
}


class LazyGroup(click.Group):
    """Imports a subcommand's module on use: the puller's start must not pay for kopf and kubernetes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every subcommand."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of `cmd_name` and return the click command that it calls `command`."""
        if cmd_name not in COMMANDS:
            return None
        module: Any = importlib.import_module(COMMANDS[cmd_name])
        command: click.Command = module.command
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="modelsync")
def main() -> None:
    """Serve the model version that a Weights & Biases alias names."""
