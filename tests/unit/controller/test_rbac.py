"""`deploy/rbac.yaml`: what the operator may do, and what it must never be allowed."""

from pathlib import Path
from typing import Any

import pytest
import yaml

RULES_FILE = Path(__file__).resolve().parents[3] / "deploy" / "rbac.yaml"


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    documents = yaml.safe_load_all(RULES_FILE.read_text())
    return [rule for document in documents if document["kind"].endswith("Role") for rule in document["rules"]]


def verbs(rules: list[dict[str, Any]], resource: str) -> set[str]:
    return {verb for rule in rules if resource in rule["resources"] for verb in rule["verbs"]}


def test_secrets_can_be_read_by_name_but_neither_listed_nor_watched(rules: list[dict[str, Any]]) -> None:
    assert verbs(rules, "secrets") == {"get", "create", "delete"}


def test_nothing_is_granted_by_a_wildcard(rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])


def test_the_spec_of_a_model_deployment_is_not_the_operators_to_write(rules: list[dict[str, Any]]) -> None:
    # `patch` is the stamp of a new leader on the metadata; RBAC cannot tell them apart.
    assert verbs(rules, "modeldeployments") == {"get", "list", "watch", "patch"}
    assert verbs(rules, "modeldeployments/status") == {"update"}


def test_nothing_is_granted_that_lets_it_run_code_or_raise_its_rights(rules: list[dict[str, Any]]) -> None:
    granted = {resource for rule in rules for resource in rule["resources"]}
    assert not granted & {
        "pods/exec",
        "pods/attach",
        "pods/portforward",
        "nodes",
        "roles",
        "rolebindings",
        "namespaces",
    }
    assert "create" not in verbs(rules, "pods")
