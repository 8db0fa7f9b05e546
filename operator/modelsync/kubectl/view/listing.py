"""Renders several ModelDeployments as a list with one line each, or as trees. Pure."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelsync.api.conditions import ConditionType
from modelsync.kubectl.view.deployment import View
from modelsync.kubectl.view.text import age, columns, styled
from modelsync.kubectl.view.tree import phase, picture


def trees(views: Sequence[View], now: datetime) -> RenderableType:
    """One tree below the other."""
    parts: list[RenderableType] = []
    for each in views:
        parts += [Text(), picture(each, now)] if parts else [picture(each, now)]
    return Group(*parts)


def listed(
    views: Sequence[View],
    now: datetime,
    *,
    everywhere: bool = False,
    wide: bool = False,
    header: bool = True,
    widths: list[int] | None = None,
) -> Table:
    """One line for each. `widths` are the column widths of earlier lists, and are updated with those of this one."""
    headers = ["NAME", "READY", "PHASE", "ALIAS", "STABLE", "ROLLOUT", "PODS", "HOLD", "AGE"]
    if everywhere:
        headers.insert(0, "NAMESPACE")
    if wide:
        headers += ["DIGEST", "FALLBACK", "STATUS"]
    return columns(headers, [_line(each, now, everywhere, wide) for each in views], show=header, widths=widths)


def _line(each: View, now: datetime, everywhere: bool, wide: bool) -> list[Text | str]:
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
    ready = each.condition_status(ConditionType.READY) or "Unknown"
    line: list[Text | str] = [
        each.name,
        styled(ready, {"True": "green", "False": "bold red"}.get(ready, "cyan")),
        phase(each),
        f"{alias} → {resolved}",
        each.stable or "–",
        rollout,
        f"{status.ready_replicas or 0}/{status.replicas or 0}",
        styled(", ".join(dict.fromkeys(hold.version for hold in status.holds)) or "–", "red" if status.holds else ""),
        age(now - each.created),
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
