"""What the operator's account may write, checked by a real API server with the chart's policy.

RBAC grants the account everything here, so each refusal is the policy's. The objects are those that the operator
renders. Every request is a dry run, so that the tests do not affect each other. That the operator can do all its work
under the policy is what tests/integration/controller shows: there it runs with this account, and the table's rights.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

import account
from account import Account
from apiserver import ApiServer, RefusedError
from generate import operator_policy
from integration.resources.conftest import SPEC
from modelsync.api import kinds, names
from modelsync.api.kinds import Kind
from modelsync.api.requests import PROMOTE
from modelsync.api.routing import Routing
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.resources import children
from modelsync.resources.objects import Object, Owner
from modelsync.resources.record import Record, record
from modelsync.resources.revision import Artifact, inputs_of, revision_name
from modelsync.resources.route import http_route

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
READ = ModelDeploymentSpec.model_validate(SPEC)
ARTIFACT = Artifact(
    entity="acme",
    project="models",
    collection="chat",
    version="v7",
    artifact_id="QXJ0aWZhY3Q6MQ==",
    digest="d41d8cd98f00b204e9800998ecf8427e",
    size=1234,
)
SETTINGS = OperatorSettings(puller_image="modelsync:1")
INPUTS = inputs_of("chat", READ, ARTIFACT, SETTINGS, [])
REVISION = revision_name(INPUTS)
CHILD = names.child("chat", REVISION)
CREATE, UPDATE, DELETE = "CREATE", "UPDATE", "DELETE"
GRANTED = operator_policy.writes()


def a_record(owner: Owner) -> Object:
    return record(owner, INPUTS, ARTIFACT, READ, SETTINGS, fuse_sha256="5f" * 32)


def a_deployment(owner: Owner, replicas: int = 0) -> Object:
    return children.deployment(Record.parse(a_record(owner)), replicas)


# What effects/apply.py writes, rendered as there.
WRITTEN: dict[str, tuple[Kind, Callable[[Owner], Object]]] = {
    "the record": (kinds.CONTROLLER_REVISION, a_record),
    "the fuse": (kinds.SECRET, lambda owner: children.fuse_secret(owner, REVISION, "token")),
    "the Deployment": (kinds.DEPLOYMENT, a_deployment),
    "the revision's Service": (kinds.SERVICE, lambda owner: children.revision_service(owner, REVISION)),
    "the plain Service": (kinds.SERVICE, lambda owner: children.plain_service(owner, REVISION)),
    "the blocked Service": (kinds.SERVICE, children.blocked_service),
    "the budget": (kinds.POD_DISRUPTION_BUDGET, lambda owner: children.disruption_budget(owner, REVISION)),
    "the route": (
        kinds.HTTP_ROUTE,
        lambda owner: http_route(owner, READ.traffic, Routing(weights=((REVISION, 100),)), hold="a hold"),
    ),
}


def granted(kind: Kind) -> list[str]:
    return GRANTED[kind.plural + (f".{kind.group}" if kind.group else "")]


OPERATIONS = [(what, operation) for what in WRITTEN for operation in (CREATE, UPDATE, DELETE)]
ALLOWED = [(what, operation) for what, operation in OPERATIONS if operation in granted(WRITTEN[what][0])]


@dataclass(frozen=True)
class Place:
    """A namespace with the ModelDeployment `chat`."""

    api: ApiServer
    account: Account
    namespace: str
    owner: Owner

    def rendered(self, what: str) -> tuple[Kind, Object]:
        kind, render = WRITTEN[what]
        return kind, deepcopy(render(self.owner))

    def add(self, kind: Kind, body: Object) -> None:
        """Create an object as the administrator. As YAML, as the operator does for records: the API server then writes
        the bytes itself, and accepts patches of the metadata."""
        text = yaml.safe_dump({"apiVersion": kind.api_version, "kind": kind.kind} | body)
        self.api.call("POST", kind.path(self.namespace), text, content_type="application/yaml")

    def refusal(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
    ) -> str | None:
        """What the policy says to a request of the account; None when it is let through."""
        query = {"dryRun": "All"} | (
            {"fieldManager": names.FIELD_MANAGER, "force": "true"} if content_type == APPLY else {}
        )
        try:
            self.account.client().call(method, path, body, query=query, content_type=content_type)
        except RefusedError as error:
            if error.status == 403 and operator_policy.SAYS in error.message:
                return error.message.partition(operator_policy.SAYS)[2]
            raise
        return None

    def create(self, kind: Kind, body: Object) -> str | None:
        if kind in (kinds.CONTROLLER_REVISION, kinds.SECRET):
            return self.refusal("POST", kind.path(self.namespace), body)
        return self.apply(kind, body)

    def apply(self, kind: Kind, body: Object) -> str | None:
        return self.refusal("PATCH", kind.path(self.namespace, body["metadata"]["name"]), body, content_type=APPLY)

    def update(self, kind: Kind, body: Object) -> str | None:
        """Bring an object into the state `body`; of one that is immutable, the metadata."""
        if kind not in (kinds.CONTROLLER_REVISION, kinds.SECRET):
            return self.apply(kind, body)
        metadata = {part: body["metadata"][part] for part in ("labels", "ownerReferences")}
        return self.merge(kind, body["metadata"]["name"], {"metadata": metadata})

    def merge(self, kind: Kind, name: str, patch: Object) -> str | None:
        return self.refusal("PATCH", kind.path(self.namespace, name), patch, content_type=MERGE)

    def delete(self, kind: Kind, name: str, **options: Any) -> str | None:
        # With a body, the API server does not look at the query.
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background", "dryRun": ["All"]}
        return self.refusal("DELETE", kind.path(self.namespace, name), body | options)

    def write(self, what: str, operation: str) -> str | None:
        """Write one of the operator's objects as it does; an update brings the object into the wanted state."""
        kind, body = self.rendered(what)
        match operation:
            case "CREATE":
                return self.create(kind, body)
            case "UPDATE":
                return self.update(kind, body)
            case _:
                return self.delete(kind, body["metadata"]["name"])


