"""Who may do what, checked by a real API server with the chart's policy and roles.

Every request is a dry run by a user with exactly one role, so that the tests do not affect each other.
"""

from collections.abc import Iterator
from typing import Any

import pytest

import policy
from apiserver import ApiServer, RefusedError, collection, wait_for
from modelsync.api import names
from modelsync.api.requests import PROMOTE, REFRESH
from modelsync.api.roles import RELEASE, REQUESTS, RESUME, ROLES, SUSPEND, UPDATE
from policy import ADMISSION, RBAC, RENAMED, operator_of, refusal, role_binding

REVISION = "v7-3fa9c1d2"
SPEC: dict[str, Any] = {
    "modelRef": "acme/models/chat:production",
    "registry": {
        "baseURL": "https://wandb.example.com",
        "auth": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}},
    },
    "hold": {"tags": ["regulatory-hold", "legal-hold"], "aliases": ["held-*"], "action": "Block", "maxStaleness": "5m"},
}


def request(annotation: str, value: str | None) -> dict[str, Any]:
    return {"metadata": {"annotations": {annotation: value}}}


def spec(**changes: Any) -> dict[str, Any]:
    return {"spec": changes}


# Patch of an object -> the right that it needs.
CHANGES: dict[str, tuple[str, dict[str, Any], str]] = {
    **{f"request {right.verb}": ("chat", request(right.annotation or "", REVISION), right.verb) for right in REQUESTS},
    **{
        f"take away a request to {right.verb}": ("asked", request(right.annotation or "", None), right.verb)
        for right in REQUESTS
    },
    "suspend": ("chat", spec(suspend=True), SUSPEND.verb),
    "resume": ("suspended", spec(suspend=False), RESUME.verb),
    "resume by leaving it out": ("suspended", spec(suspend=None), RESUME.verb),
    "a tag less": ("chat", spec(hold={"tags": ["regulatory-hold"]}), RELEASE.verb),
    "another alias": ("chat", spec(hold={"aliases": ["held"]}), RELEASE.verb),
    "fallback instead of block": ("chat", spec(hold={"action": "Fallback"}), RELEASE.verb),
    "older knowledge of marks": ("chat", spec(hold={"maxStaleness": "10m"}), RELEASE.verb),
    "any knowledge that the administrator takes": ("chat", spec(hold={"maxStaleness": None}), RELEASE.verb),
    "fresher knowledge": ("chat", spec(hold={"maxStaleness": "90s"}), UPDATE),
    "no hold": ("chat", spec(hold=None), RELEASE.verb),
    "a tag more": ("chat", spec(hold={"tags": ["regulatory-hold", "legal-hold", "stop"]}), UPDATE),
    "another alias to serve": ("chat", spec(modelRef="acme/models/chat:staging"), UPDATE),
    "another size": ("chat", spec(replicas=3), UPDATE),
    "another server": ("chat", spec(registry={"baseURL": "https://other.example.com"}), UPDATE),
    "other args": ("chat", spec(serving={"args": ["--max-model-len=8192"]}), UPDATE),
    "another deadline": ("chat", spec(rollout={"progressDeadline": "1h"}), UPDATE),
    "another settle": ("chat", spec(traffic={"settle": "9s"}), UPDATE),
    "a shorter memory": ("chat", spec(revisionHistoryLimit=2), UPDATE),
    "a label": ("chat", RENAMED, UPDATE),
    "a finalizer": ("chat", {"metadata": {"finalizers": ["tests.modelsync.dev/x"]}}, UPDATE),
    "an annotation of somebody else": ("chat", request("example.com/note", "x"), UPDATE),
}


@pytest.fixture(scope="module")
def api() -> ApiServer:
    return ApiServer()


@pytest.fixture(scope="module")
def people() -> dict[str, ApiServer]:
    """Role -> a client of a user with only that role."""
    return {role.name: ApiServer(role.name) for role in ROLES}


@pytest.fixture(scope="module")
def release(api: ApiServer) -> Iterator[str]:
    """The release name under which policy and roles are installed, as by the chart."""
    api.install_definition()
    with policy.installed(api) as name:
        yield name


@pytest.fixture(scope="module")
def namespace(api: ApiServer, release: str) -> Iterator[str]:
    """A namespace in which the policy is active and each user has their role."""
    name = api.make_namespace()
    create(api, name, "chat", SPEC)
    create(api, name, "suspended", SPEC | {"suspend": True})
    create(api, name, "asked", SPEC, {right.annotation: f"{REVISION}/0" for right in REQUESTS})
    try:
        with policy.in_force(api, release, name):
            yield name
    finally:
        api.delete_namespace(name)


def create(
    who: ApiServer,
    namespace: str,
    name: str,
    spec: dict[str, Any],
    annotations: dict[str | None, str] | None = None,
    *,
    dry_run: bool = False,
) -> None:
    metadata = {"name": name, "annotations": annotations or {}}
    body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": spec}
    who.create(namespace, body, dry_run=dry_run)


