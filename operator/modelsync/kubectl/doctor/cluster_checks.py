"""What `doctor` looks at once for a cluster: the CRDs, the user's rights, the operator and its rights."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta

from modelsync.api import names
from modelsync.api.roles import REQUESTS, RESUME, SUSPEND, roles_with
from modelsync.kubectl.cluster.objects import Cluster, Object, Path, model_deployments
from modelsync.kubectl.cluster.permissions import RELEASE
from modelsync.kubectl.doctor.findings import Finding, failed, ok, unknown, warning
from modelsync.kubectl.errors import ForbiddenError, KindMissingError, NotThereError, PluginError
from modelsync.kubectl.view import text
from modelsync.kubectl.view.text import age

OPERATOR = "modelsync"
"""The lease by which the operator's processes agree who leads."""
LEASE_FRESH = timedelta(seconds=30)
"""A leader renews every few seconds; one that was killed leaves its name."""

SYSTEM_NAMESPACE = "modelsync-system"

_LEASE_NAME = re.compile(rf"{OPERATOR}(-[0-9a-f]{{10}})?")
"""With watchNamespaces the name ends in a hash of them."""
_LEASES = "coordination.k8s.io/v1"
_AUTHORIZATION = "authorization.k8s.io/v1"
_AT_A_TIME = 6
_PART_OF, _COMPONENT = "app.kubernetes.io/part-of", "app.kubernetes.io/component"
"""The chart labels what is its own with the one, and the operator's pods alone with the other, too."""

_READING = (
    ("get", "see one"),
    ("list", "list them"),
    ("watch", "follow what changes"),
)
_STEERING = (*REQUESTS, SUSPEND, RESUME)
"""What a user may need beside `patch`; it counts only where the chart's admission policy is on."""


def cluster_checks(api: Cluster, operator_namespace: str | None) -> Iterator[Finding]:
    """In the order in which one thing needs the other.

    `operator_namespace` None: the usual one, or wherever the operator is found. Raises PluginErrors when the API server
    gives no answer.
    """
    yield _definition(api)
    yield _gateway_api(api)
    yield from _own_rights(api)
    yield from _operator(api, operator_namespace)


def _definition(api: Cluster) -> Finding:
    try:
        api.list(model_deployments(api.namespace))
    except KindMissingError:
        return failed("CRD", "the cluster knows no ModelDeployments", "install the chart: helm install modelsync …")
    except ForbiddenError as error:
        return unknown("CRD", error.message, f"ask for the right to list {names.CRD_NAME} in {api.namespace}")
    return ok("CRD", f"{names.CRD_NAME} is there")


def _gateway_api(api: Cluster) -> Finding:
    try:
        api.list(Path("gateway.networking.k8s.io/v1", "httproutes", api.namespace))
    except KindMissingError:
        return warning(
            "Gateway API",
            "the cluster knows no HTTPRoute: versions switch at once, without steps",
            "install the Gateway API's CRDs and a gateway, if rollouts are to go by steps",
        )
    except ForbiddenError:
        return unknown("Gateway API", "you may not list HTTPRoutes", "the condition RouteReady says more")
    return ok("Gateway API", "HTTPRoute is there")


def _own_rights(api: Cluster) -> Iterator[Finding]:
    may = _may_i(api, [*(verb for verb, _ in _READING), "patch", *(right.verb for right in _STEERING)])
    if missing := [said for verb, said in _READING if not may[verb]]:
        yield failed(
            "your rights",
            f"in {api.namespace} you may not {', '.join(missing)}",
            f"an administrator of the namespace gives them: get, list and watch on {names.CRD_NAME}, "
            f"or a role of the chart: {RELEASE}-{roles_with('watch')[0]}",
        )
    else:
        yield ok("your rights", f"you may see what runs in {api.namespace}")
    if not may["patch"]:
        roles = dict.fromkeys(role for right in _STEERING for role in roles_with(right.verb)[:1])
        yield warning(
            "your rights",
            f"in {api.namespace} you may steer nothing",
            f"an administrator of the namespace gives it: patch on {names.CRD_NAME}, or a role of the chart: "
            + ", ".join(f"{RELEASE}-{role}" for role in roles),
        )
        return
    lacking = [right for right in _STEERING if not may[right.verb]]
    if not lacking:
        yield ok("your rights", "you may ask for everything")
        return
    verbs = [right.verb for right in lacking]
    roles = dict.fromkeys(role for verb in verbs for role in roles_with(verb)[:1])
    yield warning(
        "your rights",
        f"where the chart's admission policy is on, you may not in {api.namespace}: "
        + "; ".join(right.does for right in lacking),
        f"an administrator of the namespace gives it: {', '.join(verbs)} on {names.CRD_NAME}, or a role of the chart: "
        + ", ".join(f"{RELEASE}-{role}" for role in roles),
    )


def _may_i(api: Cluster, verbs: Sequence[str]) -> dict[str, bool]:
    common = {"group": names.GROUP, "resource": names.PLURAL, "namespace": api.namespace}
    specs = [{"resourceAttributes": {"verb": verb, **common}} for verb in verbs]
    return dict(zip(verbs, _reviews(api, "SelfSubjectAccessReview", specs), strict=True))


