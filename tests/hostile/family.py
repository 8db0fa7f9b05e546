"""A ModelDeployment that serves v7 beside a canary v8, with every object that a pass reads; and the pass over it.

The objects go the way of the operator's: into its cache, out of it as a family, and through read, gather, plan, report
and upkeep.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

from modelsync.api import kinds, names
from modelsync.api.hold import HoldMark, HoldSource
from modelsync.api.kinds import Kind, Object
from modelsync.api.routing import Routing
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.cluster.cache import Cache
from modelsync.cluster.families import CachedFamilies
from modelsync.controller.instrumentation import Instrumentation
from modelsync.controller.log_fields import action_text, event_text
from modelsync.observe.adoption import adoptable
from modelsync.observe.answers import hold_reads
from modelsync.observe.assembly import all_children, children_to_read
from modelsync.observe.exams import listening_pod
from modelsync.observe.family import Family
from modelsync.observe.gather import Gathered, gather
from modelsync.observe.hold_watch import unplanned_watches, watches
from modelsync.observe.question import server_of
from modelsync.observe.sightings import Sightings
from modelsync.observe.spec_status import read, status_of
from modelsync.observe.unplanned import held_revisions, orphans_beside, unplanned_of
from modelsync.observe.upkeep import upkeep
from modelsync.registry.model import Answers
from modelsync.report.report import report
from modelsync.resources.children import blocked_service, deployment, disruption_budget, plain_service, revision_service
from modelsync.resources.route import http_route
from modelsync.resources.silenced import route_without, service_without
from modelsync.rollout.model import Plan
from modelsync.rollout.plan import plan
from modelsync.rollout.state import load
from modelsync.telemetry.metrics import Metrics
from unit.observe.builders import KEY, OWNER, a_record, live, model_deployment, spec
from unit.observe.test_gather import answers, resolved

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
HELD_DIGEST = "0123456789abcdef"
SETTINGS = OperatorSettings(allowed_registries=("https://wandb.example.com",))
RECORDED = Path(__file__).parent.parent / "unit" / "observe" / "recorded" / "kubelet.json"

Objects = dict[str, tuple[Kind, Object]]
"""Kind and object, by what it is to the ModelDeployment."""

STABLE, CANARY = a_record()[0].revision, a_record("v8", "fedcba9876543210")[0].revision


@cache
def _valid() -> str:
    """Every object as JSON."""
    records = {"record": a_record(), "canary record": a_record("v8", "fedcba9876543210")}
    found: dict[str, tuple[Kind, Object]] = {"owner": (kinds.MODEL_DEPLOYMENT, _owner())}
    for name, (record, body) in records.items():
        prefix = name.removesuffix("record")
        child = names.child("chat", record.revision)
        found[name] = (kinds.CONTROLLER_REVISION, body)
        found[f"{prefix}deployment"] = (kinds.DEPLOYMENT, _deployed(live(deployment(record, 2))))
        found[f"{prefix}service"] = (kinds.SERVICE, live(revision_service(OWNER, record.revision)))
        found[f"{prefix}slice"] = (kinds.ENDPOINT_SLICE, _slice(child))
    found["plain service"] = (kinds.SERVICE, live(plain_service(OWNER, STABLE)))
    found["blocked service"] = (kinds.SERVICE, live(blocked_service(OWNER)))
    found["budget"] = (kinds.POD_DISRUPTION_BUDGET, live(disruption_budget(OWNER, STABLE)))
    for name, state, revision in (
        ("pod", "ready", STABLE),
        ("crashed pod", "crashed", STABLE),
        ("canary pod", "pulling", CANARY),
    ):
        found[name] = (kinds.POD, _pod(name.replace(" ", "-"), state, revision))
    found["route"] = (kinds.HTTP_ROUTE, _route())
    found["rival route"] = (kinds.HTTP_ROUTE, _rival_route())
    rival = model_deployment("rival", "other", uid="uid-rival")
    found["rival"] = (kinds.MODEL_DEPLOYMENT, rival)
    return json.dumps({name: obj for name, (_, obj) in found.items()})


def valid() -> dict[str, Object]:
    """A fresh copy of every object."""
    return cast(dict[str, Object], json.loads(_valid()))


KINDS = {
    "owner": kinds.MODEL_DEPLOYMENT,
    "rival": kinds.MODEL_DEPLOYMENT,
    "route": kinds.HTTP_ROUTE,
    "rival route": kinds.HTTP_ROUTE,
    "record": kinds.CONTROLLER_REVISION,
    "deployment": kinds.DEPLOYMENT,
    "service": kinds.SERVICE,
    "slice": kinds.ENDPOINT_SLICE,
    "pod": kinds.POD,
    "budget": kinds.POD_DISRUPTION_BUDGET,
}


def kind_of(name: str) -> Kind:
    """The kind of an object of `valid`."""
    return KINDS.get(name) or KINDS[name.rpartition(" ")[2]]


@dataclass(frozen=True)
class Pass:
    """What a pass found and decided."""

    gathered: Gathered
    plan: Plan
    status: dict[str, Any]


def run(objects: dict[str, Object], *, hold: bool = True) -> Pass | None:
    """One pass over `objects`, as the operator makes it; None if the ModelDeployment is not in the cache.

    With `hold`, the registry has just shown a mark on the stable version.
    """
    family = _family(objects)
    if family is None:
        return None
    orphans_beside(family)
    adoptable(KEY.name, all_children(family), family.foreign_route)
    children_to_read(family)
    sightings, metrics = Sightings(), Instrumentation(Metrics())
    found = read(family, SETTINGS)
    gathered = gather(
        found,
        settings=SETTINGS,
        answers=registry(hold=hold),
        watched={each: registry(hold=hold) for each in watches(found, SETTINGS)},
        refusal=found.not_to_ask,
        sightings=sightings,
        now=NOW,
        exams={},
    )
    for pod in family.pods:
        listening_pod(pod, NOW)
    decided = plan(gathered.observed)
    told = report(
        gathered.observed,
        decided,
        found.status,
        name=found.owner.name,
        registry=gathered.registry,
        resolved=gathered.resolved,
        pods=gathered.pods,
        url=gathered.url,
        silences=(),
    )
    upkeep(gathered, decided.state)
    alias = str(found.spec.model_ref)
    metrics.on_decided(KEY, gathered.observed, decided, told.status, alias=alias, pods=family.pods)
    metrics.on_status_written(found.status, decided, told.status)
    [action_text(action) for action in decided.actions]
    [event_text(event) for event in decided.events]
    status = told.status.wire()
    json.dumps(status, allow_nan=False).encode()
    return Pass(gathered, decided, status)


def held_without_a_plan(objects: dict[str, Object]) -> Mapping[str, HoldMark | None]:
    """What the operator silences when no plan can be made."""
    family = _family(objects)
    assert family is not None
    found = unplanned_of(family, load(status_of(family)).holds)
    reads = [
        hold_reads(each.question, registry(hold=True), server_of(each.registry))
        for each in unplanned_watches(found, SETTINGS)
    ]
    held = held_revisions(found, reads, ())
    if family.route is not None:
        json.dumps(route_without(family.route, KEY.name, held))
    if (plain := family.services.get(KEY.name)) is not None:
        json.dumps(service_without(plain, KEY.name, held))
    return held


def registry(*, hold: bool) -> Answers:
    """The alias names v7; with `hold`, v7 carries the tag."""
    return answers(resolved(tags=["regulatory-hold"] if hold else []))


def _family(objects: dict[str, Object]) -> Family | None:
    stored = Cache()
    for name, obj in objects.items():
        stored.put(kind_of(name), obj)
    return CachedFamilies(stored).family(KEY)


MARK = HoldMark(HELD_DIGEST, "acme/wandb-registry-model/chat llm", "v7", HoldSource.VERSION_TAG, "regulatory-hold")


def _owner() -> Object:
    started = "2026-11-21T08:30:00Z"
    steps = [{"setWeight": 10}, {"pause": {"duration": "10m"}}, {"pause": {}}]
    status = {
        "observedGeneration": 1,
        "promoted": [STABLE],
        "canary": {"revision": CANARY, "step": 1, "weight": 10, "steps": steps, "startedAt": started},
        "failed": [{"revision": "v6-00000000", "reason": "Crashed", "message": "it crashed", "at": started}],
        "exams": [{"revision": STABLE, "outcome": "Passed", "passed": 3, "total": 3, "duration": "2s"}],
        "history": [],
        "conditions": [
            {
                "type": "Ready",
                "status": "Unknown",
                "reason": "Canary",
                "message": "",
                "lastTransitionTime": started,
                "observedGeneration": 1,
            }
        ],
    }
    serving = {"args": ["--max-model-len=8192"], "env": [{"name": "VLLM_LOGGING_LEVEL", "value": "INFO"}]}
    rollout = {"steps": [{"setWeight": 10}, {"pause": {"duration": "10m"}}]}
    wanted = spec(serving=serving, rollout=rollout, hold={"tags": ["regulatory-hold"]})
    return model_deployment(spec=wanted, status=status, annotations={f"{names.GROUP}/promote": CANARY})


def _deployed(obj: Object) -> Object:
    conditions = [{"type": "ReplicaFailure", "status": "False", "lastTransitionTime": "2026-11-21T08:31:00Z"}]
    return {**obj, "status": {"replicas": 2, "readyReplicas": 1, "conditions": conditions}}


def _slice(child: str) -> Object:
    endpoints = [
        {
            "addresses": [f"10.0.0.{n}"],
            "conditions": {"ready": True},
            "targetRef": {"kind": "Pod", "uid": f"{child}-{n}"},
        }
        for n in range(2)
    ]
    labels = {names.NAME_LABEL: "chat", "kubernetes.io/service-name": child}
    metadata = {"name": f"{child}-abcde", "namespace": "prod", "labels": labels}
    return live(
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "endpoints": endpoints}
    )


def _pod(name: str, state: str, revision: str) -> Object:
    recorded: Object = json.loads(RECORDED.read_text(encoding="utf-8"))[state]
    metadata = {"name": name, "namespace": "prod", "labels": names.labels("chat", revision), "uid": f"uid-{name}"}
    return {**recorded, "metadata": {**recorded["metadata"], **metadata}}


def _route() -> Object:
    traffic = ModelDeploymentSpec.model_validate(spec()).traffic
    route = live(http_route(OWNER, traffic, Routing(((STABLE, 90), (CANARY, 10)))))
    route["metadata"]["managedFields"] = [
        {"manager": "gateway", "operation": "Update", "subresource": "status", "time": "2026-11-21T08:30:00Z"}
    ]
    conditions = [
        {"type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": 1}
        for kind in ("Accepted", "ResolvedRefs")
    ]
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "models", "namespace": "gateways"}
    answer = {"parentRef": parent, "controllerName": "example.com/gateway", "conditions": conditions}
    return {**route, "status": {"parents": [answer]}}


def _rival_route() -> Object:
    body = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "theirs", "namespace": "other"},
        "spec": {
            "parentRefs": [{"name": "models", "namespace": "gateways"}],
            "hostnames": ["chat.example.com"],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/other"}}],
                    "backendRefs": [{"name": "theirs", "port": 80, "weight": 1}],
                }
            ],
        },
    }
    return live(body)