Make = Callable[..., Place]


@pytest.fixture(scope="module")
def make_place() -> Iterator[Make]:
    """A namespace with `chat`, and with its children as `change` leaves them; without `change`, with none."""
    api = ApiServer()
    api.install_definition()
    with ExitStack() as stack:
        bounded = stack.enter_context(account.bounded(api, everything=True, own_lease=operator_policy.leases_in))

        def make(change: Callable[[Object], None] | None = None) -> Place:
            namespace = api.make_namespace()
            stack.callback(api.delete_namespace, namespace)
            body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "chat"}, "spec": SPEC}
            place = Place(api, bounded, namespace, Owner.of(api.create(namespace, body)))
            for what in WRITTEN if change is not None else ():
                kind, child = place.rendered(what)
                if change is not None:
                    change(child)
                place.add(kind, child)
            return place

        yield make


@pytest.fixture(scope="module")
def ours(make_place: Make) -> Place:
    """All children are there, as the operator makes them."""
    return make_place(lambda _: None)


@pytest.fixture(scope="module")
def empty(make_place: Make) -> Place:
    return make_place()


@pytest.fixture(scope="module")
def foreign(make_place: Make) -> Place:
    """There are objects with the names of our children, without our label and owner."""

    def change(child: Object) -> None:
        child["metadata"] = {"name": child["metadata"]["name"], "labels": {"app": "theirs"}}

    return make_place(change)


@pytest.fixture(scope="module")
def orphaned(make_place: Make) -> Place:
    """The children have no owner any more, as after `--cascade=orphan` or a restore from backup."""
    return make_place(lambda child: child["metadata"].pop("ownerReferences"))


@pytest.fixture(scope="module")
def unlabelled(make_place: Make) -> Place:
    """Somebody has taken the labels off the children."""
    return make_place(lambda child: child["metadata"].pop("labels"))


# -- what it does


@pytest.mark.parametrize("what", [what for what, operation in ALLOWED if operation == CREATE])
def test_each_object_of_a_model_can_be_created(what: str, empty: Place) -> None:
    assert empty.write(what, CREATE) is None


