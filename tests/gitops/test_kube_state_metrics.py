"""The configuration for kube-state-metrics uses existing fields, and values that it can convert to numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelsync.api import names
from modelsync.api.crd import crd
from modelsync.api.status import Phase

CONFIG = Path(__file__).resolve().parents[2] / "gitops" / "kube-state-metrics.yaml"
METADATA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "generation": {"type": "integer", "format": "int64"},
        "creationTimestamp": {"type": "string", "format": "date-time"},
    },
}
COUNTABLE = {("integer", "int32"), ("integer", "int64"), ("boolean", None), ("string", "date-time")}

(RESOURCE,) = yaml.safe_load(CONFIG.read_text())["spec"]["resources"]
METRICS: dict[str, Any] = {metric["name"]: metric["each"] for metric in RESOURCE["metrics"]}


def schema(path: list[str], root: dict[str, Any] | None = None) -> dict[str, Any]:
    """The schema at `path`; fails if a part is not in the definition."""
    (version,) = crd()["spec"]["versions"]
    node = root or version["schema"]["openAPIV3Schema"]
    for part in path:
        node = METADATA if part == "metadata" and root is None else node["properties"][part]
    return dict(node)


def labels(each: dict[str, Any]) -> Iterator[list[str]]:
    (body,) = [value for key, value in each.items() if key != "type"]
    yield from body.get("labelsFromPath", {}).values()


def test_it_speaks_of_our_kind() -> None:
    assert RESOURCE["groupVersionKind"] == {"group": names.GROUP, "version": names.VERSION, "kind": names.KIND}
    for path in RESOURCE["labelsFromPath"].values():
        assert schema(path)["type"] == "string"


@pytest.mark.parametrize("name", METRICS)
def test_every_path_is_in_the_definition_and_can_be_counted(name: str) -> None:
    each = METRICS[name]
    if each["type"] == "Info":
        assert all(schema(path)["type"] == "string" for path in labels(each))
        return
    if each["type"] == "StateSet":
        assert schema(each["stateSet"]["path"])["type"] == "string"
        return
    gauge = each["gauge"]
    found = schema(gauge["path"])
    if "valueFrom" in gauge:
        assert found["type"] == "array"
        assert all(schema(path, found["items"])["type"] == "string" for path in labels(each))
        value = schema(gauge["valueFrom"], found["items"])
        # kube-state-metrics converts True to 1, False and Unknown to 0 (pkg/customresourcestate toFloat64).
        is_condition = value.get("enum") == ["True", "False", "Unknown"]
        assert is_condition or (value["type"], value.get("format")) in COUNTABLE
    else:
        assert (found["type"], found.get("format")) in COUNTABLE


def test_the_phases_are_those_of_the_status() -> None:
    assert METRICS["status_phase"]["stateSet"]["list"] == [str(phase) for phase in Phase]
