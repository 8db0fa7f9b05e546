"""Reads a family: what is known about a ModelDeployment without the registry's answer, and what to query. No I/O.

Nothing that others write into an object may stop the planner: parts that cannot be read are skipped and reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from pydantic import ValidationError

from modelsync.api import names, reasons
from modelsync.api.kinds import Object, labels_of, mapping
from modelsync.api.problems import FieldProblem, explain
from modelsync.api.registry import Registry
from modelsync.api.settings import OperatorSettings, OwnRegistry
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.api.status import ModelDeploymentStatus
from modelsync.observe import conflicts, question
from modelsync.observe.family import Family
from modelsync.policy.effective import own_registry, registry_of
from modelsync.policy.validation import problems as spec_problems
from modelsync.registry.model import Question
from modelsync.resources.children import selected_revision
from modelsync.resources.objects import Owner
from modelsync.resources.pulled import Pulled, template_spec
from modelsync.resources.record import Record, RecordError
from modelsync.resources.silenced import exposed_by_route
from modelsync.rollout.model import Problem, Revision, State
from modelsync.rollout.state import load

log = structlog.get_logger(__name__)

MAX_PROBLEMS_SHOWN = 5

MAX_UNRECORDED = 16
"""Revisions without a record whose templates are read. Pods can be labelled as any number of revisions."""


@dataclass(frozen=True, slots=True)
class Read:
    """A parsed family, without the registry's answer. `question` is what to query the registry for."""

    family: Family
    owner: Owner
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus
    state: State
    records: Mapping[Revision, Record]
    problems: tuple[Problem, ...]
    unrecorded: Mapping[Revision, Pulled]
    """What revisions without a readable record pull, by their Deployments and pods."""
    revisions_in_play: frozenset[Revision]
    """The revisions that are exposed, warm, promoted or being moved to."""
    in_play: tuple[Record | Pulled, ...]
    """What is known of them."""
    question: Question
    registry: Registry | None
    """The registry to query, from the spec or the administrator's default; None if none may be queried."""
    own: OwnRegistry | None
    """The operator's own credential to query it with, instead of the one in `registry`."""
    not_to_ask: str | None
    """Why `registry` is None. A credential must never be sent to a server that is not allowed."""


class UnreadableError(Exception):
    """The spec cannot be read at all: the CRD in the cluster is not ours."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__(summarize_problems(problems))


def read(family: Family, settings: OperatorSettings) -> Read:
    """Read everything but the registry's answer. Raises UnreadableError."""
    spec, wrong = _spec(family.owner)
    wrong += _policy_problems(spec, settings)
    found = [Problem(reasons.Reason.INVALID_SPEC, summarize_problems(wrong))] if wrong else []
    if spec.traffic.gateway is not None:
        if not family.gateway_api:
            found.append(
                Problem(
                    reasons.Reason.GATEWAY_API_MISSING,
                    "spec.traffic.gateway: the cluster does not have HTTPRoute; install the Gateway API's CRDs (v1), "
                    "or remove spec.traffic.gateway",
                    blocks_route=True,
                )
            )
        elif (missing := conflicts.without_hostnames(family.key.namespace, spec.traffic.gateway)) is not None:
            found.append(Problem(reasons.Reason.INVALID_SPEC, str(missing), blocks_route=True))
        elif (conflict := conflicts.conflict(family, spec.traffic.gateway)) is not None:
            found.append(Problem(reasons.Reason.CONFLICT, conflict, blocks_route=True))
    status = status_of(family)
    records = _records(family)
    state = _recovered(load(status), family, records)
    playing = _in_play(family, state)
    unrecorded = _unrecorded(family, state, records)
    known: dict[Revision, Record | Pulled] = {**unrecorded, **records}
    in_play = [known[revision] for revision in sorted(playing) if revision in known]
    not_to_ask = (
        summarize_problems(
            [
                each
                for each in wrong
                if each.field == "spec" or each.field.startswith(("spec.registry", "spec.modelRef"))
            ]
        )
        or None
    )
    # A registry that cannot be read is reported; the default does not replace it.
    registry = registry_of(spec, settings) if not_to_ask is None else None
    return Read(
        family=family,
        owner=Owner.of(family.owner),
        spec=spec,
        status=status,
        state=state,
        records=records,
        problems=tuple(found),
        unrecorded=unrecorded,
        revisions_in_play=frozenset(playing),
        in_play=tuple(in_play),
        question=question.question(spec, settings, in_play, state.holds),
        registry=registry,
        own=own_registry(spec, family.key.namespace, settings) if registry is not None else None,
        not_to_ask=not_to_ask,
    )


