"""`kubectl modelsync status`: wait until what is asked for serves, as `kubectl rollout status` does."""

from datetime import timedelta

import click

from modelsync.api import duration
from modelsync.api.conditions import ConditionType
from modelsync.api.reasons import Reason
from modelsync.kubectl.cluster.permissions import asking_for
from modelsync.kubectl.errors import (
    EXIT_NEEDS_A_PERSON,
    EXIT_ON_HOLD,
    EXIT_TIMEOUT,
    ForbiddenError,
    PluginError,
)
from modelsync.kubectl.options import DURATION, cluster, connection_options, name_argument
from modelsync.kubectl.view import text
from modelsync.kubectl.view.advice import ending_command, next_commands
from modelsync.kubectl.view.changes import changes
from modelsync.kubectl.view.deployment import View

_EPILOG = """\b
Exit codes:
  0    it serves as asked; with --watch=false also: it is on the way
  1    the cluster says no
  2    what was typed cannot be meant
  3    a version has failed, or a person is needed: the message says for what
  4    a hold is on what serves, or on what the alias names
  5    it did not come within --timeout
"""


_OUTSIDE = {"person", "registry", "gateway"}
_SOON = timedelta(seconds=10)
"""Registry and gateway answer within a second or two; only what takes longer is worth a line."""


@click.command("status", epilog=_EPILOG)
@name_argument
@click.option(
    "-w",
    "--watch",
    type=bool,
    default=True,
    show_default=True,
    metavar="BOOLEAN",
    help="Wait for the end; false says how it stands now.",
)
@click.option("--timeout", type=DURATION, default="0", metavar="DURATION", help="Longest wait. 0, the default: none.")
@click.option(
    "--revision",
    metavar="REVISION",
    help="Wait for this one to serve: a revision (v7-3fa9c1d2) or a version (v7), also before the alias names it.",
)
@connection_options
def command(name: str, watch: bool, timeout: timedelta, revision: str | None) -> None:
    """Say how the rollout of NAME goes, a line for each change, until it has come to an end.

    It ends well when what the alias names serves fully with today's spec. A pause that waits for a person is told, and
    waited for.
    """
    api = cluster()
    told = ""
    try:
        for each in changes(api, api.namespace, name, timeout):
            line, code = outcome(each, revision)
            if code == 0:
                text.say(line)
                return
            if code is not None:
                raise PluginError("; next: ".join((line, *_next(each))), exit_code=code)
            if line != told:
                text.say(line)
                told = line
            if not watch:
                return
    except ForbiddenError as error:
        raise asking_for(error, "get", api.namespace) from None
    raise PluginError(f"not within --timeout={duration.render(timeout)}: {told or name}", exit_code=EXIT_TIMEOUT)


def _next(each: View) -> list[str]:
    """The first thing to type."""
    ending = ending_command(each)
    return [ending] if ending is not None else next_commands(each)[:1]


def outcome(each: View, wanted: str | None = None) -> tuple[str, int | None]:
    """What to say, and the exit code; None while it is under way."""
    name = each.name
    ready = each.condition(ConditionType.READY)
    if ready is None:
        return f"Waiting for {name}: the operator has not said anything of it yet", None
    if not each.seen:
        return f"Waiting for {name}: the operator has not seen the latest change of its spec yet", None
    if ready.reason == Reason.REGULATORY_HOLD:
        return f"{name}: {ready.message}", EXIT_ON_HOLD
    if each.says(ConditionType.STALLED) == "True":
        return f"{name}: {ready.message}", EXIT_NEEDS_A_PERSON
    going = f"Waiting for {name}: {ready.message}{_outside(each)}"
    if ready.status != "True":
        return going, None
    if wanted is not None and each.stable is not None and wanted not in (each.stable, each.stable.partition("-")[0]):
        return f"Waiting for {name}: {each.stable} serves, {wanted} does not yet", None
    return f"{name}: {ready.message}", 0


def _outside(each: View) -> str:
    """What has to come from without, and how; what modelsync and Kubernetes are at is told by the condition."""
    waiting = each.status.waiting
    if waiting is None or waiting.who not in _OUTSIDE:
        return ""
    if waiting.who != "person" and text.now() - waiting.since < _SOON:
        return ""
    told = "" if waiting.reason == Reason.SUSPENDED else f"; waits for {waiting.message}"
    command_ = ending_command(each)
    return f"{told}: {command_}" if command_ else told
