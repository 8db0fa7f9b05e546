"""`kubectl modelsync pause` and `resume`: `spec.suspend`, which stops forward moves and nothing else."""

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
    """Let nothing of NAME move forward until `resume`. Holds, and going back, still act; a canary keeps its share.

    Sets spec.suspend. Where the spec is kept in Git, set it there, or it is taken back.
    """
    _set(name, suspend=True)


@click.command("resume")
@name_argument
@connection_options
def resume(name: str) -> None:
    """Let NAME move forward again after `pause`."""
    _set(name, suspend=False)


def _set(name: str, *, suspend: bool) -> None:
    api = cluster()
    each = read(api, name)
    said = "paused: nothing moves forward until `resume`" if suspend else "resumed"
    if each.suspended == suspend:
        text.say(f"{each.resource} {'is paused already' if suspend else 'is not paused'}")
        return
    right = SUSPEND if suspend else RESUME
    steer(api, each.namespace, name, {"spec": {"suspend": suspend}}, right.verb)
    text.say(f"{each.resource} {said}")
