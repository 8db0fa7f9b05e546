"""The checks of `doctor` for the whole cluster: the CRDs, the user's permissions, the operator and its permissions."""

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
from modelsync.kubectl.errors import ForbiddenError, KindMissingError, NotFoundError, PluginError
from modelsync.kubectl.view import text
from modelsync.kubectl.view.text import age

OPERATOR = "modelsync"
"""Name of the operator's leader election lease."""
LEASE_FRESH = timedelta(seconds=30)
"""A leader renews its lease every few seconds; a killed one leaves its name in it."""

SYSTEM_NAMESPACE = "modelsync-system"

_LEASE_NAME = re.compile(rf"{OPERATOR}(-[0-9a-f]{{10}})?")
"""With watchNamespaces, the name ends in a hash of the namespaces."""
_LEASES = "coordination.k8s.io/v1"
_AUTHORIZATION = "authorization.k8s.io/v1"
_AT_A_TIME = 6
_PART_OF, _COMPONENT = "app.kubernetes.io/part-of", "app.kubernetes.io/component"
"""The chart puts the first label on all its objects, and the second also on the operator's pods."""

_READING = ("get", "list", "watch")
_STEERING = (*REQUESTS, SUSPEND, RESUME)
"""The rights that a user may need in addition to `patch`; they matter only where the chart's admission policy is on."""


def cluster_checks(api: Cluster, operator_namespace: str | None) -> Iterator[Finding]:
    """All checks of the cluster, prerequisites first.

    `operator_namespace` None: the default one, or wherever the operator is found. Raises PluginErrors when the API
    server does not answer.
    """
    yield _definition(api)
    yield _gateway_api(api)
    yield from _own_rights(api)
    yield from _operator(api, operator_namespace)


def _definition(api: Cluster) -> Finding:
    try:
        api.list(model_deployments(api.namespace))
    except KindMissingError:
        return failed("CRD", f"{names.CRD_NAME} is not installed", "install the chart: helm install modelsync …")
    except ForbiddenError as error:
        return unknown("CRD", error.message, f"ask for the right to list {names.CRD_NAME} in {api.namespace}")
    return ok("CRD", f"{names.CRD_NAME} is installed")


def _gateway_api(api: Cluster) -> Finding:
    try:
        api.list(Path("gateway.networking.k8s.io/v1", "httproutes", api.namespace))
    except KindMissingError:
        return warning(
            "Gateway API",
            "HTTPRoute is not installed: versions switch at once, without steps",
            "for stepwise rollouts, install the Gateway API's CRDs and a gateway",
        )
    except ForbiddenError:
        return unknown("Gateway API", "you may not list HTTPRoutes", "see the condition RouteReady")
    return ok("Gateway API", "HTTPRoute is installed")


def _own_rights(api: Cluster) -> Iterator[Finding]:
    may = _may_i(api, [*_READING, "patch", *(right.verb for right in _STEERING)])
    if missing := [verb for verb in _READING if not may[verb]]:
        yield failed(
            "your rights",
            f"in {api.namespace} you may not {', '.join(missing)} {names.CRD_NAME}",
            f"ask an administrator of the namespace for get, list and watch on {names.CRD_NAME}, "
            f"or for a role of the chart: {RELEASE}-{roles_with('watch')[0]}",
        )
    else:
        yield ok("your rights", f"you may view ModelDeployments in {api.namespace}")
    if not may["patch"]:
        roles = dict.fromkeys(role for right in _STEERING for role in roles_with(right.verb)[:1])
        yield warning(
            "your rights",
            f"in {api.namespace} you may not control rollouts",
            f"ask an administrator of the namespace for patch on {names.CRD_NAME}, or for a role of the chart: "
            + ", ".join(f"{RELEASE}-{role}" for role in roles),
        )
        return
    lacking = [right for right in _STEERING if not may[right.verb]]
    if not lacking:
        yield ok("your rights", f"you may control rollouts in {api.namespace}")
        return
    verbs = [right.verb for right in lacking]
    roles = dict.fromkeys(role for verb in verbs for role in roles_with(verb)[:1])
    yield warning(
        "your rights",
        f"where the chart's admission policy is on, you may not in {api.namespace}: "
        + "; ".join(right.does for right in lacking),
        f"ask an administrator of the namespace for {', '.join(verbs)} on {names.CRD_NAME}, or for a role of the "
        "chart: " + ", ".join(f"{RELEASE}-{role}" for role in roles),
    )