@pytest.mark.parametrize(("what", "operation"), [pair for pair in ALLOWED if pair[1] != CREATE])
def test_each_object_of_a_model_can_be_changed_and_deleted(what: str, operation: str, ours: Place) -> None:
    assert ours.write(what, operation) is None


def test_what_is_changed_is_really_changed(ours: Place) -> None:
    """Otherwise the update above would prove nothing: the API server does not ask about a patch without effect."""
    other = children.plain_service(ours.owner, names.BLOCKED)
    assert ours.apply(kinds.SERVICE, other) is None
    weights = Routing(weights=((names.BLOCKED, 1),))
    assert ours.apply(kinds.HTTP_ROUTE, http_route(ours.owner, READ.traffic, weights)) is None
    assert ours.apply(kinds.DEPLOYMENT, a_deployment(ours.owner, 4)) is None
    assert ours.merge(kinds.DEPLOYMENT, CHILD, {"spec": {"replicas": 1}}) is None


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kinds.MODEL_DEPLOYMENT, "chat"),
        (kinds.DEPLOYMENT, CHILD),
        (kinds.SERVICE, "chat"),
        (kinds.HTTP_ROUTE, "chat"),
    ],
    ids=str,
)
def test_a_new_leader_stamps(kind: Kind, name: str, ours: Place) -> None:
    stamp = {"metadata": {"annotations": {names.LEADER_EPOCH_ANNOTATION: "5f0c-3"}}}
    assert ours.merge(kind, name, stamp) is None


def test_the_status_and_events_are_written(ours: Place) -> None:
    read = ours.api.call("GET", kinds.MODEL_DEPLOYMENT.path(ours.namespace, "chat"))
    status = {"status": {"phase": "Healthy"}}
    assert ours.refusal("PUT", kinds.MODEL_DEPLOYMENT.path(ours.namespace, "chat", "status"), read | status) is None
    event = {
        "metadata": {"name": "chat.1", "namespace": ours.namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "modelsync.dev/operator",
        "reportingInstance": "x",
        "type": "Normal",
        "reason": "Promoted",
        "action": "Promote",
        "regarding": {"apiVersion": names.API_VERSION, "kind": names.KIND, "namespace": ours.namespace, "name": "chat"},
    }
    assert ours.refusal("POST", kinds.EVENT.path(ours.namespace), event) is None
    ours.add(kinds.EVENT, event)
    series = {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}}
    assert ours.merge(kinds.EVENT, "chat.1", series) is None


def test_its_own_lease_is_taken_and_renewed_and_no_other(ours: Place) -> None:
    def refused(name: str, namespace: str) -> str | None:
        lease = {"metadata": {"name": name}, "spec": {"holderIdentity": "x", "leaseDurationSeconds": 15}}
        return ours.refusal("POST", kinds.LEASE.path(namespace), lease)

    home = ours.account.namespace
    assert refused("modelsync", home) is None
    assert refused("modelsync-5f0c3a54", home) is None, "of an operator of some namespaces"
    assert refused("modelsyncs", home) is not None
    assert refused("kube-scheduler", home) == (
        f"create leases.coordination.k8s.io {home}/kube-scheduler: of Leases only its own"
    )
    assert "only its own" in (refused("modelsync", ours.namespace) or "")
    for name in ("modelsync", "other"):
        ours.api.call("POST", kinds.LEASE.path(home), {"metadata": {"name": name}, "spec": {}})
        renewal = {"spec": {"holderIdentity": "me"}}
        told = ours.refusal("PATCH", kinds.LEASE.path(home, name), renewal, content_type=MERGE)
        assert (told is None) == (name == "modelsync")


