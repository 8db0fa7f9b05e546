"""`kubectl modelsync get`: ModelDeployments as a list, or as trees when named; once, or live with --watch."""

from collections.abc import Iterable, Iterator

import click

from modelsync.commands import printable
from modelsync.kubectl.cluster.lookup import one
from modelsync.kubectl.cluster.objects import Cluster, Object, model_deployments
from modelsync.kubectl.cluster.permissions import asking_for
from modelsync.kubectl.errors import ForbiddenError, PluginError
from modelsync.kubectl.options import NAME, cluster, connection_options
from modelsync.kubectl.view import text
from modelsync.kubectl.view.deployment import View, records, view
from modelsync.kubectl.view.listing import listed, trees
from modelsync.kubectl.view.live import watch as watch_
from modelsync.kubectl.view.text import document


@click.command("get")
@click.argument("names", metavar="[NAME]...", nargs=-1, type=NAME)
@click.option("-A", "--all-namespaces", is_flag=True, help="List all namespaces.")
@click.option("-w", "--watch", is_flag=True, help="Keep showing changes until ^C.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["wide", "json", "yaml", "name"]),
    help="wide: a list with more columns. json, yaml: the objects as stored in the API server.",
)
@connection_options
def command(names: tuple[str, ...], all_namespaces: bool, watch: bool, output: str | None) -> None:
    """List the ModelDeployments of a namespace, or show the named ones as trees.

    A tree shows the alias and the version it names, what the rollout waits for and which command ends the wait, and
    each revision with its share of the traffic, its pods, its exam and its holds.
    """
    if names and all_namespaces:
        raise click.UsageError("--all-namespaces cannot be combined with a name; use --namespace")
    if watch and output in {"json", "yaml", "name"}:
        raise click.UsageError(f"--watch cannot be combined with --output={output}; use `kubectl get -w`")
    api = cluster()
    namespace = None if all_namespaces else api.namespace
    wide = output == "wide"
    try:
        if watch:
            watch_(api, namespace, names, as_trees=bool(names) and not wide, wide=wide)
            return
        objects = _objects(api, namespace, names)
    except ForbiddenError as error:
        raise asking_for(error, "list", namespace) from None
    if output in {"json", "yaml"}:
        kind = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects}
        document(objects[0] if len(names) == 1 else kind, output)
    elif output == "name":
        for each in objects:
            text.print_line(view(each).resource)
    elif names and not wide:
        text.show(trees([view(each, records(api, api.namespace, _name(each))) for each in objects], text.now()))
    elif objects:
        text.show(listed(list(_readable(objects)), text.now(), everywhere=all_namespaces, wide=wide))
    else:
        where = f"{namespace} namespace" if namespace else "the cluster"
        click.echo(f"No ModelDeployments found in {where}.", err=True)


def _objects(api: Cluster, namespace: str | None, names: Iterable[str]) -> list[Object]:
    if names:
        return [one(api, name) for name in dict.fromkeys(names)]
    items: list[Object] = api.list(model_deployments(namespace))["items"]
    return items


def _readable(objects: Iterable[Object]) -> Iterator[View]:
    """Skip, with a warning, an object whose status is too new to read; it must not hide the others."""
    for raw in objects:
        try:
            yield view(raw)
        except PluginError as error:
            click.echo(f"warning: {printable(error.message)}", err=True)


def _name(raw: Object) -> str:
    return str(raw["metadata"]["name"])
