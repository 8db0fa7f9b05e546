"""The chart's admission policy and roles in a real apiserver, in force in one namespace.

There are people who are called as their role is, and have it and no other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from apiserver import ApiServer, RefusedError, collection, wait_for
from generate import policy
from modelsync.api import names
from modelsync.api.roles import ROLES

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
RENAMED = {"metadata": {"labels": {"team": "search"}}}


def operator_of(release: str) -> str:
    """Its user name."""
    return f"system:serviceaccount:{release}:operator"


@contextmanager
def installed(api: ApiServer) -> Iterator[str]:
    """Policy and roles, as the chart makes them; the name of the release."""
    name = f"policy-{uuid4().hex[:6]}"
    try:
        for role in ROLES:
            _cluster_role(api, f"{name}-{role.name}", policy.role_rules(role))
        stamps = [{"apiGroups": [names.GROUP], "resources": [names.PLURAL], "verbs": ["get", "patch"]}]
        _cluster_role(api, f"{name}-operator", stamps)
        _install(api, "ValidatingAdmissionPolicy", name, policy.policy_spec(name, operator_of(name)))
        yield name
    finally:
        api.call("DELETE", f"{ADMISSION}/validatingadmissionpolicies/{name}")
        for suffix in (*(role.name for role in ROLES), "operator"):
            api.call("DELETE", f"{RBAC}/clusterroles/{name}-{suffix}")


@contextmanager
def in_force(api: ApiServer, release: str, namespace: str) -> Iterator[None]:
    """The policy is asked in `namespace`, where `chat` is, and everybody has their role there."""
    for role in ROLES:
        _bind(api, namespace, f"{release}-{role.name}", role.name)
    _bind(api, namespace, f"{release}-operator", operator_of(release))
    only_here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    binding = policy.binding_spec(release) | {"matchResources": only_here}
    _install(api, "ValidatingAdmissionPolicyBinding", release, binding)
    try:
        responder = ApiServer("responder")
        wait_for("the policy to be in force", lambda: refusal(responder, namespace, "chat", RENAMED))
        yield
    finally:
        api.call("DELETE", f"{ADMISSION}/validatingadmissionpolicybindings/{release}")


def refusal(who: ApiServer, namespace: str, name: str, patch: dict[str, Any]) -> str | None:
    """Patch as a dry run; what the apiserver says if that is forbidden."""
    path, merge = f"{collection(namespace)}/{name}", "application/merge-patch+json"
    try:
        who.call("PATCH", path, patch, query={"dryRun": "All", "fieldValidation": "Strict"}, content_type=merge)
    except RefusedError as error:
        if error.status != 403:
            raise
        return error.message
    return None


def role_binding(name: str, role: dict[str, str], subjects: list[dict[str, str]]) -> dict[str, Any]:
    """A RoleBinding."""
    body = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name}}
    return body | {"roleRef": role, "subjects": subjects}


def _install(api: ApiServer, kind: str, name: str, spec: dict[str, Any]) -> None:
    body = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    path = {"ValidatingAdmissionPolicy": "policies", "ValidatingAdmissionPolicyBinding": "policybindings"}[kind]
    api.call("POST", f"{ADMISSION}/validatingadmission{path}", body)


def _cluster_role(api: ApiServer, name: str, rules: list[dict[str, Any]]) -> None:
    body = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}}
    api.call("POST", f"{RBAC}/clusterroles", body | {"rules": rules})


def _bind(api: ApiServer, namespace: str, role: str, user: str) -> None:
    held = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    api.call("POST", f"{RBAC}/namespaces/{namespace}/rolebindings", role_binding(role, held, [subject]))