def test_pods_of_models_are_deleted_and_no_others(ours: Place) -> None:
    def pod(name: str, **labels: str) -> Object:
        # Nothing schedules it.
        spec = {"schedulerName": "none", "containers": [{"name": "x", "image": "x"}]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}

    ours.add(kinds.POD, pod("model", **names.labels("chat", REVISION)))
    ours.add(kinds.POD, pod("other", app="chat"))
    assert ours.delete(kinds.POD, "model", gracePeriodSeconds=1) is None
    assert "not modelsync's" in (ours.delete(kinds.POD, "other", gracePeriodSeconds=1) or "")
    nothing = "nothing that modelsync does needs this"
    assert nothing in (ours.merge(kinds.POD, "model", {"metadata": {"labels": {"team": "x"}}}) or "")
    assert nothing in (ours.create(kinds.POD, pod("new", **names.labels("chat", REVISION))) or "")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "model"}}
    assert nothing in (ours.refusal("POST", kinds.POD.path(ours.namespace, "model", "eviction"), eviction) or "")


# -- what is not its own


@pytest.mark.parametrize(("what", "operation"), OPERATIONS)
def test_an_object_of_somebody_else_is_left_alone(what: str, operation: str, foreign: Place, empty: Place) -> None:
    kind, body = foreign.rendered(what)
    name = body["metadata"]["name"]
    if operation == CREATE:
        body["metadata"] = {"name": name}
        refused = empty.create(kind, body)
    elif operation == UPDATE:
        refused = foreign.update(kind, body)  # with our labels and owner: it must not make it its own
    else:
        refused = foreign.delete(kind, name)
    assert refused is not None
    assert refused.startswith(f"{operation.lower()} {kind.plural}")
    assert name in refused
    if operation in granted(kind):
        assert f"neither has it the label {names.NAME_LABEL}, nor is its owner a {names.KIND}" in refused


def test_of_a_collection_only_what_is_its_own_is_deleted(foreign: Place) -> None:
    assert "not modelsync's" in (foreign.refusal("DELETE", kinds.SERVICE.path(foreign.namespace)) or "")


@pytest.mark.parametrize("part", ["labels", "ownerReferences"])
def test_a_new_object_needs_label_and_owner(part: str, empty: Place) -> None:
    for what in WRITTEN:
        kind, body = empty.rendered(what)
        del body["metadata"][part]
        refused = empty.create(kind, body)
        assert refused is not None, what
        assert "a new object needs the label modelsync.dev/name of a ModelDeployment that is its controller" in refused


def test_the_owner_must_be_the_model_deployment_that_the_label_and_the_name_say(empty: Place) -> None:
    def refused(**changes: Any) -> str:
        body = children.plain_service(empty.owner, REVISION)
        owner = body["metadata"]["ownerReferences"][0]
        body["metadata"] |= changes.pop("metadata", {})
        owner |= changes
        return empty.create(kinds.SERVICE, body) or ""

    assert refused() == ""
    needed = "a new object needs the label"
    assert needed in refused(kind="Deployment", apiVersion="apps/v1")
    assert needed in refused(apiVersion="example.com/v1")
    assert needed in refused(name="another")
    assert needed in refused(controller=False)
    assert needed in refused(metadata={"name": "kubernetes"})
    assert needed in refused(metadata={"name": "chatter"})


def test_another_owner_is_not_given_to_what_it_owns(ours: Place) -> None:
    body = children.plain_service(ours.owner, REVISION)
    body["metadata"]["ownerReferences"].append(
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "5f0c3a54-0d7e-4a39-9d8c-1f2e3d4c5b6a"}
    )
    assert "an owner that it adds must be a ModelDeployment" in (ours.apply(kinds.SERVICE, body) or "")


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({}, True),
        ({"type": "kubernetes.io/service-account-token"}, False),
        ({"data": {"token": "eA==", "WANDB_API_KEY": "eA=="}}, False),
        ({"data": {"WANDB_API_KEY": "eA=="}}, False),
        ({"metadata": {"name": "chat-wandb"}}, False),
        ({"metadata": {"labels": {**names.labels("chat", REVISION)}}}, False),
        (
            {
                "metadata": {
                    "labels": {
                        **names.labels("chat", REVISION),
                        names.FUSE_LABEL: "true",
                        names.CREDENTIAL_LABEL: "true",
                    }
                }
            },
            False,
        ),
    ],
    ids=["a fuse", "a token of an account", "two keys", "another key", "another name", "no fuse label", "a credential"],
)
def test_of_secrets_only_a_fuse_is_made(change: Object, allowed: bool, empty: Place) -> None:
    body = children.fuse_secret(empty.owner, REVISION, "token")
    annotations = {"kubernetes.io/service-account.name": "default"}
    metadata = body["metadata"] | {"annotations": annotations} | change.get("metadata", {})
    refused = empty.create(kinds.SECRET, body | change | {"metadata": metadata})
    assert (refused is None) == allowed
    assert allowed or "of Secrets only a revision's fuse: NAME-REVISION-fuse, Opaque" in (refused or "")


