"""Renders the HTTPRoute and reads a live one back. Every default of the CRD is written, so that they can be compared.

Only `spec.traffic.gateway.paths` are published. The last rule has the weighted backends; a backend is added with weight
0 before it gets traffic, so that the data plane knows its endpoints. The rules before it send requests to one revision
whatever the weights, each by one header: for equal paths, a gateway prefers the match with more headers, then the first
one. When blocked, the only backend is the Service that selects no pod.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modelsync.api import duration, names
from modelsync.api.kinds import mapping, sequence
from modelsync.api.routing import HeaderMatch, Routing, Rule, RuleKind
from modelsync.api.traffic import Gateway, ParentRef, Traffic
from modelsync.resources.objects import Object, Owner, metadata

GATEWAY_GROUP = "gateway.networking.k8s.io"
API_VERSION = f"{GATEWAY_GROUP}/v1"

SESSION_HEADER = "x-modelsync-session"
"""Request header that the gateway sets for session affinity: the cookie that the middleware must set."""

_NEEDED = ("Accepted", "ResolvedRefs")
_PARTLY = "PartiallyInvalid"
_REGEX = "RegularExpression"


@dataclass(frozen=True, slots=True)
class LiveRoute:
    """The state of a live HTTPRoute.

    `routing`: our backends in order, including weight 0 and `names.BLOCKED`, and the rules. `accepted`: True if every
    parent reports Accepted and ResolvedRefs for this generation, None while one has not reported yet.
    `message`: from the first parent that does not accept. `drifted`: the spec differs from what `http_route` renders
    for `routing`.
    """

    routing: Routing
    accepted: bool | None
    message: str
    drifted: bool


def http_route(
    owner: Owner, traffic: Traffic, routing: Routing, *, hold: str | None = None, within: Object | None = None
) -> Object:
    """The HTTPRoute for `routing`: revisions with weights in percent, or `((names.BLOCKED, 1),)`.

    `within`: a live route whose Gateways, host names and paths are kept; those of `traffic` must not be claimed.

    `hold` describes the hold that affects the route and becomes an annotation. Server-side apply keeps annotations of
    others.
    """
    meta = metadata(owner, owner.name)
    if hold is not None:
        meta["annotations"] = {names.HOLD_ANNOTATION: hold}
    return {
        "apiVersion": API_VERSION,
        "kind": "HTTPRoute",
        "metadata": meta,
        "spec": _spec(owner.name, traffic, routing)
        if within is None
        else _within(within, owner.name, traffic, routing),
    }


def read_route(live: Object, owner: Owner, traffic: Traffic) -> LiveRoute:
    """Read the live route of `owner`, which should follow `traffic`. Never raises, whatever the object contains."""
    spec = mapping(live.get("spec"))
    routing = _read_routing(spec, owner.name, traffic)
    accepted, message = _accepted(live, owner, traffic.gateway)
    return LiveRoute(
        routing=routing, accepted=accepted, message=message, drifted=spec != _spec(owner.name, traffic, routing)
    )


# --- write ---------------------------------------------------------------------------------------------------------


def _spec(name: str, traffic: Traffic, routing: Routing) -> Object | None:
    gateway = traffic.gateway
    if gateway is None:
        return None
    spec: Object = {
        "parentRefs": [_parent(ref) for ref in gateway.parent_refs],
        "rules": [
            *(_rule(name, traffic, gateway, routing, rule) for rule in routing.rules),
            _shares(name, traffic, gateway, routing),
        ],
    }
    if gateway.hostnames:
        spec["hostnames"] = list(gateway.hostnames)
    return spec


def _within(live: Object, name: str, traffic: Traffic, routing: Routing) -> Object | None:
    """The spec for `routing` that claims what `live` claims."""
    if traffic.gateway is None:
        return None
    spec = mapping(live.get("spec"))
    matches = (match for rule in sequence(spec.get("rules")) for match in sequence(mapping(rule).get("matches")))
    prefixes = [str(mapping(mapping(match).get("path")).get("value", "/")) for match in matches]
    kept = traffic.gateway.model_copy(update={"paths": list(dict.fromkeys(prefixes)) or traffic.gateway.paths})
    rendered = _spec(name, traffic.model_copy(update={"gateway": kept}), routing) or {}
    claimed = {field: spec[field] for field in ("parentRefs", "hostnames") if spec.get(field)}
    return {**{field: value for field, value in rendered.items() if field == "rules"}, **claimed}


def _parent(ref: ParentRef) -> Object:
    return {"group": GATEWAY_GROUP, "kind": "Gateway", **ref.wire()}


def _rule(name: str, traffic: Traffic, gateway: Gateway, routing: Routing, rule: Rule) -> Object:
    matches = [
        {"path": {"type": "PathPrefix", "value": path}, "headers": [_header(match)]}
        for path in gateway.paths
        for match in _matches(name, traffic, routing, rule)
    ]
    return {
        "matches": matches,
        "backendRefs": [backend_ref(name, rule.revision, 1)],
        "timeouts": _timeouts(gateway),
    }


def _shares(name: str, traffic: Traffic, gateway: Gateway, routing: Routing) -> Object:
    rule: Object = {
        "matches": [{"path": {"type": "PathPrefix", "value": path}} for path in gateway.paths],
        "backendRefs": [backend_ref(name, revision, weight) for revision, weight in routing.weights],
        "timeouts": _timeouts(gateway),
    }
    if traffic.session_affinity is not None and any(rule.kind is RuleKind.SESSION for rule in routing.rules):
        # Only requests without a valid cookie get here, so maxAge counts from a client's first response.
        cookie = f"{_cookie(name)}; Max-Age={traffic.session_affinity.max_age.total_seconds():.0f}"
        header = {"name": SESSION_HEADER, "value": cookie}
        rule["filters"] = [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [header]}}]
    return rule


def _matches(name: str, traffic: Traffic, routing: Routing, rule: Rule) -> tuple[HeaderMatch, ...]:
    match rule.kind:
        case RuleKind.TEST if traffic.test_header is not None:
            values = [rule.revision]
            version = rule.revision.partition("-")[0]
            same = (revision for revision, _ in routing.weights if revision.partition("-")[0] == version)
            if next(same, rule.revision) == rule.revision:
                values.append(version)
            return tuple(HeaderMatch(traffic.test_header, value) for value in values)
        case RuleKind.SESSION:
            return (HeaderMatch("Cookie", rf"^(.*;\s*)?{_cookie(name)}={rule.revision}(\s*;.*)?$", regex=True),)
        case _:
            return rule.match


def _cookie(name: str) -> str:
    return f"modelsync-{name}"


def _header(match: HeaderMatch) -> Object:
    return {"type": _REGEX if match.regex else "Exact", "name": match.name, "value": match.value}


def _timeouts(gateway: Gateway) -> Object:
    return {"request": duration.render(gateway.request_timeout)}


def backend_ref(name: str, revision: str, weight: int) -> Object:
    """A backendRef to the Service of `revision`, or of `names.BLOCKED`."""
    return {
        "group": "",
        "kind": "Service",
        "name": names.child(name, revision),
        "port": names.PORT,
        "weight": weight,
    }


# --- read ----------------------------------------------------------------------------------------------------------


def _read_routing(spec: Object, name: str, traffic: Traffic) -> Routing:
    """The routing to our revisions, including what others wrote: a backend of a rule with a header match becomes a
    `Rule`, any other backend a weight."""
    weights: list[tuple[str, int]] = []
    rules: list[Rule] = []
    for rule in map(mapping, sequence(spec.get("rules"))):
        headers = [_read_header(match) for match in map(mapping, sequence(rule.get("matches")))]
        if not any(headers):
            weights += _read_backends(rule, name)
            continue
        alternatives = tuple(dict.fromkeys(header for header in headers if header is not None))
        rules += [
            _read_rule(revision, alternatives, name, traffic)
            for revision, weight in _read_backends(rule, name)
            if weight
        ]
    return Routing(tuple(weights), tuple(rules))


def _read_rule(revision: str, alternatives: tuple[HeaderMatch, ...], name: str, traffic: Traffic) -> Rule:
    first = alternatives[0].name.lower()
    if traffic.test_header is not None and first == traffic.test_header.lower():
        return Rule(revision, RuleKind.TEST)
    if first == "cookie" and _cookie(name) in alternatives[0].value:
        return Rule(revision, RuleKind.SESSION)
    return Rule(revision, RuleKind.SEGMENT, alternatives)


def _read_header(match: Object) -> HeaderMatch | None:
    """The header of a match, or None. If somebody else wrote several, the first."""
    header = next(map(mapping, sequence(match.get("headers"))), None)
    if header is None:
        return None
    return HeaderMatch(str(header.get("name")), str(header.get("value")), regex=header.get("type") == _REGEX)


def _read_backends(rule: Object, name: str) -> Iterator[tuple[str, int]]:
    for backend in map(mapping, sequence(rule.get("backendRefs"))):
        revision = names.revision_of(name, str(backend.get("name", "")))
        if revision is not None:
            weight = backend.get("weight", 1)
            yield revision, weight if isinstance(weight, int) else 1


def _accepted(live: Object, owner: Owner, gateway: Gateway | None) -> tuple[bool | None, str]:
    """Whether every parent accepted this generation, and why not. A refusal overrides missing answers."""
    generation = mapping(live.get("metadata")).get("generation")
    parents = [mapping(parent) for parent in sequence(mapping(live.get("status")).get("parents"))]
    waiting = ""
    for ref in gateway.parent_refs if gateway is not None else ():
        wanted = _identity(_parent(ref), owner.namespace)
        answers = [
            parent for parent in parents if _identity(mapping(parent.get("parentRef")), owner.namespace) == wanted
        ]
        where = _where(ref, owner.namespace)
        reports = [conditions for answer in answers if (conditions := _conditions(answer)) is not None]
        if not reports:
            waiting = waiting or f"{where} has not answered; does it exist, and does a controller run for its class?"
        for report in reports:
            current = {
                kind: condition
                for kind, condition in report.items()
                if condition.get("observedGeneration") == generation
            }
            if current.get(_PARTLY, {}).get("status") == "True":
                return False, f"{where}: {_described(current, _PARTLY)}"
            for kind in _NEEDED:
                status = current.get(kind, {}).get("status")
                if status == "False":
                    return False, f"{where}: {_described(current, kind)}"
                if status != "True":
                    waiting = waiting or f"{where} has not yet reported {kind} for the latest change"
    return (None, waiting) if waiting else (True, "")


def _conditions(answer: Object) -> dict[str, Object] | None:
    """The conditions of one controller by type; None if it only adds conditions of other types, as policies do."""
    found = {str(condition.get("type")): condition for condition in map(mapping, sequence(answer.get("conditions")))}
    return found if any(kind in found for kind in _NEEDED) else None


def _described(conditions: dict[str, Object], kind: str) -> str:
    condition = conditions[kind]
    return f"{kind}={condition.get('status')}, {condition.get('reason')}: {condition.get('message')}"


def _identity(ref: Object, namespace: str) -> tuple[Any, ...]:
    return (
        ref.get("group", GATEWAY_GROUP),
        ref.get("kind", "Gateway"),
        ref.get("namespace", namespace),
        ref.get("name"),
        ref.get("sectionName"),
        ref.get("port"),
    )


def _where(ref: ParentRef, namespace: str) -> str:
    listener = f" listener {ref.section_name}" if ref.section_name else ""
    port = f" port {ref.port}" if ref.port else ""
    return f"Gateway {ref.namespace or namespace}/{ref.name}{listener}{port}"
