"""The operator's service account in a real apiserver: the rights of the table, bounded by the chart's policy."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from prometheus_client.parser import text_string_to_metric_families

from apiserver import ApiServer, RefusedError, wait_for
from generate import operator_policy
from modelsync.cluster.permissions import LEADING, WORK
from policy import ADMISSION, RBAC

NAME = "operator"
"""Not as a release's account is called: its requests are none of those that the end-to-end tests count."""


def any_lease(_namespace: str) -> str:
    """For operators of the tests, each of which has a Lease in a namespace of its own."""
    return "object.metadata.name.startsWith('modelsync-')"


@dataclass(frozen=True, slots=True)
class Account:
    """The account, in its own namespace."""

    namespace: str
    policy: str

    @property
    def user(self) -> str:
        """Its user name."""
        return f"system:serviceaccount:{self.namespace}:{NAME}"

    def client(self) -> ApiServer:
        """A client that acts as this account."""
        return ApiServer(self.user)

    def write_kubeconfig(self, api: ApiServer, current: Path, path: Path) -> Path:
        """Write a kubeconfig of this account for the cluster of the kubeconfig `current`."""
        token_path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{NAME}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
        token = api.call("POST", token_path, body)["status"]["token"]
        config = yaml.safe_load(current.read_text())
        config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path


@contextmanager
def bounded(
    api: ApiServer, *, own_lease: Callable[[str], str] = any_lease, everything: bool = False
) -> Iterator[Account]:
    """Make the account, and put the policy in force. `own_lease` makes its expression from the account's namespace.

    Its rights are the table's in the whole cluster, or with `everything` all that there are: whatever is refused then
    is refused by the policy.
    """
    name = f"bound-{uuid4().hex[:6]}"
    account = Account(api.make_namespace(), name)
    group = "rbac.authorization.k8s.io"
    try:
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME}}
        api.call("POST", f"/api/v1/namespaces/{account.namespace}/serviceaccounts", body)
        rules = [
            {"apiGroups": [right.kind.group], "resources": [right.resource], "verbs": list(right.verbs)}
            for right in WORK + LEADING
        ]
        if everything:
            rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
        subject = {"kind": "ServiceAccount", "name": NAME, "namespace": account.namespace}
        role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
        api.call("POST", f"{RBAC}/clusterroles", role)
        binding: dict[str, Any] = {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
        }
        binding |= {"roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name}, "subjects": [subject]}
        api.call("POST", f"{RBAC}/clusterrolebindings", binding)
        _install(
            api,
            "ValidatingAdmissionPolicy",
            name,
            operator_policy.policy_spec(account.user, own_lease(account.namespace)),
        )
        _install(api, "ValidatingAdmissionPolicyBinding", name, operator_policy.binding_spec(name))
        wait_for("the policy to be in force", lambda: _is_in_force(account))
        yield account
    finally:
        for path in (
            f"{ADMISSION}/validatingadmissionpolicybindings/{name}",
            f"{ADMISSION}/validatingadmissionpolicies/{name}",
            f"{RBAC}/clusterrolebindings/{name}",
            f"{RBAC}/clusterroles/{name}",
        ):
            if api.exists(path):
                api.call("DELETE", path)
        api.delete_namespace(account.namespace)


def objections(api: ApiServer, policy: str) -> dict[str, float]:
    """How often the API server has refused a request by the policy, or could not evaluate it."""
    text = api.text("GET", "/metrics")
    return {
        str(sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "apiserver_validating_admission_policy_check_total" and sample.labels["policy"] == policy
    }


def _install(api: ApiServer, kind: str, name: str, spec: dict[str, Any]) -> None:
    plural = {"ValidatingAdmissionPolicy": "policies", "ValidatingAdmissionPolicyBinding": "policybindings"}[kind]
    body = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    api.call("POST", f"{ADMISSION}/validatingadmission{plural}", body)


def _is_in_force(account: Account) -> bool:
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}}
    path = f"/api/v1/namespaces/{account.namespace}/services"
    try:
        account.client().call("POST", path, body, query={"dryRun": "All"})
    except RefusedError as error:
        return operator_policy.SAYS in error.message
    return False