def test_a_credential_is_not_deleted_whatever_else_it_is_called(make_place: Make) -> None:
    def credentials(child: Object) -> None:
        child["metadata"]["labels"][names.CREDENTIAL_LABEL] = "true"

    place = make_place(credentials)
    assert "of Secrets only a revision's fuse" in (place.write("the fuse", DELETE) or "")
    labelled = {"metadata": {"name": "wandb", "labels": {names.NAME_LABEL: "chat", names.CREDENTIAL_LABEL: "true"}}}
    place.add(kinds.SECRET, labelled)
    assert "of Secrets only a revision's fuse" in (place.delete(kinds.SECRET, "wandb") or "")


# -- the ModelDeployment


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"modelRef": "acme/models/chat:other"}},
        {"spec": {"suspend": True}},
        {"spec": {"hold": {"tags": ["other"]}}},
        {"metadata": {"labels": {"team": "x"}}},
        {"metadata": {"finalizers": ["modelsync.dev/keep"]}},
        {"metadata": {"annotations": {PROMOTE.annotation: REVISION}}},
        {"metadata": {"annotations": {"example.com/note": None}}},
        {"metadata": {"annotations": {"example.com/note": "changed"}}},
        {"metadata": {"annotations": {names.LEADER_EPOCH_ANNOTATION: "1", "example.com/another": "x"}}},
        {
            "metadata": {
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "5f0c3a54-0d7e-4a39-9d8c-1f2e3d4c5b6a"}
                ]
            }
        },
    ],
    ids=str,
)
def test_of_a_model_deployment_nothing_but_the_stamp_is_written(patch: Object, ours: Place) -> None:
    note = {"metadata": {"annotations": {"example.com/note": "theirs"}}}
    ours.api.call("PATCH", kinds.MODEL_DEPLOYMENT.path(ours.namespace, "chat"), note, content_type=MERGE)
    refused = ours.merge(kinds.MODEL_DEPLOYMENT, "chat", patch)
    assert refused is not None
    assert "it writes the status, and of the rest only the annotation modelsync.dev/leader-epoch" in refused


def test_what_no_line_of_the_code_does_is_refused_whatever_rbac_grants(ours: Place) -> None:
    body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "mine"}, "spec": SPEC}
    core, rbac = f"/api/v1/namespaces/{ours.namespace}", "/apis/rbac.authorization.k8s.io/v1"
    admin = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subjects = [{"kind": "ServiceAccount", "name": "default", "namespace": ours.namespace}]
    binding = {"metadata": {"name": "mine"}, "roleRef": admin, "subjects": subjects}
    scale = {"spec": {"replicas": 3}}
    requests: list[tuple[str, str, Any, str]] = [
        ("POST", kinds.MODEL_DEPLOYMENT.path(ours.namespace), body, "application/json"),
        ("DELETE", kinds.MODEL_DEPLOYMENT.path(ours.namespace, "chat"), None, "application/json"),
        ("PATCH", kinds.MODEL_DEPLOYMENT.path(ours.namespace, "chat", "scale"), scale, MERGE),
        ("PATCH", kinds.DEPLOYMENT.path(ours.namespace, CHILD, "scale"), scale, MERGE),
        ("POST", f"{rbac}/namespaces/{ours.namespace}/rolebindings", binding, "application/json"),
        ("POST", f"{rbac}/clusterrolebindings", binding, "application/json"),
        ("POST", f"{core}/serviceaccounts/default/token", {"spec": {}}, "application/json"),
        ("POST", f"{core}/configmaps", {"metadata": {"name": "mine"}}, "application/json"),
        ("DELETE", f"/api/v1/namespaces/{ours.namespace}", None, "application/json"),
        ("DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{names.CRD_NAME}", None, MERGE),
    ]
    for method, path, given, content_type in requests:
        refused = ours.refusal(method, path, given, content_type=content_type)
        assert refused is not None, (method, path)
        assert "nothing that modelsync does needs this" in refused


