"""`kubectl modelsync pause` and `resume`: set `spec.suspend`, which stops forward moves and nothing else."""

import click

from modelsync.api.roles import RESUME, SUSPEND
from modelsync.kubectl.cluster.permissions import steer
from modelsync.kubectl.options import cluster, connection_options, name_argument
from modelsync.kubectl.view import text
from modelsync.kubectl.view.deployment import read


@click.command("pause")
@name_argument
@connection_options
def pause(name: str) -> None:
    """Stop NAME from moving forward until `resume`. Holds and rollbacks still act; a canary keeps its share.

    Sets spec.suspend. If the spec is managed in Git, set it there instead, or the change is reverted.
    """
    _set(name, suspend=True)


@click.command("resume")
@name_argument
@connection_options
def resume(name: str) -> None:
    """Resume NAME after `pause`."""
    _set(name, suspend=False)


def _set(name: str, *, suspend: bool) -> None:
    api = cluster()
    each = read(api, name)
    if each.suspended == suspend:
        text.print_line(f"{each.resource} {'is already paused' if suspend else 'is not paused'}")
        return
    right = SUSPEND if suspend else RESUME
    steer(api, each.namespace, name, {"spec": {"suspend": suspend}}, right.verb)
    text.print_line(f"{each.resource} {'paused: nothing moves forward until `resume`' if suspend else 'resumed'}")
