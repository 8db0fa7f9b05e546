"""`modelsync crds`: the CustomResourceDefinition that this version of the operator needs."""

import click

from modelsync.api.crd import render


@click.command()
def command() -> None:
    """Print the CustomResourceDefinition, for `kubectl apply --server-side -f -`."""
    click.echo(render(), nl=False)
