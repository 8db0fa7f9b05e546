"""Helm renders the same admission policy and roles that the integration tests apply to the API server."""

import re

from chart.conftest import Objects, Render, kinds, one
from generate import policy
from modelsync.api.requests import Requests
from modelsync.api.roles import REQUESTS, ROLES
from modelsync.api.spec import ModelDeploymentSpec

POLICY, BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"


def roles(objects: Objects) -> dict[str, list[str]]:
    """Name -> verbs on ModelDeployments."""
    return {
        name.removeprefix("modelsync-"): each["rules"][0]["verbs"]
        for each in objects
        if each["kind"] == "ClusterRole"
        and (name := each["metadata"]["name"]) in {f"modelsync-{role.name}" for role in ROLES}
    }


def test_the_policy_is_the_one_that_was_tested(render: Render) -> None:
    objects = render()
    operator = "system:serviceaccount:modelsync-system:modelsync"
    assert one(objects, POLICY)["spec"] == policy.policy_spec("modelsync", operator)
    assert one(objects, BINDING)["spec"] == policy.binding_spec("modelsync")


def test_the_roles_match_the_table(render: Render) -> None:
    assert roles(render()) == {role.name: list(role.verbs) for role in ROLES}


def test_only_the_namespace_administrator_gets_the_steering_rights(render: Render) -> None:
    targets = {
        each["metadata"]["name"].removeprefix("modelsync-"): {
            label.rpartition("-")[2] for label in each["metadata"]["labels"] if "aggregate-to-" in label
        }
        for each in render()
        if each["kind"] == "ClusterRole"
    }
    assert targets["viewer"] == {"view", "edit", "admin"}
    assert targets["editor"] == {"edit", "admin"}
    assert [targets[name] for name in ("responder", "approver", "releaser")] == [{"admin"}] * 3
    assert not [
        each
        for each in render(rbac={"aggregate": False})
        if any("aggregate-to-" in label for label in each["metadata"].get("labels", {}))
    ]


def test_without_the_policy_there_is_no_role_whose_patch_would_write_everything(render: Render) -> None:
    objects = render(admissionPolicy={"enabled": False})
    assert not kinds(objects) & {POLICY, BINDING}
    assert set(roles(objects)) == {"viewer", "editor"}
    nothing_of_the_cluster = render(admissionPolicy={"enabled": False}, rbac={"aggregate": False})
    assert roles(nothing_of_the_cluster) == {}


def test_the_policy_of_some_namespaces_is_in_force_there_alone(render: Render) -> None:
    objects = render(watchNamespaces=["prod", "dev"])
    (expression,) = one(objects, BINDING)["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert expression == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["dev", "prod"]}


def test_another_service_account_is_let_through_under_its_own_name(render: Render) -> None:
    objects = render(serviceAccount={"create": False, "name": "mine"})
    (condition,) = one(objects, POLICY)["spec"]["matchConditions"]
    assert "'system:serviceaccount:modelsync-system:mine'" in condition["expression"]


def test_every_field_of_the_spec_and_every_request_has_its_right(render: Render) -> None:
    spec = one(render(), POLICY)["spec"]
    variables = {each["name"]: each["expression"] for each in spec["variables"]}
    fields = {field.alias or name for name, field in ModelDeploymentSpec.model_fields.items()}
    judged = " ".join(variables.values())
    assert set(re.findall(r"object\.spec\.\?(\w+)", judged)) == fields
    asked = {right.annotation.partition("/")[2].replace("-", "_") for right in REQUESTS if right.annotation}
    assert asked == set(Requests.__dataclass_fields__), "the planner answers exactly these"
    checks = {verb for each in spec["validations"] for verb in re.findall(r"check\('([\w-]+)'\)", each["expression"])}
    assert {right.verb for right in REQUESTS} <= checks
