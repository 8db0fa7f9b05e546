"""The table of rights: what the operator may do, and what it must never be allowed."""

from modelsync.cluster import rights
from modelsync.cluster.rights import Right

TABLE: tuple[Right, ...] = rights.WORK + rights.LEADING


def verbs(resource: str) -> set[str]:
    return {verb for right in TABLE if right.resource == resource for verb in right.verbs}


def test_secrets_can_be_read_by_name_but_neither_listed_nor_watched() -> None:
    assert verbs("secrets") == {"get", "create", "delete"}


def test_nothing_is_granted_by_a_wildcard() -> None:
    assert not [right for right in TABLE if "*" in (right.kind.group, right.resource, *right.verbs)]


def test_the_spec_of_a_model_deployment_is_not_the_operators_to_write() -> None:
    # `patch` is the stamp of a new leader on the metadata; RBAC cannot tell them apart.
    assert verbs("modeldeployments") == {"get", "list", "watch", "patch"}
    assert verbs("modeldeployments/status") == {"update"}


def test_nothing_is_granted_that_lets_it_run_code_or_raise_its_rights() -> None:
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
