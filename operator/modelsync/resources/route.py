"""The HTTPRoute: written whole, with every default of its CRD, so that a live one can be compared by equality.

Only `/v1` is published. Weights are backends of one rule; a backend at weight 0 is there before it gets traffic, so
that the data plane knows its endpoints. Blocked is one backend, the Service that no pod belongs to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelsync.api import names
from modelsync.api.spec import Gateway, ParentRef
from modelsync.resources.objects import Object, Owner, metadata

GATEWAY_GROUP = "gateway.networking.k8s.io"
API_VERSION = f"{GATEWAY_GROUP}/v1"
PATH = "/v1"

_NEEDED = ("Accepted", "ResolvedRefs")


@dataclass(frozen=True, slots=True)
class LiveRoute:
    """What a live HTTPRoute says.

    `weights`: every backend of ours in order, zero weights included, `names.BLOCKED` for the blocked Service.
    `accepted`: every parent says Accepted and ResolvedRefs of this generation; `None` while one has not said.
    `message`: of the first parent that says no. `drifted`: its spec is not what `http_route` makes of `weights`.
    """

    weights: tuple[tuple[str, int], ...]
    accepted: bool | None
    message: str
    drifted: bool


def http_route(
    owner: Owner, gateway: Gateway, weights: Sequence[tuple[str, int]], *, hold: str | None = None
) -> Object:
    """The route with these backends, in this order: revisions with whole per cent, or `((names.BLOCKED, 1),)`.

    `hold` says which hold shapes it, and becomes an annotation. Annotations of others stay, by server-side apply.
    """
    meta = metadata(owner, owner.name)
    if hold is not None:
        meta["annotations"] = {names.HOLD_ANNOTATION: hold}
    return {
        "apiVersion": API_VERSION,
        "kind": "HTTPRoute",
        "metadata": meta,
        "spec": _spec(owner.name, gateway, weights),
    }


def read_route(live: Object, owner: Owner, gateway: Gateway) -> LiveRoute:
    """Read a live route of `owner` that should go by `gateway`. Whatever stands in it, this does not raise."""
    spec = _mapping(live.get("spec"))
    weights = _weights(spec, owner.name)
    accepted, message = _accepted(live, owner, gateway)
    return LiveRoute(
        weights=weights, accepted=accepted, message=message, drifted=spec != _spec(owner.name, gateway, weights)
    )


def _spec(name: str, gateway: Gateway, weights: Sequence[tuple[str, int]]) -> Object:
    spec: Object = {
        "parentRefs": [_parent(ref) for ref in gateway.parent_refs],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": PATH}}],
                "backendRefs": [_backend(name, revision, weight) for revision, weight in weights],
            }
        ],
    }
    if gateway.hostnames:
        spec["hostnames"] = list(gateway.hostnames)
    return spec


def _parent(ref: ParentRef) -> Object:
    return {"group": GATEWAY_GROUP, "kind": "Gateway", **ref.wire()}


def _backend(name: str, revision: str, weight: int) -> Object:
    return {
        "group": "",
        "kind": "Service",
        "name": names.child(name, revision),
        "port": names.PORT,
        "weight": weight,
    }


def _weights(spec: Object, name: str) -> tuple[tuple[str, int], ...]:
    found = []
    for rule in _sequence(spec.get("rules")):
        for backend in _sequence(_mapping(rule).get("backendRefs")):
            backend = _mapping(backend)
            revision = names.revision_of(name, str(backend.get("name", "")))
            if revision is not None:
                weight = backend.get("weight", 1)
                found.append((revision, weight if isinstance(weight, int) else 1))
    return tuple(found)


def _accepted(live: Object, owner: Owner, gateway: Gateway) -> tuple[bool | None, str]:
    """Every parent must have said yes to this generation; one no outweighs those that have not said."""
    generation = _mapping(live.get("metadata")).get("generation")
    parents = [_mapping(parent) for parent in _sequence(_mapping(live.get("status")).get("parents"))]
    waiting = ""
    for ref in gateway.parent_refs:
        wanted = _identity(_parent(ref), owner.namespace)
        answers = [
            parent for parent in parents if _identity(_mapping(parent.get("parentRef")), owner.namespace) == wanted
        ]
        where = _where(ref, owner.namespace)
        if not answers:
            waiting = waiting or f"{where} has not answered; does it exist, and does a controller run for its class?"
        for answer in answers:
            said = {
                condition.get("type"): condition
                for condition in map(_mapping, _sequence(answer.get("conditions")))
                if condition.get("observedGeneration") == generation
            }
            for kind in _NEEDED:
                status = said.get(kind, {}).get("status")
                if status == "False":
                    condition = said[kind]
                    return False, f"{where}: {kind}=False, {condition.get('reason')}: {condition.get('message')}"
                if status != "True":
                    waiting = waiting or f"{where} has not yet said {kind} of the latest change"
    return (None, waiting) if waiting else (True, "")


def _identity(ref: Object, namespace: str) -> tuple[Any, ...]:
    return (
        ref.get("group", GATEWAY_GROUP),
        ref.get("kind", "Gateway"),
        ref.get("namespace", namespace),
        ref.get("name"),
        ref.get("sectionName"),
    )


def _where(ref: ParentRef, namespace: str) -> str:
    listener = f" listener {ref.section_name}" if ref.section_name else ""
    return f"Gateway {ref.namespace or namespace}/{ref.name}{listener}"


def _mapping(value: Any) -> Object:
    return value if isinstance(value, dict) else {}


def _sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
