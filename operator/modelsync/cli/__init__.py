"""The `modelsync` command. Each subcommand is a module of its own, imported only when it is called: the puller must
start without importing kopf and kubernetes.
"""

import click

from modelsync.commands import LazyGroup

COMMANDS = {
    "pull": "modelsync.cli.pull:command",
    "resolve": "modelsync.cli.resolve:command",
    "run": "modelsync.cli.run:command",
    "crds": "modelsync.cli.crds:command",
    "exam": "modelsync.cli.exam:command",
}


@click.group(cls=LazyGroup, modules=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="modelsync")
def main() -> None:
    """Serve the model version that a Weights & Biases alias names."""
