"""The HTTPRoute: written whole, with every default of its CRD, so that a live one can be compared by equality.

Only `spec.traffic.gateway.paths` are published. Weights are backends of the last rule; a backend at weight 0 is there
before it gets traffic, so that the data plane knows its endpoints. What goes to one revision whatever the weights
stands in rules before it, told apart by one header each: of equal paths the gateway takes the match with more headers,
and of equal matches the first. Blocked is one backend, the Service that no pod belongs to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modelsync.api import duration, names
from modelsync.api.routing import HeaderMatch, Routing, Rule, RuleKind
from modelsync.api.traffic import Gateway, ParentRef, Traffic
from modelsync.resources.objects import Object, Owner, metadata

GATEWAY_GROUP = "gateway.networking.k8s.io"
API_VERSION = f"{GATEWAY_GROUP}/v1"

SESSION_HEADER = "x-modelsync-session"
"""Request header that the gateway sets while clients are to stay: the cookie that the middleware is to give them."""

_NEEDED = ("Accepted", "ResolvedRefs")
_PARTLY = "PartiallyInvalid"
_REGEX = "RegularExpression"


@dataclass(frozen=True, slots=True)
class LiveRoute:
    """What a live HTTPRoute says.

    `routing`: every backend of ours in order, zero weights included, `names.BLOCKED` for the blocked Service, and what
    the rules before them lead to. `accepted`: every parent says Accepted and ResolvedRefs of this generation; `None`
    while one has not said. `message`: of the first parent that says no. `drifted`: its spec is not what `http_route`
    makes of `routing`.
    """

    routing: Routing
    accepted: bool | None
    message: str
    drifted: bool


def http_route(owner: Owner, traffic: Traffic, routing: Routing, *, hold: str | None = None) -> Object:
    """The route that says `routing`: revisions with whole per cent, or `((names.BLOCKED, 1),)`.

    `hold` says which hold shapes it, and becomes an annotation. Annotations of others stay, by server-side apply.
    """
    meta = metadata(owner, owner.name)
    if hold is not None:
        meta["annotations"] = {names.HOLD_ANNOTATION: hold}
    return {
        "apiVersion": API_VERSION,
        "kind": "HTTPRoute",
        "metadata": meta,
        "spec": _spec(owner.name, traffic, routing),
    }


def read_route(live: Object, owner: Owner, traffic: Traffic) -> LiveRoute:
    """Read a live route of `owner` that should go by `traffic`. Whatever stands in it, this does not raise."""
    spec = _mapping(live.get("spec"))
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
        "backendRefs": [_backend(name, rule.revision, 1)],
        "timeouts": _timeouts(gateway),
    }


def _shares(name: str, traffic: Traffic, gateway: Gateway, routing: Routing) -> Object:
    rule: Object = {
        "matches": [{"path": {"type": "PathPrefix", "value": path}} for path in gateway.paths],
        "backendRefs": [_backend(name, revision, weight) for revision, weight in routing.weights],
        "timeouts": _timeouts(gateway),
    }
    if traffic.session_affinity is not None and any(rule.kind is RuleKind.SESSION for rule in routing.rules):
        # Only who has no valid cookie comes here, so a client's time runs from its first answer.
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


def _backend(name: str, revision: str, weight: int) -> Object:
    return {
        "group": "",
        "kind": "Service",
        "name": names.child(name, revision),
        "port": names.PORT,
        "weight": weight,
    }


# --- read ----------------------------------------------------------------------------------------------------------


def _read_routing(spec: Object, name: str, traffic: Traffic) -> Routing:
    """Every way to a revision of ours, also where somebody else wrote it: a way in a rule that is told apart by
    something is a rule, any other is a share."""
    weights: list[tuple[str, int]] = []
    rules: list[Rule] = []
    for rule in map(_mapping, _sequence(spec.get("rules"))):
        headers = [_read_header(match) for match in map(_mapping, _sequence(rule.get("matches")))]
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
    """The one header of a match; of several, which nobody but a stranger writes, the first."""
    header = next(map(_mapping, _sequence(match.get("headers"))), None)
    if header is None:
        return None
    return HeaderMatch(str(header.get("name")), str(header.get("value")), regex=header.get("type") == _REGEX)


def _read_backends(rule: Object, name: str) -> Iterator[tuple[str, int]]:
    for backend in map(_mapping, _sequence(rule.get("backendRefs"))):
        revision = names.revision_of(name, str(backend.get("name", "")))
        if revision is not None:
            weight = backend.get("weight", 1)
            yield revision, weight if isinstance(weight, int) else 1


def _accepted(live: Object, owner: Owner, gateway: Gateway | None) -> tuple[bool | None, str]:
    """Every parent must have said yes to this generation; one no outweighs those that have not said."""
    generation = _mapping(live.get("metadata")).get("generation")
    parents = [_mapping(parent) for parent in _sequence(_mapping(live.get("status")).get("parents"))]
    waiting = ""
    for ref in gateway.parent_refs if gateway is not None else ():
        wanted = _identity(_parent(ref), owner.namespace)
        answers = [
            parent for parent in parents if _identity(_mapping(parent.get("parentRef")), owner.namespace) == wanted
        ]
        where = _where(ref, owner.namespace)
        spoken = [said for answer in answers if (said := _said(answer)) is not None]
        if not spoken:
            waiting = waiting or f"{where} has not answered; does it exist, and does a controller run for its class?"
        for conditions in spoken:
            said = {
                kind: condition
                for kind, condition in conditions.items()
                if condition.get("observedGeneration") == generation
            }
            if said.get(_PARTLY, {}).get("status") == "True":
                return False, f"{where}: {_told(said, _PARTLY)}"
            for kind in _NEEDED:
                status = said.get(kind, {}).get("status")
                if status == "False":
                    return False, f"{where}: {_told(said, kind)}"
                if status != "True":
                    waiting = waiting or f"{where} has not yet said {kind} of the latest change"
    return (None, waiting) if waiting else (True, "")


def _said(answer: Object) -> dict[str, Object] | None:
    """The conditions of one controller, by type; None of one that only adds words of its own, as policies do."""
    said = {str(condition.get("type")): condition for condition in map(_mapping, _sequence(answer.get("conditions")))}
    return said if any(kind in said for kind in _NEEDED) else None


def _told(said: dict[str, Object], kind: str) -> str:
    condition = said[kind]
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


def _mapping(value: Any) -> Object:
    return value if isinstance(value, dict) else {}


def _sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