def _reviews(api: Cluster, kind: str, specs: Iterable[Mapping[str, object]]) -> list[bool]:
    """What each says. Several at a time: each is a kubectl, and a way to the API server and back."""

    def allowed(spec: Mapping[str, object]) -> bool:
        body = {"apiVersion": _AUTHORIZATION, "kind": kind, "spec": spec}
        answer = api.review(Path(_AUTHORIZATION, f"{kind.lower()}s"), body)
        return bool((answer.get("status") or {}).get("allowed"))

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return list(pool.map(allowed, specs))


def _operator(api: Cluster, given: str | None) -> Iterator[Finding]:
    account, namespace = OPERATOR, given or SYSTEM_NAMESPACE
    try:
        lease = _lease(api, given)
        namespace = str(lease["metadata"]["namespace"])
    except NotThereError:
        yield failed(
            "operator",
            f"no operator has ever led in namespace {namespace}",
            "install the chart, or say where it runs: --operator-namespace",
        )
        return
    except ForbiddenError:
        yield unknown("operator", f"you may not read its lease in {namespace}", "ask who installed it whether it runs")
    else:
        yield _leader(lease, namespace)
    try:
        deployments = api.list(Path("apps/v1", "deployments", namespace), labels=f"{_PART_OF}={OPERATOR}")["items"]
        account = next((_account(each) for each in deployments if _runs_the_operator(each)), OPERATOR)
    except ForbiddenError:
        pass  # the account's usual name is as good a guess as any
    yield _operators_rights(api, namespace, account)


def _lease(api: Cluster, given: str | None) -> Object:
    """The one that was renewed last. Raises NotThereError, and ForbiddenError when the user may not look."""
    usual: Object | None = None
    with suppress(NotThereError):  # an operator of some namespaces only has a lease of its own
        usual = api.get(Path(_LEASES, "leases", given or SYSTEM_NAMESPACE, OPERATOR))
    if usual is not None and _is_fresh(usual):
        return usual
    found = [usual] if usual is not None else []
    for namespace in (given or SYSTEM_NAMESPACE, *([None] if given is None else [])):
        try:
            leases = api.list(Path(_LEASES, "leases", namespace))["items"]
        except ForbiddenError:
            if not found:
                raise
            break
        found += [lease for lease in leases if _LEASE_NAME.fullmatch(lease["metadata"]["name"])]
        if any(map(_is_fresh, found)):
            break  # what another one has left, elsewhere or by another name, says nothing
    if not found:
        raise NotThereError(f"no lease {OPERATOR}")
    return max(found, key=lambda lease: str(lease["spec"].get("renewTime") or ""))


def _is_fresh(lease: Object) -> bool:
    ago = _unrenewed_for(lease)
    return bool(lease["spec"].get("holderIdentity")) and ago is not None and ago < LEASE_FRESH


def _unrenewed_for(lease: Object) -> timedelta | None:
    renewed = lease["spec"].get("renewTime")
    return text.now() - datetime.fromisoformat(str(renewed).replace("Z", "+00:00")) if renewed else None


def _leader(lease: Object, namespace: str) -> Finding:
    ago = _unrenewed_for(lease)
    if ago is not None and _is_fresh(lease):
        return ok("operator", f"{lease['spec']['holderIdentity']} leads, renewed {age(ago)} ago")
    since = f"; the last one was seen {age(ago)} ago" if ago is not None else ""
    return failed(
        "operator",
        f"no operator leads{since}: nothing is rolled out and no hold is seen",
        f"look at its pods: kubectl get pods -n {namespace} -l {_COMPONENT}=operator",
    )


def _runs_the_operator(deployment: Object) -> bool:
    labels = deployment["spec"]["template"]["metadata"].get("labels") or {}
    return bool(labels.get(_COMPONENT) == "operator")


def _account(deployment: Object) -> str:
    return str(deployment["spec"]["template"]["spec"].get("serviceAccountName") or "default")


_NEEDED: tuple[Mapping[str, str], ...] = (
    {"group": names.GROUP, "resource": names.PLURAL, "verb": "watch"},
    {"group": names.GROUP, "resource": names.PLURAL, "subresource": "status", "verb": "update"},
    {"group": "apps", "resource": "deployments", "verb": "patch"},
    {"group": "apps", "resource": "controllerrevisions", "verb": "create"},
    {"group": "", "resource": "services", "verb": "patch"},
    {"group": "", "resource": "pods", "verb": "delete"},
    {"group": "", "resource": "secrets", "verb": "get"},
    {"group": "gateway.networking.k8s.io", "resource": "httproutes", "verb": "patch"},
)
"""Without any one of these nothing is rolled out, or no hold is carried out; the chart gives these and more."""


def _operators_rights(api: Cluster, namespace: str, account: str) -> Finding:
    user = f"system:serviceaccount:{namespace}:{account}"
    specs = [{"user": user, "resourceAttributes": {**needed, "namespace": api.namespace}} for needed in _NEEDED]
    try:
        answers = _reviews(api, "SubjectAccessReview", specs)
    except PluginError:
        return unknown("operator's rights", "you may not ask about others' rights", "an administrator may")
    missing = [
        f"{needed['verb']} {'/'.join(filter(None, (needed['resource'], needed.get('subresource'))))}"
        for needed, allowed in zip(_NEEDED, answers, strict=True)
        if not allowed
    ]
    if missing:
        return failed(
            "operator's rights",
            f"{user} may not in {api.namespace}: {', '.join(missing)}",
            f"install the chart's roles; with watchNamespaces, {api.namespace} must be in it",
        )
    return ok("operator's rights", f"{user} may do its work in {api.namespace}")