def test_the_apiserver_has_nothing_to_warn_of_in_the_expressions(api: ApiServer, release: str) -> None:
    path = f"{ADMISSION}/validatingadmissionpolicies/{release}"
    status = wait_for("the expressions to be checked", lambda: checked(api.call("GET", path)))
    assert (status.get("typeChecking") or {}).get("expressionWarnings", []) == []


def checked(policy: dict[str, Any]) -> dict[str, Any] | None:
    status: dict[str, Any] = policy.get("status") or {}
    return status if status.get("observedGeneration") == policy["metadata"]["generation"] else None


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_is_let_through_for_the_roles_with_its_right_alone(
    what: str, people: dict[str, ApiServer], namespace: str, release: str
) -> None:
    name, patch, right = CHANGES[what]
    for role in ROLES:
        refused = refusal(people[role.name], namespace, name, patch)
        if "patch" not in role.verbs:
            assert refused is not None
            assert f'cannot patch resource "{names.PLURAL}"' in refused
        elif right in role.verbs:
            assert refused is None, f"{role.name} may {right}"
        else:
            assert refused is not None, f"{role.name} may not {right}"
            assert f"{role.name} may not " in refused
            assert (
                f"the right to {right} modeldeployments.modelsync.dev {name} in namespace {namespace} is missing"
                in refused
            )
            assert f"--clusterrole={release}-" in refused
            assert f"--namespace={namespace} --user={role.name}" in refused


def test_the_administrator_may_do_everything(api: ApiServer, namespace: str) -> None:
    assert [refusal(api, namespace, name, patch) for name, patch, _ in CHANGES.values()] == [None] * len(CHANGES)


def test_a_request_may_name_only_the_person_who_makes_it(people: dict[str, ApiServer], namespace: str) -> None:
    def refused(value: str) -> str | None:
        return refusal(people["approver"], namespace, "chat", request(PROMOTE.annotation, value))

    assert [refused(f"{REVISION}/1/approver"), refused(f"{REVISION}/1"), refused(f"{REVISION}/1/")] == [None] * 3
    for name in ("alice", "approver/", "approver/alice", "system:admin"):
        message = refused(f"{REVISION}/1/{name}")
        assert message is not None
        assert "may not make a request in the name of another user: write REVISION/TOKEN/approver" in message


def test_an_unchanged_request_needs_no_right(people: dict[str, ApiServer], namespace: str) -> None:
    assert refusal(people["editor"], namespace, "asked", RENAMED) is None


def test_a_request_that_is_too_long_to_be_echoed_is_refused(people: dict[str, ApiServer], namespace: str) -> None:
    long = request(REFRESH.annotation, "x" * 257)
    with pytest.raises(RefusedError, match="at most 256 characters") as refused:
        people["approver"].call(
            "PATCH", f"{collection(namespace)}/chat", long, content_type="application/merge-patch+json"
        )
    assert refused.value.status == 422


def test_an_editor_creates_without_a_request_and_not_with_one(people: dict[str, ApiServer], namespace: str) -> None:
    create(people["editor"], namespace, "new", SPEC | {"suspend": True}, dry_run=True)
    with pytest.raises(RefusedError, match=r"the right to promote .* is missing"):
        create(people["editor"], namespace, "new", SPEC, {PROMOTE.annotation: REVISION}, dry_run=True)


def test_the_operator_stamps_what_it_takes_over(release: str, namespace: str) -> None:
    stamp = request(names.LEADER_EPOCH_ANNOTATION, "3")
    assert refusal(ApiServer(operator_of(release)), namespace, "chat", stamp) is None
    assert refusal(ApiServer("responder"), namespace, "chat", stamp) is not None


def test_who_holds_all_rights_may_give_them_and_an_editor_may_not(api: ApiServer, release: str, namespace: str) -> None:
    """As the namespace's `admin`, which the roles are aggregated to and which may write RoleBindings."""
    rules = [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"], "verbs": ["create"]}]
    body = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "giver"}, "rules": rules}
    api.call("POST", f"{RBAC}/namespaces/{namespace}/roles", body)
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name} for name in ("boss", "editor")]
    giver = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "giver"}
    api.call("POST", f"{RBAC}/namespaces/{namespace}/rolebindings", role_binding("giver", giver, subjects))
    for role in ROLES:
        held = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"{release}-{role.name}"}
        api.call(
            "POST", f"{RBAC}/namespaces/{namespace}/rolebindings", role_binding(f"boss-{role.name}", held, subjects[:1])
        )
    given = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"{release}-approver"}
    path = f"{RBAC}/namespaces/{namespace}/rolebindings"
    wait_for(
        "the administrator to be one", lambda: gives(ApiServer("boss"), path, role_binding("given", given, subjects))
    )
    with pytest.raises(RefusedError, match="attempting to grant RBAC permissions not currently held"):
        ApiServer("editor").call("POST", path, role_binding("given", given, subjects), query={"dryRun": "All"})


def gives(who: ApiServer, path: str, body: dict[str, Any]) -> bool:
    try:
        who.call("POST", path, body, query={"dryRun": "All"})
    except RefusedError:
        return False
    return True
