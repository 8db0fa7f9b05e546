"""Helm renders the same admission policy and roles that the integration tests apply to the API server."""

import re

import pytest

from chart.conftest import Objects, Render, kinds, one
from generate import operator_policy, policy
from modelsync.api.requests import Requests
from modelsync.api.roles import REQUESTS, ROLES
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.cluster.permissions import LEADING, WORK

POLICY, BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
BOUND = "modelsync-operator"


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
    neither = {"enabled": False, "boundOperator": False}
    objects = render(admissionPolicy=neither)
    assert not kinds(objects) & {POLICY, BINDING}
    assert set(roles(objects)) == {"viewer", "editor"}
    nothing_of_the_cluster = render(admissionPolicy=neither, rbac={"aggregate": False})
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


# -- the operator's own account


def policies(objects: Objects) -> set[tuple[str, str]]:
    return {(each["kind"], each["metadata"]["name"]) for each in objects if each["kind"] in (POLICY, BINDING)}


def test_the_policy_for_the_operators_account_is_the_one_that_was_tested(render: Render) -> None:
    operator = "system:serviceaccount:modelsync-system:modelsync"
    leases = operator_policy.leases_in("modelsync-system")
    assert one(render(), POLICY, BOUND)["spec"] == operator_policy.policy_spec(operator, leases)
    assert one(render(), BINDING, BOUND)["spec"] == operator_policy.binding_spec(BOUND)


def test_it_bounds_the_account_that_the_pods_have_in_all_namespaces(render: Render) -> None:
    objects = render(watchNamespaces=["prod"], serviceAccount={"create": False, "name": "mine"})
    pods = one(objects, "Deployment")["spec"]["template"]["spec"]
    spec = one(objects, POLICY, BOUND)["spec"]
    (condition,) = spec["matchConditions"]
    account = f"system:serviceaccount:modelsync-system:{pods['serviceAccountName']}"
    assert condition["expression"] == f"request.userInfo.username == '{account}'"
    assert "matchResources" not in one(objects, BINDING, BOUND)["spec"]
    assert operator_policy.leases_in("modelsync-system") in spec["validations"][-1]["expression"]
    for values in ({}, {"watchNamespaces": ["prod"]}):
        (lease,) = one(render(**values), "Role", "modelsync-lease")["rules"][1]["resourceNames"]
        assert f"{lease}-".startswith(f"{operator_policy.LEASE_NAME}-"), "which the policy allows"


def test_what_cannot_be_decided_is_let_through_so_that_no_hold_is_stopped(render: Render) -> None:
    assert one(render(), POLICY, BOUND)["spec"]["failurePolicy"] == "Ignore"
    # A parameter would be an object that somebody could delete.
    assert "paramKind" not in one(render(), POLICY, BOUND)["spec"]
    assert "paramRef" not in one(render(), BINDING, BOUND)["spec"]


@pytest.mark.parametrize(
    ("values", "there"),
    [
        ({}, {"modelsync", BOUND}),
        ({"enabled": False}, {BOUND}),
        ({"boundOperator": False}, {"modelsync"}),
        ({"enabled": False, "boundOperator": False}, set()),
    ],
    ids=str,
)
def test_users_and_the_operator_are_bounded_independently(
    values: dict[str, bool], there: set[str], render: Render
) -> None:
    assert policies(render(admissionPolicy=values)) == {(kind, name) for kind in (POLICY, BINDING) for name in there}


def test_every_kind_that_the_operator_may_write_has_a_rule() -> None:
    """A kind that is added to the table must be added to the policy's rules, or to what needs none."""
    needs_none = {
        "modeldeployments/status.modelsync.dev",  # nothing but the status is written there
        "modeldeployments/finalizers.modelsync.dev",  # not a request: an admission plugin asks for it
        "events.events.k8s.io",
    }
    rules = " ".join(each["expression"] for each in operator_policy.policy_spec("x", "false")["validations"])
    written = set(operator_policy.writes())
    assert {each for each in written if f"'{each}'" not in rules} == needs_none


def test_the_policy_grants_what_rbac_grants() -> None:
    found = operator_policy.writes()
    assert found["deployments.apps"] == ["CREATE", "UPDATE", "DELETE"]
    assert found["pods"] == ["DELETE"]
    verbs = {verb for right in WORK + LEADING for verb in right.verbs}
    assert verbs - {"get", "list", "watch"} == set(operator_policy.OPERATIONS), "a verb that writes has an operation"
