"""Extracts from PromQL the names of metrics and the labels by which they are queried.

Not a PromQL parser (promtool is one), but enough to compare queries with the existing metrics: selectors, and the
labels of aggregations and joins.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"\b([a-z_][a-z0-9_]*)\b\s*(?:\{([^}]*)\})?(?!\s*\()")
_WORDS = frozenset({"and", "or", "unless", "by", "on", "bool", "offset", "le"})
_ADDED = frozenset({"le", "pod", "instance", "job"})
"""Labels that Prometheus or its configuration adds, and the bucket label of a histogram."""


@dataclass(frozen=True)
class Asked:
    """A metric, and the labels that it must have."""

    metric: str
    labels: frozenset[str]


def asked(query: str) -> Iterator[Asked]:
    """The metrics of a query; labels of groupings must exist on any of them (see `grouped`)."""
    text = _GROUPING.sub("", re.sub(r"\[[^\]]*\]", "", query))
    # Remove values first, so that no word in them is mistaken for a metric.
    text = _STRING.sub('""', text)
    for name, inside in _SELECTOR.findall(text):
        if name not in _WORDS and "_" in name:
            labels = {re.split("[=!]", part)[0].strip() for part in inside.split(",") if part.strip()}
            yield Asked(name, frozenset(labels) - _ADDED)


def grouped(query: str) -> set[str]:
    """The labels in aggregations and joins."""
    found = {label.strip() for inside in _GROUPING.findall(query) for label in inside.split(",")}
    return found - _ADDED - {""}


def dashboard_queries(text: str) -> Iterator[tuple[str, str]]:
    """Title and PromQL of each query of a dashboard, including its variables and the labels in legends."""
    document: dict[str, Any] = json.loads(text)
    for panel in document["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
            labels = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            if labels:
                yield f"{panel['title']}, legend", f"sum by ({', '.join(labels)}) ({target['expr']})"
    for variable in document["templating"]["list"]:
        if found := re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("definition", "")):
            yield variable["name"], f"sum by ({found[2]}) ({found[1]})"
