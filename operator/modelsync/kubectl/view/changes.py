"""Follows one ModelDeployment for the commands that wait."""

import time
from collections.abc import Iterator
from datetime import timedelta

import click

from modelsync.commands import printable
from modelsync.kubectl.cluster.lookup import deleted, not_found
from modelsync.kubectl.cluster.objects import Cluster
from modelsync.kubectl.errors import UnavailableError
from modelsync.kubectl.view.deployment import View, view


def changes(api: Cluster, namespace: str, name: str, timeout: timedelta) -> Iterator[View]:
    """Yield a view now, after each change, and about every second in between, until `timeout` expires (zero: never).

    Raises NotFoundError when the ModelDeployment does not exist or was deleted, and other PluginErrors. While the API
    server is unavailable, reports that on standard error and keeps waiting.
    """
    deadline = time.monotonic() + timeout.total_seconds() if timeout else None
    outage, last = Outage(), None
    for update in api.follow(namespace, name):
        if not outage.report(update) and not isinstance(update, UnavailableError | None):
            raw = update.get((namespace, name))
            if raw is None:
                raise deleted(name) if last is not None else not_found(api, namespace, name)
            last = view(raw)
        if last is not None:
            yield last
        if deadline is not None and time.monotonic() >= deadline:
            return


class Outage:
    """Reports each outage of the API server once."""

    def __init__(self) -> None:
        self._reported = False

    def report(self, update: object) -> bool:
        """Print a line when an outage starts; returns whether there is one now."""
        unavailable = isinstance(update, UnavailableError)
        if isinstance(update, UnavailableError) and not self._reported:
            click.echo(f"the API server does not answer, still trying: {printable(update.message)}", err=True)
        self._reported = unavailable
        return unavailable