# -- the pods that it makes


def unconfined(body: Object, change: str) -> Object:
    pod = body["spec"]["template"]["spec"]
    match change:
        case "an API token":
            pod["automountServiceAccountToken"] = True
        case "an API token by default":
            del pod["automountServiceAccountToken"]
        case "the node's network":
            pod["hostNetwork"] = True
        case "the node's processes":
            pod["hostPID"] = True
        case "a folder of the node":
            pod["volumes"].append({"name": "node", "hostPath": {"path": "/"}})
        case "a Secret":
            pod["volumes"].append({"name": "db", "secret": {"secretName": "db"}})
        case "a token as a volume":
            source = {"serviceAccountToken": {"path": "token"}}
            pod["volumes"].append({"name": "token", "projected": {"sources": [source]}})
        case "privilege":
            security = {"privileged": True}
            pod["containers"].append({"name": "x", "image": "x", "securityContext": security})
        case "escalation":
            pod["initContainers"].append({"name": "x", "image": "x"})
        case "a capability":
            pod["containers"][0]["securityContext"]["capabilities"]["add"] = ["SYS_ADMIN"]
        case "too many folders of the node to look at":
            pod["volumes"] += [{"name": f"node-{each}", "hostPath": {"path": "/"}} for each in range(10_000)]
    return body


@pytest.mark.parametrize(
    "change",
    [
        "an API token",
        "an API token by default",
        "the node's network",
        "the node's processes",
        "a folder of the node",
        "a Secret",
        "a token as a volume",
        "privilege",
        "escalation",
        "a capability",
        "too many folders of the node to look at",
    ],
)
def test_no_model_gets_more_than_its_pods_need(change: str, empty: Place, ours: Place) -> None:
    """Also where the record, from which a Deployment is made, was forged; and without pods, which could come later."""
    places = [(empty, 1), (empty, 0)]
    if "by default" not in change:  # there it stays as it was
        places.append((ours, 1))
    for place, replicas in places:
        refused = place.apply(kinds.DEPLOYMENT, unconfined(a_deployment(place.owner, replicas), change))
        assert refused is not None, replicas
        assert "pods of models have no API token, nothing of their node" in refused


def test_pods_of_an_edited_deployment_can_be_taken_and_not_added(make_place: Make) -> None:
    def edited(child: Object) -> None:
        if child["kind"] == "Deployment":
            child["spec"]["replicas"] = 2
            child["spec"]["template"]["spec"]["schedulerName"] = "none"
            child["spec"]["template"]["spec"]["containers"][0]["image"] = "edited"
            unconfined(child, "a folder of the node")

    place = make_place(edited)
    stamp = {"metadata": {"annotations": {names.LEADER_EPOCH_ANNOTATION: "1"}}}
    assert place.merge(kinds.DEPLOYMENT, CHILD, stamp) is None
    assert place.merge(kinds.DEPLOYMENT, CHILD, {"spec": {"replicas": 0}}) is None
    # A hold writes the whole Deployment: the image is as it was, what others have added to the list of volumes stays.
    assert place.apply(kinds.DEPLOYMENT, a_deployment(place.owner, 0)) is None
    assert "pods of models" in (place.merge(kinds.DEPLOYMENT, CHILD, {"spec": {"replicas": 3}}) or "")


# -- what others do to its objects must not stop a hold


