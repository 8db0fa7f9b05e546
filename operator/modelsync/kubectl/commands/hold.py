"""`kubectl modelsync hold`: the holds in force, where each is set in the registry, and what serves instead."""

from datetime import datetime
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.text import Text

from modelsync.api.conditions import ConditionType
from modelsync.api.hold import WORDING
from modelsync.api.status import HoldStatus
from modelsync.kubectl.options import cluster, connection_options, name_argument
from modelsync.kubectl.view import text
from modelsync.kubectl.view.deployment import View, read
from modelsync.kubectl.view.text import age, document, facts, styled
from modelsync.kubectl.view.tree import hold_text


@click.command("hold")
@name_argument
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Machine-readable output.")
@connection_options
def command(name: str, output: str | None) -> None:
    """Show the holds in force on the versions that NAME serves or could serve.

    For each hold: the tag or alias that sets it and where in the registry, since when, which revisions it blocks, and
    how to lift it. Without a hold: what would serve if the stable were held now.
    """
    each = read(cluster(), name, with_records=True)
    if output:
        document(_document(each), output)
    else:
        text.show(explained(each, text.now()))


def explained(each: View, now: datetime) -> RenderableType:
    """Each hold; without one, what would serve if the stable were held."""
    if not each.status.holds:
        fallback = each.status.fallback
        would = fallback.reason if fallback is not None else "nothing serves yet"
        where = f"{fallback.revision}: " if fallback is not None and fallback.revision else ""
        return facts([("Hold", styled("none", "green")), ("If held", f"{where}{would}")])
    ready = each.condition(ConditionType.READY)
    parts: list[RenderableType] = []
    for hold in each.status.holds:
        held = [revision for revision in _known(each) if hold in each.holds(revision)]
        rows: list[tuple[str, Text | str]] = [
            ("Hold", styled(hold_text(hold), "bold red")),
            ("Digest", hold.digest),
            (
                "Since",
                f"{hold.since.isoformat(timespec='seconds').replace('+00:00', 'Z')} ({age(now - hold.since)})",
            ),
            ("Revisions", ", ".join(held) or "none whose record you may read"),
        ]
        rows += [("Set at", hold.server)] if hold.server else []
        rows += [("Silenced", _silenced(each, revision)) for revision in held if _silenced(each, revision)]
        rows.append(("To lift it", _lift(hold)))
        parts += [Text(), facts(rows)] if parts else [facts(rows)]
    serving = ready.message if ready is not None else ""
    return Group(*parts, Text(), facts([("Now", serving)]))


def _known(each: View) -> list[str]:
    entries = [entry.revision for entry in each.status.history]
    return list(dict.fromkeys([*each.revisions, *each.records, *entries]))


def _silenced(each: View, revision: str) -> str:
    found = next((item for item in each.status.silenced if item.revision == revision), None)
    if found is None:
        return ""
    took = f", last byte {found.within} after the registry was queried" if found.within else ", already silent"
    return f"{revision}: {found.acknowledged} of {found.pods} pods acknowledged{took}"


def _lift(hold: HoldStatus) -> str:
    return WORDING[hold.via].removal.format(name=hold.name, collection=hold.collection, version=hold.version)


def _document(each: View) -> dict[str, Any]:
    status = each.status.model_dump(mode="json", by_alias=True, exclude_none=True, include={"fallback", "silenced"})
    holds = []
    for hold in each.status.holds:
        wire = hold.model_dump(mode="json", by_alias=True, exclude_none=True)
        wire["revisions"] = [revision for revision in _known(each) if hold in each.holds(revision)]
        holds.append(wire)
    return {"held": bool(holds), "holds": holds, **status}