def _policy_problems(spec: ModelDeploymentSpec, settings: OperatorSettings) -> list[FieldProblem]:
    """What the policy rejects. A check that raises is reported as a problem: it must not stop the holds of what serves.

    Such a spec counts as not allowed to query a registry: nobody knows whether its server may see a key.
    """
    try:
        return spec_problems(spec, settings)
    except Exception as error:
        log.error("spec.check_failed", problem=_one_line(error))
        return [
            FieldProblem(
                "spec", f"could not be checked ({type(error).__name__}); this is a defect in modelsync: report it"
            )
        ]


def status_of(family: Family) -> ModelDeploymentStatus:
    """Read the status without the parts that cannot be read: a status that stops the planner would disable a hold."""
    raw: dict[str, Any] = mapping(family.owner.get("status"))
    while True:
        try:
            return ModelDeploymentStatus.model_validate(raw)
        except ValidationError as error:
            parts = {str(item["loc"][0]) for item in error.errors() if item["loc"]} & raw.keys()
            log.error("status.unreadable", parts=sorted(parts), problem=_one_line(error))
            raw = {name: value for name, value in raw.items() if name not in parts} if parts else {}


def plain_service(family: Family) -> Revision | None:
    """What the plain Service selects; None if there is no such Service."""
    service = family.services.get(family.key.name)
    return selected_revision(service) if service is not None else None


def _spec(owner: Object) -> tuple[ModelDeploymentSpec, list[FieldProblem]]:
    """Read the spec. Parts that cannot be read are skipped and reported, so that a hold still takes effect.

    The CRD rejects everything that this rejects, so only objects older than the CRD's rules have such parts.
    """
    raw = dict(mapping(owner.get("spec")))
    wrong: list[FieldProblem] = []
    while True:
        try:
            return ModelDeploymentSpec.model_validate(raw), wrong
        except ValidationError as error:
            wrong += explain(error, root="spec")
            parts = {str(item["loc"][0]) for item in error.errors() if item["loc"]} & raw.keys()
            if not parts:
                raise UnreadableError(wrong) from None
            for part in parts:
                del raw[part]


def _records(family: Family) -> Mapping[Revision, Record]:
    records = {}
    for obj in family.records.values():
        try:
            record = Record.parse(obj)
        except RecordError as error:
            log.error("record.unreadable", problem=str(error))
            continue
        records[record.revision] = record
    return records


def _unrecorded(family: Family, state: State, records: Mapping[Revision, Record]) -> Mapping[Revision, Pulled]:
    """What revisions pull whose record is gone or cannot be read: it must neither end nor hide a hold."""
    name = family.key.name
    templates: dict[Revision, list[Any]] = {}
    for child, deployment in family.deployments.items():
        if (revision := names.revision_of(name, child)) and revision not in records:
            templates.setdefault(revision, []).append(template_spec(deployment))
    for pod in family.pods:
        label = labels_of(pod).get(names.REVISION_LABEL, "")
        if label not in records and (revision := names.revision_of(name, names.child(name, str(label)))):
            templates.setdefault(revision, []).append(pod.get("spec"))
    templates.pop(names.BLOCKED, None)
    meant = {*state.in_use}
    # Pods can be labelled as any revision, so those that are meant, or have a Deployment of ours, go first.
    order = sorted(
        templates,
        key=lambda revision: (revision not in meant, names.child(name, revision) not in family.deployments, revision),
    )
    return {revision: Pulled.by(revision, templates[revision]) for revision in order[:MAX_UNRECORDED]}


def _recovered(state: State, family: Family, records: Mapping[Revision, Record]) -> State:
    """The state of a ModelDeployment whose status was lost while its children serve: adopted orphans, a restore.

    An intent is always written before its effect. So if there is none, but the plain Service selects a revision and the
    route, if there is one, gives it traffic, then that revision was the stable: it goes on serving.
    """
    if state.promoted or state.target is not None or state.canary is not None:
        return state
    serving = plain_service(family)
    if serving is None or serving not in records:
        return state
    if family.route is not None and serving not in exposed_by_route(family.route, family.key.name):
        return state
    return replace(state, promoted=(serving,))


def _in_play(family: Family, state: State) -> set[Revision]:
    """Revisions that are exposed, warm, promoted or being rolled out."""
    found = {*state.in_use}
    found |= {pod_revision for pod in family.pods if (pod_revision := labels_of(pod).get(names.REVISION_LABEL))}
    for name, deployment in family.deployments.items():
        revision = names.revision_of(family.key.name, name)
        if revision and (deployment.get("spec") or {}).get("replicas"):
            found.add(revision)
    if family.route is not None:
        found |= exposed_by_route(family.route, family.key.name)
    if (service := plain_service(family)) is not None:
        found.add(service)
    return found


def summarize_problems(problems: Sequence[FieldProblem]) -> str:
    """The first problems in one line, and the number of others; empty if there are none."""
    first = "; ".join(str(problem) for problem in problems[:MAX_PROBLEMS_SHOWN])
    more = len(problems) - MAX_PROBLEMS_SHOWN
    return f"{first}; and {more} more" if more > 0 else first


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
