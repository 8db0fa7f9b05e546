"""The RBAC table: what the operator is allowed to do, and what it must never be allowed to do."""

import ast
from collections.abc import Iterator
from pathlib import Path

from modelsync.api import kinds
from modelsync.api.kinds import Kind
from modelsync.cluster import permissions
from modelsync.cluster.cache import CHILD_KINDS
from modelsync.cluster.permissions import Right

TABLE: tuple[Right, ...] = permissions.WORK + permissions.LEADING


def verbs(resource: str) -> set[str]:
    return {verb for right in TABLE if right.resource == resource for verb in right.verbs}


def test_secrets_can_be_read_by_name_but_neither_listed_nor_watched() -> None:
    assert verbs("secrets") == {"get", "create", "delete"}


def test_nothing_is_granted_by_a_wildcard() -> None:
    assert not [right for right in TABLE if "*" in (right.kind.group, right.resource, *right.verbs)]


def test_the_operator_may_not_update_the_spec_of_a_model_deployment() -> None:
    # A new leader patches the metadata; RBAC cannot distinguish that from a patch of the spec.
    assert verbs("modeldeployments") == {"get", "list", "watch", "patch"}
    assert verbs("modeldeployments/status") == {"update"}


def test_nothing_is_granted_that_allows_to_run_code_or_to_escalate_privileges() -> None:
    granted = {right.resource for right in TABLE}
    assert not granted & {
        "pods/exec",
        "pods/attach",
        "pods/portforward",
        "nodes",
        "roles",
        "rolebindings",
        "namespaces",
    }
    assert "create" not in verbs("pods")


def test_every_right_says_why_it_is_needed() -> None:
    assert all(right.why for right in TABLE)


# -- against the code

_VERBS = {
    "get": {"get"},
    "find": {"get"},
    "list_all": {"list"},
    "list_recent": {"list"},
    "pages": {"list"},
    "create": {"create"},
    "apply": {"patch", "create"},  # server-side apply creates missing objects
    "replace": {"update"},
    "merge": {"patch"},
    "delete": {"delete"},
}
"""The RBAC verbs that each method of `cluster.client.Cluster` needs."""


def named_calls(source: str) -> Iterator[tuple[str, Kind, str]]:
    """Yield (method, kind, subresource) of each call on a cluster that names its kind literally."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        first = node.args[0]
        kind = getattr(kinds, first.id, None) if isinstance(first, ast.Name) else None
        if isinstance(kind, Kind) and ast.unparse(node.func.value).lower().endswith("cluster"):
            status = node.func.attr == "replace_status"
            yield "replace" if status else node.func.attr, kind, "status" if status else ""


def operator_sources() -> list[Path]:
    root = Path(permissions.__file__).parents[1]
    return [path for part in ("cluster", "controller", "effects") for path in sorted((root / part).rglob("*.py"))]


def test_every_call_that_names_its_kind_is_granted() -> None:
    granted = {(right.kind, right.subresource, verb) for right in TABLE for verb in right.verbs}
    calls = [call for path in operator_sources() for call in named_calls(path.read_text())]
    assert len(calls) > 10
    missing = {
        (method, kind.kind, subresource)
        for method, kind, subresource in calls
        if not {(kind, subresource, verb) for verb in _VERBS[method]} <= granted
    }
    assert not missing


def test_every_watched_kind_may_be_listed_and_watched() -> None:
    for kind in (kinds.MODEL_DEPLOYMENT, kinds.HTTP_ROUTE, *CHILD_KINDS):
        assert {"list", "watch"} <= verbs(kind.plural), kind


def test_a_call_outside_of_the_table_is_found() -> None:
    source = "async def f(self):\n    self._cluster.list_all(SECRET, None)\n    cluster.replace_status(POD, a, b)"
    assert list(named_calls(source)) == [("list_all", kinds.SECRET, ""), ("replace", kinds.POD, "status")]
