"""`kubectl modelsync status`: wait for the rollout to finish, as `kubectl rollout status` does."""

from datetime import timedelta

import click

from modelsync.api import duration
from modelsync.api.conditions import ConditionType
from modelsync.api.reasons import Reason
from modelsync.kubectl.cluster.permissions import asking_for
from modelsync.kubectl.errors import (
    EXIT_NEEDS_ACTION,
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
  0    the wanted version serves; with --watch=false also: the rollout is in progress
  1    the cluster refused
  2    usage error
  3    a version failed, or needs a decision; the message says which
  4    a hold is in force on the version that serves or that the alias names
  5    not finished within --timeout
"""


_OUTSIDE = {"person", "registry", "gateway"}
_SOON = timedelta(seconds=10)
"""Registry and gateway normally answer within a second or two; only longer waits are worth a line."""


@click.command("status", epilog=_EPILOG)
@name_argument
@click.option(
    "-w",
    "--watch",
    type=bool,
    default=True,
    show_default=True,
    metavar="BOOLEAN",
    help="Wait for the rollout to finish; false prints the current state and exits.",
)
@click.option(
    "--timeout", type=DURATION, default="0", metavar="DURATION", help="How long to wait. 0: no limit (default)."
)
@click.option(
    "--revision",
    metavar="REVISION",
    help="Wait for this revision (v7-3fa9c1d2) or version (v7), even if the alias does not name it yet.",
)
@connection_options
def command(name: str, watch: bool, timeout: timedelta, revision: str | None) -> None:
    """Follow the rollout of NAME, one line per change, until it finishes.

    It succeeds when the version that the alias names takes all traffic with the current spec. When the rollout pauses
    for a promotion, the command prints that and keeps waiting.
    """
    api = cluster()
    last_line = ""
    try:
        for each in changes(api, api.namespace, name, timeout):
            line, code = outcome(each, revision)
            if code == 0:
                text.print_line(line)
                return
            if code is not None:
                raise PluginError("; next: ".join((line, *_next(each))), exit_code=code)
            if line != last_line:
                text.print_line(line)
                last_line = line
            if not watch:
                return
    except ForbiddenError as error:
        raise asking_for(error, "get", api.namespace) from None
    raise PluginError(
        f"not finished within --timeout={duration.render(timeout)}: {last_line or name}", exit_code=EXIT_TIMEOUT
    )


def _next(each: View) -> list[str]:
    """The first command to try next, if there is one."""
    ending = ending_command(each)
    return [ending] if ending is not None else next_commands(each)[:1]


def outcome(each: View, wanted: str | None = None) -> tuple[str, int | None]:
    """The line to print, and the exit code; None while the rollout is in progress."""
    name = each.name
    ready = each.condition(ConditionType.READY)
    if ready is None:
        return f"Waiting for {name}: the operator has not reported on it yet", None
    if not each.seen:
        return f"Waiting for {name}: the operator has not seen the latest change to its spec yet", None
    if ready.reason == Reason.REGULATORY_HOLD:
        return f"{name}: {ready.message}", EXIT_ON_HOLD
    if each.condition_status(ConditionType.STALLED) == "True":
        return f"{name}: {ready.message}", EXIT_NEEDS_ACTION
    if ready.status != "True":
        return f"Waiting for {name}: {ready.message}{_outside(each)}", None
    if wanted is not None and each.stable is not None and wanted not in (each.stable, each.stable.partition("-")[0]):
        return f"Waiting for {name}: {each.stable} serves, {wanted} does not yet", None
    return f"{name}: {ready.message}", 0


def _outside(each: View) -> str:
    """What the rollout waits for outside modelsync and Kubernetes, and the command that ends the wait, if there is one.

    The Ready condition already describes the work of modelsync and Kubernetes.
    """
    waiting = each.status.waiting
    if waiting is None or waiting.who not in _OUTSIDE:
        return ""
    if waiting.who != "person" and text.now() - waiting.since < _SOON:
        return ""
    # The condition of a suspended one already gives this reason.
    reason = "" if waiting.reason == Reason.SUSPENDED else f"; waits for {waiting.message}"
    command_ = ending_command(each)
    return f"{reason}: {command_}" if command_ else reason
