"""`kubectl modelsync get`: a list of ModelDeployments, or the tree of some of them, once or live."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from modelsync.api.conditions import ConditionType
from modelsync.kubectl import text
from modelsync.kubectl.errors import NotThereError
from modelsync.kubectl.options import NAME, cluster, connection_options
from modelsync.kubectl.picture import phase, picture
from modelsync.kubectl.text import age, columns, document, styled
from modelsync.kubectl.transport import Cluster, Object, model_deployments
from modelsync.kubectl.view import View, records, view

if TYPE_CHECKING:
    from modelsync.resources.record import Record

Key = tuple[str, str]


@click.command("get")
@click.argument("names", metavar="[NAME]...", nargs=-1, type=NAME)
@click.option("-A", "--all-namespaces", is_flag=True, help="Those of all namespaces.")
@click.option("-w", "--watch", is_flag=True, help="Go on showing what changes, until you press ^C.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["wide", "json", "yaml", "name"]),
    help="wide: more columns in the list. json, yaml: the objects as the API server has them.",
)
@connection_options
def command(names: tuple[str, ...], all_namespaces: bool, watch: bool, output: str | None) -> None:
    """Show the ModelDeployments of a namespace in a list; those that are named as trees.

    A tree has the alias and what it names, what is waited for and what would end it, and each revision with its share
    of the traffic, its pods, its own exam and the holds on it.
    """
    if names and all_namespaces:
        raise click.UsageError("a name is of one namespace; leave out --all-namespaces, or the name")
    if watch and output in {"json", "yaml", "name"}:
        raise click.UsageError(f"--watch shows changes to a person; without --output={output}, or use `kubectl get -w`")
    api = cluster()
    namespace = None if all_namespaces else api.namespace
    if watch:
        _watch(api, namespace, names, wide=output == "wide")
        return
    objects = _objects(api, namespace, names)
    if output in {"json", "yaml"}:
        one = len(names) == 1
        kind = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects}
        document(objects[0] if one else kind, output)
    elif output == "name":
        for each in objects:
            text.say(view(each).resource)
    elif not names:
        if not objects:
            where = f"{namespace} namespace" if namespace else "the cluster"
            click.echo(f"No ModelDeployments found in {where}.", err=True)
            return
        text.show(listed([view(each) for each in objects], everywhere=all_namespaces, wide=output == "wide"))
    else:
        text.show(_trees([view(each, records(api, api.namespace, _name(each))) for each in objects]))


def listed(views: Sequence[View], *, everywhere: bool = False, wide: bool = False, header: bool = True) -> Table:
    """One line for each."""
    headers = ["NAME", "READY", "PHASE", "ALIAS", "STABLE", "ROLLOUT", "PODS", "HOLD", "AGE"]
    if everywhere:
        headers.insert(0, "NAMESPACE")
    if wide:
        headers += ["DIGEST", "FALLBACK", "STATUS"]
    return columns(headers, [_line(each, everywhere, wide) for each in views], show=header)


def _line(each: View, everywhere: bool, wide: bool) -> list[Text | str]:
    status = each.status
    alias = str(each.spec.get("modelRef", "")).rpartition(":")[2]
    resolved = status.resolved.version if status.resolved is not None else "?"
    moving = each.moving
    rollout = "–"
    if status.canary is not None:
        canary = status.canary
        rollout = f"{canary.revision} {each.weight(canary.revision)} % (step {_step(canary.step, len(canary.steps))})"
    elif status.target is not None and moving is not None:
        rollout = f"{moving} {each.weight(moving)} % ({status.target.reason})"
    ready = each.says(ConditionType.READY) or "Unknown"
    line: list[Text | str] = [
        each.name,
        styled(ready, {"True": "green", "False": "bold red"}.get(ready, "cyan")),
        phase(each),
        f"{alias} → {resolved}",
        each.stable or "–",
        rollout,
        f"{status.ready_replicas or 0}/{status.replicas or 0}",
        styled(", ".join(dict.fromkeys(hold.version for hold in status.holds)) or "–", "red" if status.holds else ""),
        age(text.now() - _created(each)),
    ]
    if everywhere:
        line.insert(0, each.namespace)
    if wide:
        condition = each.condition(ConditionType.READY)
        fallback = status.fallback.revision if status.fallback is not None else None
        digest = status.resolved.digest[:12] if status.resolved is not None else "–"
        line += [digest, fallback or "–", condition.message if condition is not None else ""]
    return line


def _step(step: int, steps: int) -> str:
    return f"{step + 1}/{steps}" if step < steps else "promotion"


def _created(each: View) -> datetime:
    return datetime.fromisoformat(str(each.raw["metadata"]["creationTimestamp"]).replace("Z", "+00:00"))


def _objects(api: Cluster, namespace: str | None, names: Iterable[str]) -> list[Object]:
    if names:
        return [api.get(model_deployments(namespace, name)) for name in dict.fromkeys(names)]
    items: list[Object] = api.list(model_deployments(namespace))["items"]
    return items


def _trees(views: Sequence[View]) -> RenderableType:
    parts: list[RenderableType] = []
    for each in views:
        parts += [Text(), picture(each, text.now())] if parts else [picture(each, text.now())]
    return Group(*parts)


def _name(raw: Object) -> str:
    return str(raw["metadata"]["name"])


def _watch(api: Cluster, namespace: str | None, names: tuple[str, ...], *, wide: bool) -> None:
    """On a terminal one picture that changes; through a pipe what has changed, again and again."""
    known: dict[Key, dict[str, Record]] = {}
    console = text.terminal()
    changes = _following(api, namespace, names)
    if console is not None:
        _live(console, api, changes, names, known, everywhere=namespace is None, wide=wide)
        return
    before: Mapping[Key, Object] = {}
    first = True
    for found in changes:
        if found is None:
            continue
        changed = [view(raw) for key, raw in sorted(found.items()) if before.get(key) != raw]
        before = found
        if names:
            for each in changed:
                text.show(_trees([_with_records(api, each, known)]))
                text.say("")
        elif changed:
            text.show(listed(changed, everywhere=namespace is None, wide=wide, header=first))
            first = False


def _live(
    console: Console,
    api: Cluster,
    changes: Iterator[Mapping[Key, Object] | None],
    names: tuple[str, ...],
    known: "dict[Key, dict[str, Record]]",
    *,
    everywhere: bool,
    wide: bool,
) -> None:
    views: list[View] = []
    with Live(console=console, auto_refresh=False) as live:
        for found in changes:
            if found is not None:
                views = [view(raw) for _, raw in sorted(found.items())]
                if names:
                    views = [_with_records(api, each, known) for each in views]
            content: RenderableType = _trees(views) if names else listed(views, everywhere=everywhere, wide=wide)
            live.update(content if views else Text("No ModelDeployments yet."), refresh=True)


def _following(api: Cluster, namespace: str | None, names: tuple[str, ...]) -> Iterator[Mapping[Key, Object] | None]:
    """All of the namespace, or those that are named. Raises NotThereError when a named one is not, or no longer."""
    wanted = {(namespace or "", name) for name in names}
    for found in api.follow(namespace, names[0] if len(names) == 1 else None):
        if found is None or not wanted:
            yield found
            continue
        missing = sorted(wanted - found.keys())
        if missing:
            raise NotThereError(f'modeldeployments.modelsync.dev "{missing[0][1]}" not found in {missing[0][0]}')
        yield {key: raw for key, raw in found.items() if key in wanted}


def _with_records(api: Cluster, each: View, known: "dict[Key, dict[str, Record]]") -> View:
    """Records never change, so they are read again only for a revision that is new."""
    key = (each.namespace, each.name)
    if any(revision not in known.get(key, {}) for revision in each.revisions):
        known[key] = records(api, *key)
    return View(each.raw, each.status, known.get(key, {}))