def _may_i(api: Cluster, verbs: Sequence[str]) -> dict[str, bool]:
    common = {"group": names.GROUP, "resource": names.PLURAL, "namespace": api.namespace}
    specs = [{"resourceAttributes": {"verb": verb, **common}} for verb in verbs]
    return dict(zip(verbs, _reviews(api, "SelfSubjectAccessReview", specs), strict=True))


def _reviews(api: Cluster, kind: str, specs: Iterable[Mapping[str, object]]) -> list[bool]:
    """Whether each is allowed. They run in parallel, since each starts a kubectl and makes a request."""

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
    except NotFoundError:
        yield failed(
            "operator",
            f"no operator has ever run in namespace {namespace}",
            "install the chart, or give its namespace: --operator-namespace",
        )
        return
    except ForbiddenError:
        yield unknown("operator", f"you may not read its lease in {namespace}", "ask a cluster administrator")
    else:
        yield _leader(lease, namespace)
    try:
        deployments = api.list(Path("apps/v1", "deployments", namespace), labels=f"{_PART_OF}={OPERATOR}")["items"]
        account = next((_account(each) for each in deployments if _runs_the_operator(each)), OPERATOR)
    except ForbiddenError:
        pass  # assume the default name of the service account
    yield _operators_rights(api, namespace, account)


def _lease(api: Cluster, given: str | None) -> Object:
    """The operator's lease that was renewed last. Raises NotFoundError and ForbiddenError."""
    default: Object | None = None
    with suppress(NotFoundError):  # an operator with watchNamespaces has a lease of another name
        default = api.get(Path(_LEASES, "leases", given or SYSTEM_NAMESPACE, OPERATOR))
    if default is not None and _is_fresh(default):
        return default
    found = [default] if default is not None else []
    for namespace in (given or SYSTEM_NAMESPACE, *([None] if given is None else [])):
        try:
            leases = api.list(Path(_LEASES, "leases", namespace))["items"]
        except ForbiddenError:
            if not found:
                raise
            break
        found += [lease for lease in leases if _LEASE_NAME.fullmatch(lease["metadata"]["name"])]
        if any(map(_is_fresh, found)):
            break  # older leases, of other names or namespaces, are left over
    if not found:
        raise NotFoundError(f"no lease {OPERATOR}")
    return max(found, key=lambda lease: str(lease["spec"].get("renewTime") or ""))


def _is_fresh(lease: Object) -> bool:
    ago = _since_renewal(lease)
    return bool(lease["spec"].get("holderIdentity")) and ago is not None and ago < LEASE_FRESH


def _since_renewal(lease: Object) -> timedelta | None:
    renewed = lease["spec"].get("renewTime")
    return text.now() - datetime.fromisoformat(str(renewed).replace("Z", "+00:00")) if renewed else None


def _leader(lease: Object, namespace: str) -> Finding:
    ago = _since_renewal(lease)
    if ago is not None and _is_fresh(lease):
        return ok("operator", f"{lease['spec']['holderIdentity']} is the leader, lease renewed {age(ago)} ago")
    since = f" (last renewed {age(ago)} ago)" if ago is not None else ""
    return failed(
        "operator",
        f"no operator is the leader{since}: no rollout proceeds and no hold is detected",
        f"check its pods: kubectl get pods -n {namespace} -l {_COMPONENT}=operator",
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
"""If one of these is missing, rollouts or holds do not work. The chart grants these and more."""


def _operators_rights(api: Cluster, namespace: str, account: str) -> Finding:
    user = f"system:serviceaccount:{namespace}:{account}"
    specs = [{"user": user, "resourceAttributes": {**needed, "namespace": api.namespace}} for needed in _NEEDED]
    try:
        answers = _reviews(api, "SubjectAccessReview", specs)
    except PluginError:
        return unknown("operator's rights", "you may not create SubjectAccessReviews", "ask a cluster administrator")
    missing = [
        f"{needed['verb']} {'/'.join(filter(None, (needed['resource'], needed.get('subresource'))))}"
        for needed, allowed in zip(_NEEDED, answers, strict=True)
        if not allowed
    ]
    if missing:
        return failed(
            "operator's rights",
            f"in {api.namespace}, {user} may not: {', '.join(missing)}",
            f"install the chart's roles; if watchNamespaces is set, it must include {api.namespace}",
        )
    return ok("operator's rights", f"{user} has the permissions it needs in {api.namespace}")
