"""The options and argument types that the commands share, spelled as in kubectl.

The values are passed to the user's kubectl unchanged; only the namespace is read here.
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
"""Longest wait for the API server during completion."""

Command = TypeVar("Command", bound=Callable[..., Any])


def connection_options(command: Command) -> Command:
    """Add kubectl's options that select the cluster, the user and the namespace."""
    for names_, help_, multiple in (
        (("-n", "--namespace"), "Namespace. Default: that of the context.", False),
        (("--context",), "Context in the kubeconfig.", False),
        (("--kubeconfig",), "Path of the kubeconfig. Default: kubectl's.", False),
        (("--as", "as_user"), "User to impersonate.", False),
        (("--as-group",), "Group to impersonate; can be repeated.", True),
    ):
        command = click.option(
            *names_, help=help_, multiple=multiple, expose_value=False, callback=_remember, metavar="TEXT"
        )(command)
    return command


def cluster() -> Cluster:
    """The cluster that the command line selects."""
    context = click.get_current_context()
    if context.obj is not None:
        given: Cluster = context.obj
        return given
    values: dict[str, Any] = context.meta.get(_META, {})
    flags = [f"--{flag}={values[flag]}" for flag in ("context", "kubeconfig", "as") if values.get(flag)]
    flags += [f"--as-group={group}" for group in values.get("as-group", ())]
    if context.resilient_parsing:
        flags.append(f"--request-timeout={COMPLETION_SECONDS}s")
    return Kubectl(flags, namespace=values.get("namespace"))


class NameType(click.ParamType[str]):
    """The name of a ModelDeployment; `modeldeployment/chat` and `mdep/chat` mean `chat`, as in kubectl."""

    name = "name"
    _KINDS = frozenset({names.PLURAL, names.SINGULAR, names.CRD_NAME, f"{names.SINGULAR}.{names.GROUP}"}) | frozenset(
        names.SHORT_NAMES
    )

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Remove the kind."""
        kind, slash, name = str(value).rpartition("/")
        if slash and kind not in self._KINDS:
            self.fail(f"{value!r} is not a ModelDeployment; give its name, such as `chat`", param, ctx)
        if not name:
            self.fail("the name is empty; list the names with `kubectl modelsync get`", param, ctx)
        return name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the names of the namespace's ModelDeployments."""
        with ctx:
            try:
                found = cluster()
                items = found.list(model_deployments(found.namespace))["items"]
            except PluginError:
                return []  # a completion has nowhere to print an error
        found_names = sorted(item["metadata"]["name"] for item in items)
        return [CompletionItem(name) for name in found_names if name.startswith(incomplete)]


class DurationType(click.ParamType[timedelta]):
    """`90s`, `1h30m`; `0` means no limit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Parse it with the parser of the API."""
        if isinstance(value, timedelta):
            return value
        if value == "0":
            return timedelta(0)
        from modelsync.api import duration  # not at the top: it imports pydantic, which would slow down completion

        try:
            return duration.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


NAME = NameType()
DURATION = DurationType()

name_argument = click.argument("name", type=NAME)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Options after the command override those before it."""
    key = {"as_user": "as", "as_group": "as-group"}.get(param.name or "", param.name or "")
    if value:
        ctx.meta.setdefault(_META, {})[key] = value
