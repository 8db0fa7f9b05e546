"""How a command waits: each state of one ModelDeployment as it comes, until the time is over."""

import time
from collections.abc import Iterator
from datetime import timedelta

import click

from modelsync.commands import printable
from modelsync.kubectl.cluster.lookup import gone, not_there
from modelsync.kubectl.cluster.objects import Cluster
from modelsync.kubectl.errors import UnavailableError
from modelsync.kubectl.view.deployment import View, view


def changes(api: Cluster, namespace: str, name: str, timeout: timedelta) -> Iterator[View]:
    """A view now, after each change, and about every second in between; ends when `timeout` is over (zero: never).

    Raises NotThereError when it is not there, or not any longer, and other PluginErrors. That the API server is away is
    told on standard error, and waited for.
    """
    deadline = time.monotonic() + timeout.total_seconds() if timeout else None
    outage, last = Outage(), None
    for look in api.follow(namespace, name):
        if not outage.tell(look) and not isinstance(look, UnavailableError | None):
            raw = look.get((namespace, name))
            if raw is None:
                raise gone(name) if last is not None else not_there(api, namespace, name)
            last = view(raw)
        if last is not None:
            yield last
        if deadline is not None and time.monotonic() >= deadline:
            return


class Outage:
    """Tells once that there is no answer, however often it is asked for."""

    def __init__(self) -> None:
        self._told = False

    def tell(self, look: object) -> bool:
        """Whether there is no answer now."""
        away = isinstance(look, UnavailableError)
        if isinstance(look, UnavailableError) and not self._told:
            click.echo(f"no answer of the API server, still asking: {printable(look.message)}", err=True)
        self._told = away
        return away
