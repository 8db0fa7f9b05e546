"""`kubectl modelsync diff`: the differences between two revisions in versions and in spec fields."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.text import Text

from modelsync.api.parts import part_label
from modelsync.commands import printable
from modelsync.kubectl.errors import PluginError
from modelsync.kubectl.options import cluster, connection_options, name_argument
from modelsync.kubectl.view import text
from modelsync.kubectl.view.deployment import Revision, View, read
from modelsync.kubectl.view.text import columns, document, styled
from modelsync.resources.record import Record
from modelsync.resources.revision import Artifact

_PARTS = ("adapters", "artifacts", "baseModelRef")
"""Fields of the spec that are references to be resolved; the diff shows the resolved versions instead."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference; None where the field or part is absent."""

    what: str
    before: str | None
    after: str | None


@click.command("diff")
@name_argument
@click.argument("revisions", metavar="[FROM [TO]]", nargs=-1)
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Machine-readable output.")
@connection_options
def command(name: str, revisions: tuple[str, ...], output: str | None) -> None:
    """Show how the revision being rolled out, or named by the alias, differs from the stable.

    Compares the versions of the model, of adapters and side artifacts, and the spec fields that are part of a
    revision. To compare other revisions, give FROM and TO as revisions or versions such as v7.
    """
    if len(revisions) > 2:
        raise click.UsageError("give at most two revisions")
    each = read(cluster(), name, with_records=True)
    if not each.records:
        raise PluginError(
            f"no revision record of {name} can be read: either the operator has not created one yet, or you lack "
            f"`list` on controllerrevisions.apps in {each.namespace} (Kubernetes' role `view` includes it)"
        )
    before, after = _which(each, revisions)
    one, other = _record(each, before), _record(each, after)
    changes = list(changed(one, other))
    if output:
        document(
            {
                "from": before,
                "to": after,
                "changes": [{"what": c.what, "before": c.before, "after": c.after} for c in changes],
            },
            output,
        )
    else:
        text.show(_table(each, before, after, changes))


def changed(before: Record, after: Record) -> Iterator[Change]:
    """All differences, parts first."""
    one, other = before.parts, after.parts
    for key in dict.fromkeys((*one, *other)):
        old, new = one.get(key), other.get(key)
        if old is None or new is None or old.digest != new.digest:
            yield Change(part_label(key), _artifact(old), _artifact(new))
    was, is_ = _flat(before), _flat(after)
    for path in dict.fromkeys((*was, *is_)):
        if was.get(path) != is_.get(path):
            yield Change(f"spec.serving.{path}", was.get(path), is_.get(path))
    if before.pre_stop != after.pre_stop:
        yield Change("preStop of the pods", f"{before.pre_stop.seconds}s", f"{after.pre_stop.seconds}s")


def _which(each: View, given: tuple[str, ...]) -> tuple[Revision, Revision]:
    names = [_named(each, text_) for text_ in given]
    if len(names) == 2:
        return names[0], names[1]
    if each.stable is None:
        raise PluginError(f"nothing to compare with: no revision of {each.name} has been promoted yet")
    before = names[0] if names else each.stable
    after = each.moving or each.named
    if after is None or after == before:
        after = each.stable
    if after == before:
        raise PluginError(
            f"nothing to compare: {before} is the stable, and no other revision is rolled out or named by the alias; "
            f"give two of {', '.join(sorted(each.records))}"
        )
    return before, after


def _named(each: View, given: str) -> Revision:
    """The revision of that name, or the only revision of that version."""
    if given in each.records:
        return given
    found = sorted(revision for revision in each.records if revision.partition("-")[0] == given)
    if len(found) == 1:
        return found[0]
    if found:
        raise PluginError(f"{given} has several revisions: {', '.join(found)}; give one of them")
    raise PluginError(f"{each.name} has no revision {given}; its revisions: {', '.join(sorted(each.records))}")


def _record(each: View, revision: Revision) -> Record:
    if revision not in each.records:
        raise PluginError(f"{revision} has no record yet; the operator creates it when the rollout starts")
    return each.records[revision]


def _artifact(artifact: Artifact | None) -> str | None:
    return f"{artifact.ref} (digest {artifact.digest[:12]})" if artifact is not None else None


def _flat(record: Record) -> dict[str, str]:
    """The fields of the revision's `spec.serving` by path; flags and named items by name."""
    serving = {key: value for key, value in record.inputs.serving.wire().items() if key not in _PARTS}
    return dict(_fields(serving, ""))


def _fields(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _fields(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            if isinstance(item, Mapping) and "name" in item:
                rest = {key: each for key, each in item.items() if key != "name"}
                yield from _fields(rest.get("value", rest) if len(rest) == 1 else rest, f"{path}[{item['name']}]")
            elif isinstance(item, str) and item.startswith("--"):
                flag, equals, given = item.partition("=")
                yield f"{path}[{flag}]", given if equals else "set"
            else:
                yield from _fields(item, f"{path}[{number}]")
    else:
        yield path, str(value).lower() if isinstance(value, bool) else str(value)


def _table(each: View, before: Revision, after: Revision, changes: list[Change]) -> RenderableType:
    title = Text.assemble(
        (printable(each.name), "bold"), f"  {before}{_role(each, before)} → {after}{_role(each, after)}"
    )
    if not changes:
        return Group(title, Text("no differences"))
    rows: list[list[Text | str]] = [
        [change.what, _cell(change.before, "red"), _cell(change.after, "green")] for change in changes
    ]
    return Group(title, Text(), columns(("WHAT", "BEFORE", "AFTER"), rows))


def _role(each: View, revision: Revision) -> str:
    if revision == each.stable:
        return " (stable)"
    canary = each.status.canary
    return " (canary)" if canary is not None and canary.revision == revision else ""


def _cell(value: str | None, style: str) -> Text:
    return styled(value if value is not None else "–", style if value is not None else "dim")
