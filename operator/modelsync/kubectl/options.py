"""The options that every command has, as kubectl spells them, and what a command line is turned into.

The values go to the user's kubectl as they were given; only the namespace is looked at.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from modelsync.api import names
from modelsync.kubectl.cluster.objects import Cluster, model_deployments
from modelsync.kubectl.cluster.transport import Kubectl
from modelsync.kubectl.errors import PluginError

_META = "modelsync.connection"
COMPLETION_SECONDS = 3
"""Longest that a press of TAB may wait for the API server."""

Command = TypeVar("Command", bound=Callable[..., Any])


def connection_options(command: Command) -> Command:
    """Add kubectl's own options for which cluster, whose rights and which namespace."""
    for names_, help_, multiple in (
        (("-n", "--namespace"), "Namespace. Default: the context's.", False),
        (("--context",), "Context of the kubeconfig.", False),
        (("--kubeconfig",), "The kubeconfig. Default: as kubectl has it.", False),
        (("--as", "as_user"), "User to act as, where you may impersonate.", False),
        (("--as-group",), "Group to act as; may be given again.", True),
    ):
        command = click.option(
            *names_, help=help_, multiple=multiple, expose_value=False, callback=_remember, metavar="TEXT"
        )(command)
    return command


def cluster() -> Cluster:
    """The cluster that the command line means."""
    context = click.get_current_context()
    if context.obj is not None:
        made: Cluster = context.obj
        return made
    said: dict[str, Any] = context.meta.get(_META, {})
    flags = [f"--{flag}={said[flag]}" for flag in ("context", "kubeconfig", "as") if said.get(flag)]
    flags += [f"--as-group={group}" for group in said.get("as-group", ())]
    if context.resilient_parsing:
        flags.append(f"--request-timeout={COMPLETION_SECONDS}s")
    return Kubectl(flags, namespace=said.get("namespace"))


class NameType(click.ParamType[str]):
    """The name of a ModelDeployment; `modeldeployment/chat` and `mdep/chat` mean `chat`, as kubectl has it."""

    name = "name"
    _KINDS = frozenset({names.PLURAL, names.SINGULAR, names.CRD_NAME, f"{names.SINGULAR}.{names.GROUP}"}) | frozenset(
        names.SHORT_NAMES
    )

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take the kind off."""
        kind, slash, name = str(value).rpartition("/")
        if slash and kind not in self._KINDS:
            self.fail(f"{value!r} is no ModelDeployment; write its name, as in `chat`", param, ctx)
        if not name:
            self.fail("the name is empty; `kubectl modelsync get` lists those that there are", param, ctx)
        return name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The ModelDeployments of the namespace."""
        with ctx:
            try:
                found = cluster()
                items = found.list(model_deployments(found.namespace))["items"]
            except PluginError:
                return []  # there is nobody to tell
        there = sorted(item["metadata"]["name"] for item in items)
        return [CompletionItem(name) for name in there if name.startswith(incomplete)]


class DurationType(click.ParamType[timedelta]):
    """`90s`, `1h30m`; `0` is none."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it by the one duration parser."""
        if isinstance(value, timedelta):
            return value
        if value == "0":
            return timedelta(0)
        from modelsync.api import duration  # here, for the sake of completion: it imports all of pydantic

        try:
            return duration.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


NAME = NameType()
DURATION = DurationType()

name_argument = click.argument("name", type=NAME)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """What is said after the command wins over what is said before it."""
    key = {"as_user": "as", "as_group": "as-group"}.get(param.name or "", param.name or "")
    if value:
        ctx.meta.setdefault(_META, {})[key] = value