@pytest.mark.parametrize(("what", "operation"), [pair for pair in ALLOWED if pair[1] != CREATE])
def test_an_orphan_is_adopted_changed_and_deleted(what: str, operation: str, orphaned: Place) -> None:
    assert orphaned.write(what, operation) is None


@pytest.mark.parametrize("what", [what for what, operation in ALLOWED if operation == UPDATE])
def test_an_orphan_gets_its_owner_by_a_patch(what: str, orphaned: Place) -> None:
    """A fuse is deleted and made again instead, as effects/adopt.py does."""
    kind, body = orphaned.rendered(what)
    patch = {"metadata": {"ownerReferences": body["metadata"]["ownerReferences"]}}
    assert orphaned.merge(kind, body["metadata"]["name"], patch) is None


def test_an_orphan_is_silenced_without_being_adopted(orphaned: Place) -> None:
    """As effects/silence_unplanned.py does."""
    blocked = {"spec": {"selector": names.selector("chat", names.BLOCKED)}}
    assert orphaned.merge(kinds.SERVICE, "chat", blocked) is None
    backend = {"name": names.child("chat", names.BLOCKED), "port": names.PORT, "weight": 1}
    assert orphaned.merge(kinds.HTTP_ROUTE, "chat", {"spec": {"rules": [{"backendRefs": [backend]}]}}) is None
    assert orphaned.merge(kinds.DEPLOYMENT, CHILD, {"spec": {"replicas": 0}}) is None


def test_an_orphan_is_scaled_and_stamped_without_being_adopted(orphaned: Place) -> None:
    stamp = {"metadata": {"annotations": {names.LEADER_EPOCH_ANNOTATION: "1"}}}
    assert orphaned.merge(kinds.DEPLOYMENT, CHILD, stamp | {"spec": {"replicas": 1}}) is None
    assert orphaned.merge(kinds.HTTP_ROUTE, "chat", stamp) is None


@pytest.mark.parametrize(
    ("what", "operation"), [(what, each) for what, each in ALLOWED if each != CREATE and what != "the fuse"]
)
def test_labels_that_somebody_took_off_are_put_back(what: str, operation: str, unlabelled: Place) -> None:
    assert unlabelled.write(what, operation) is None


def test_what_has_lost_its_label_is_stamped_and_scaled(unlabelled: Place) -> None:
    stamp = {"metadata": {"annotations": {names.LEADER_EPOCH_ANNOTATION: "1"}}}
    assert unlabelled.merge(kinds.HTTP_ROUTE, "chat", stamp) is None
    assert unlabelled.merge(kinds.DEPLOYMENT, CHILD, stamp | {"spec": {"replicas": 1}}) is None


def test_a_model_deployment_full_of_annotations_is_stamped(make_place: Make) -> None:
    place = make_place()
    many = {"metadata": {"annotations": {f"k{number}": "" for number in range(40_000)}}}
    path = kinds.MODEL_DEPLOYMENT.path(place.namespace, "chat")
    place.api.call("PATCH", path, many, content_type=MERGE)
    stamp = {"metadata": {"annotations": {names.LEADER_EPOCH_ANNOTATION: "1"}}}
    assert place.merge(kinds.MODEL_DEPLOYMENT, "chat", stamp) is None
    assert place.merge(kinds.MODEL_DEPLOYMENT, "chat", {"spec": {"suspend": True}}) is not None


def test_an_object_with_thousands_of_owners_is_written_and_none_is_made(ours: Place, make_place: Make) -> None:
    def owners(amount: int) -> list[Object]:
        uid = "5f0c3a54-0d7e-4a39-9d8c-{:012x}".format
        return [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": uid(each)} for each in range(amount)]

    place = make_place()
    body = children.plain_service(place.owner, REVISION)
    body["metadata"]["ownerReferences"] += owners(5_000)
    assert "a new object needs" in (place.create(kinds.SERVICE, body) or "")
    del body["metadata"]["labels"]
    place.add(kinds.SERVICE, body)
    assert place.apply(kinds.SERVICE, children.plain_service(place.owner, names.BLOCKED)) is None
