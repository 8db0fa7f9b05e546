"""Whatever one object contains, a pass over its ModelDeployment ends, and a hold on what serves is in its plan."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile import family
from hostile.junk import GONE, Path, nested, paths, replaced, values
from modelsync.observe.spec_status import UnreadableError
from modelsync.rollout.model import CutOff, PointService, RemoveRoute, SetRoute

NODES = [(name, path) for name, obj in sorted(family.valid().items()) for path in ((), *paths(obj))]

EXAMPLES: list[tuple[str, Path, Any]] = [
    ("owner", (), None),
    ("owner", ("metadata", "generation"), -1),
    ("owner", ("metadata", "generation"), float("nan")),
    ("owner", ("metadata", "annotations"), [1]),
    ("owner", ("status",), "x"),
    ("owner", ("status", "canary", "steps", 1, "pause", "duration"), ""),
    ("owner", ("spec", "traffic", "gateway", "hostnames"), 1.5),
    ("rival", ("spec", "traffic"), [{}]),
    ("rival", ("spec", "traffic", "gateway", "parentRefs"), 5),
    ("rival route", ("spec",), "x"),
    ("rival route", ("spec", "parentRefs"), 5),
    ("rival route", ("spec", "rules", 0, "matches", 0, "path"), -1),
    ("route", ("metadata", "managedFields"), True),
    ("route", ("metadata", "managedFields", 0, "time"), "9999-12-31T23:59:59Z"),
    ("route", ("spec", "rules", 0, "backendRefs"), True),
    ("route", ("spec", "rules", 0, "backendRefs", 1, "weight"), 10**400),
    ("service", ("metadata", "ownerReferences"), "x"),
    ("plain service", ("spec", "selector", "modelsync.dev/revision"), ["x"]),
    ("deployment", ("metadata", "labels", "modelsync.dev/name"), ["x"]),
    ("record", (), None),
    ("record", ("data",), GONE),
    ("record", ("data", "inputs"), 5),
    ("record", ("metadata", "ownerReferences"), "x"),
    ("canary record", ("metadata", "creationTimestamp"), "2026-11-21T08:00:00"),
    ("canary record", ("data", "deployment", "metadata"), None),
    ("canary record", ("data", "inputs"), nested(2000)),
    ("slice", ("metadata", "labels", "kubernetes.io/service-name"), [{}]),
    ("slice", ("endpoints", 0, "targetRef"), nested(2000)),
    ("pod", ("metadata",), GONE),
    ("pod", ("metadata", "labels", "modelsync.dev/revision"), {}),
    ("pod", ("spec",), [None]),
    ("pod", ("spec", "nodeName"), []),
    ("pod", ("status", "initContainerStatuses", 0, "lastState"), 1.5),
    ("pod", ("status", "initContainerStatuses", 0, "state", "terminated", "message"), '{"digest":"x","files":1e999}'),
    ("pod", ("status", "initContainerStatuses", 0, "restartCount"), 10**400),
    ("crashed pod", ("status", "containerStatuses", 0, "lastState", "terminated", "message"), "\ud800"),
    ("crashed pod", ("status", "conditions", 0, "lastTransitionTime"), "9999-12-31T23:59:59-23:59"),
]
"""What stopped a pass before, as hypothesis shrank it."""


def test_the_hold_is_in_the_plan_of_valid_objects() -> None:
    done = family.run(family.valid())
    assert done is not None
    assert {SetRoute, PointService, CutOff} <= {type(action) for action in done.plan.actions}
    assert CutOff(family.STABLE) in done.plan.actions
    without = family.run(family.valid(), hold=False)
    assert without is not None
    assert not without.plan.urgent


@pytest.mark.parametrize(("name", "path", "value"), EXAMPLES, ids=[f"{name}: {path}" for name, path, _ in EXAMPLES])
def test_what_once_stopped_a_pass_stops_no_hold(name: str, path: Path, value: Any) -> None:
    check(name, path, value)


@settings(max_examples=300)
@given(st.sampled_from(NODES), values | st.just(GONE))
def test_for_any_one_object_replaced_by_anything_a_held_revision_loses_its_exposure(
    node: tuple[str, Path], value: Any
) -> None:
    check(*node, value)


def check(name: str, path: Path, value: Any) -> None:
    """Replace one node of one object, and see what is left of the hold's actions: all that don't need this object."""
    objects = family.valid()
    objects[name] = replaced(objects[name], path, value) if path or value is not GONE else {}
    try:
        done = family.run(objects)
    except UnreadableError:
        assert name == "owner"
        assert family.STABLE in family.held_without_a_plan(objects)
        return
    if name == "owner" and (not path or path[0] == "metadata") and is_another(objects["owner"]):
        return
    assert done is not None
    actions = done.plan.actions
    assert done.plan.urgent
    assert CutOff(family.STABLE) in actions
    if name != "route":
        assert any(is_safe(action) for action in actions), actions
    if name != "plain service":
        assert any(isinstance(action, PointService) and action.revision != family.STABLE for action in actions), actions


def is_safe(action: object) -> bool:
    """Whether it takes the held revision out of the route."""
    if isinstance(action, RemoveRoute):
        return True
    if not isinstance(action, SetRoute):
        return False
    shares = {revision for revision, weight in action.weights if weight}
    return family.STABLE not in shares | {rule.revision for rule in action.rules}


def is_another(owner: Any) -> bool:
    """Whether it is no longer the ModelDeployment that owns the others: they belong to nobody then."""
    before, after = family.valid()["owner"]["metadata"], owner.get("metadata") if isinstance(owner, dict) else None
    return not isinstance(after, dict) or any(
        after.get(field) != before[field] for field in ("name", "namespace", "uid")
    )
