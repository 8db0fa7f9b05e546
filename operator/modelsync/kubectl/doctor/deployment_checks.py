"""The checks of `doctor` for one ModelDeployment: registry, key, spec, gateway, and GPUs for the next rollout."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from modelsync.api import names, quantity
from modelsync.api.conditions import ConditionType
from modelsync.api.reasons import Reason
from modelsync.kubectl.cluster.objects import Cluster, Object, Path
from modelsync.kubectl.doctor.findings import Finding, failed, ok, unknown, warning
from modelsync.kubectl.errors import ForbiddenError, KindMissingError, NotFoundError, PluginError
from modelsync.kubectl.view.deployment import View
from modelsync.registry.credential import Credential, InvalidCredentialError

_FINISHED = {"Succeeded", "Failed"}
_FIX_MESSAGE = "fix what the message says"


def deployment_checks(api: Cluster, each: View) -> Iterator[Finding]:
    """All checks of one ModelDeployment; they are independent of each other."""
    yield _seen(each)
    yield _registry(each)
    yield from _marks(each)
    yield _key(api, each)
    yield _spec(each)
    yield from _gateway(api, each)
    yield from _room(api, each)


def _check(each: View, what: str) -> str:
    return f"{each.name}: {what}"


def _seen(each: View) -> Finding:
    check = _check(each, "operator")
    if each.seen and each.status.phase is not None:
        return ok(check, f"the operator has acted on generation {each.status.observed_generation}: {each.status.phase}")
    return failed(
        check,
        "the operator has not acted on it" + (" since its last change" if each.status.phase else " yet"),
        f"is the operator running, and does it watch namespace {each.namespace} (watchNamespaces)?",
    )


def _registry(each: View) -> Finding:
    check = _check(each, "registry")
    resolved = each.condition(ConditionType.MODEL_RESOLVED)
    if resolved is None or resolved.reason == Reason.RESOLVING:
        return unknown(check, "the operator has no answer from the registry yet", "wait a moment, then check again")
    if resolved.status == "True":
        return ok(check, f"{each.spec.get('modelRef')}: {resolved.message}")
    fixes: dict[str, str] = {
        Reason.MISSING: "check spec.modelRef, and that the key's owner is a member there",
        Reason.DENIED: "fix what the message says; put a new key into the same Secret",
        Reason.THROTTLED: "it ends on its own; a longer spec.registry.pollInterval sends fewer requests",
        Reason.UNREACHABLE: "check spec.registry.baseURL, the operator's network policy and its proxy",
        Reason.REFUSED: "fix what the message says; the administrator's settings list the allowed servers",
        Reason.WITHDRAWN: "move the alias to a version that exists",
    }
    return failed(check, f"{resolved.reason}: {resolved.message}", fixes.get(resolved.reason, _FIX_MESSAGE))


def _marks(each: View) -> Iterator[Finding]:
    known = each.condition(ConditionType.HOLDS_KNOWN)
    if known is not None and known.status == "False":
        fix = "a hold cannot be set until this is fixed: follow the runbook of the alert ModelsyncHoldsStale"
        yield failed(_check(each, "hold marks"), known.message, fix)


def _key(api: Cluster, each: View) -> Finding:
    check = _check(each, "key")
    reference = ((each.spec.get("registry") or {}).get("auth") or {}).get("secretKeyRef") or {}
    name, key = str(reference.get("name", "")), str(reference.get("key", ""))
    if (default := each.status.registry) is not None and not name:
        name, key = default.secret_name, default.secret_key
    if not name:
        return unknown(
            check,
            "spec.registry is not set, and the operator has not reported a default registry",
            "see the administrator's settings; once the operator uses the default, status.registry names the Secret",
        )
    where = f"Secret {each.namespace}/{name}"
    try:
        secret = api.get(Path("v1", "secrets", each.namespace, name))
    except NotFoundError:
        fix = f"kubectl create secret generic {name} -n {each.namespace} --from-literal={key}=…, then label it"
        return failed(check, f"{where} does not exist", fix)
    except ForbiddenError:
        return unknown(check, f"you may not read {where}", "the registry check shows whether the key works")
    if (secret["metadata"].get("labels") or {}).get(names.CREDENTIAL_LABEL) != "true":
        fix = f"kubectl label secret {name} -n {each.namespace} {names.CREDENTIAL_LABEL}=true"
        return failed(check, f"{where} lacks the label that lets modelsync use it", fix)
    data = secret.get("data") or {}
    if key not in data:
        fix = f"add the key, or refer to an existing one: {', '.join(sorted(data)) or 'there is none'}"
        return failed(check, f"{where} has no key {key!r}", fix)
    try:
        Credential(base64.b64decode(data[key], validate=True).decode(), source=f"{where} key {key}")
    except (binascii.Error, UnicodeDecodeError):
        return failed(check, f"{where} key {key} is not text", "put the W&B API key there")
    except InvalidCredentialError as error:
        return failed(check, str(error), f"put a W&B API key into {where}, key {key}")
    return ok(check, f"{where} is labelled, and {key} looks like an API key")


def _spec(each: View) -> Finding:
    check = _check(each, "spec")
    applied = each.condition(ConditionType.SPEC_APPLIED)
    if applied is None or applied.status == "Unknown":
        return unknown(check, "the operator has not acted on the spec yet", "wait for the registry's first answer")
    if applied.status == "True" or applied.reason == Reason.PENDING:
        return ok(check, applied.message)
    return failed(check, f"{applied.reason}: {applied.message}", _FIX_MESSAGE)


def _gateway(api: Cluster, each: View) -> Iterator[Finding]:
    check = _check(each, "gateway")
    gateway = (each.spec.get("traffic") or {}).get("gateway")
    if not gateway:
        yield ok(check, "none configured: a plain Service carries the traffic")
        return
    for parent in gateway.get("parentRefs") or ():
        yield _parent(api, check, str(parent.get("namespace") or each.namespace), str(parent.get("name")))
    route = each.condition(ConditionType.ROUTE_READY)
    if route is not None and route.status == "True":
        yield ok(check, route.message)
    elif route is not None and route.status == "False":
        yield failed(
            check, f"{route.reason}: {route.message}", "check spec.traffic.gateway and what the gateway allows"
        )


def _parent(api: Cluster, check: str, namespace: str, name: str) -> Finding:
    where = f"Gateway {namespace}/{name}"
    try:
        found = api.get(Path("gateway.networking.k8s.io/v1", "gateways", namespace, name))
    except KindMissingError:
        return failed(check, "the cluster has no Gateway API", "install the Gateway API's CRDs and a gateway")
    except NotFoundError:
        return failed(check, f"{where} does not exist", "create it, or change spec.traffic.gateway.parentRefs")
    except ForbiddenError:
        return unknown(check, f"you may not read {where}", "see the condition RouteReady")
    conditions = (found.get("status") or {}).get("conditions") or ()
    programmed: Mapping[str, str] = next((item for item in conditions if item["type"] == "Programmed"), {})
    if programmed.get("status") == "True":
        return ok(check, f"{where} is programmed")
    why = programmed.get("message") or "no controller has reported on it"
    return failed(check, f"{where} is not programmed: {why}", "is the controller of its GatewayClass running?")


def _room(api: Cluster, each: View) -> Iterator[Finding]:
    """Whether the pods of one more revision (`replicas` of them, at the promotion) fit beside the running ones."""
    serving = each.spec.get("serving") or {}
    resources = serving.get("resources") or {}
    wanted = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    devices = {name: quantity.parse(str(amount)) for name, amount in wanted.items() if "/" in name}
    if not devices:
        return
    check = _check(each, "GPUs")
    try:
        nodes = api.list(Path("v1", "nodes"))["items"]
        pods = api.list(Path("v1", "pods"))["items"]
    except ForbiddenError:
        yield unknown(check, "you may not list nodes and the pods of all namespaces", "ask a cluster administrator")
        return
    except PluginError as error:
        yield unknown(check, error.message, "check again")
        return
    selector = (serving.get("scheduling") or {}).get("nodeSelector") or {}
    per_pod = ", ".join(f"{name} {amount:g}" for name, amount in sorted((n, float(a)) for n, a in devices.items()))
    usable = [node for node in nodes if _usable(node, selector)]
    if not any(_allocatable(node, name) for node in usable for name in devices):
        yield failed(
            check,
            f"no node on which the pods may run has {', '.join(sorted(devices))}",
            "install the vendor's device plugin, or check serving.scheduling.nodeSelector",
        )
        return
    fits = sum(_fits(node, pods, devices) for node in usable)
    replicas = int(each.spec.get("replicas", 1))
    missing = replicas if each.moving is None else 0
    if fits >= missing:
        yield ok(check, f"room for {fits} more pods with {per_pod}; the next rollout needs {missing}")
        return
    yield warning(
        check,
        f"room for {fits} more pods with {per_pod}; the next rollout needs {missing} before it can be promoted",
        "add nodes, or lower replicas during the rollout (this check ignores taints and affinity)",
    )


def _usable(node: Object, selector: Mapping[str, str]) -> bool:
    labels = node["metadata"].get("labels") or {}
    unschedulable = (node.get("spec") or {}).get("unschedulable")
    return not unschedulable and all(labels.get(key) == value for key, value in selector.items())


def _allocatable(node: Object, resource: str) -> Any:
    return quantity.parse(str(((node.get("status") or {}).get("allocatable") or {}).get(resource, "0")))


def _fits(node: Object, pods: list[Object], devices: Mapping[str, Any]) -> int:
    """How many more pods that request `devices` fit on this node."""
    here = [
        pod
        for pod in pods
        if (pod.get("spec") or {}).get("nodeName") == node["metadata"]["name"]
        and (pod.get("status") or {}).get("phase") not in _FINISHED
    ]
    counts = []
    for name, amount in devices.items():
        used = sum(_requested(pod, name) for pod in here)
        counts.append(int((_allocatable(node, name) - used) // amount) if amount else 0)
    return max(0, min(counts, default=0))


def _requested(pod: Object, resource: str) -> Any:
    containers = pod["spec"].get("containers") or ()
    return sum(
        quantity.parse(str(((each.get("resources") or {}).get("requests") or {}).get(resource, "0")))
        for each in containers
    )
