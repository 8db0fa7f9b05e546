"""Translates what the cluster and the registry hold into what the planner may know. Pure but for `Sightings`.

The one place where Kubernetes objects become `Observed`. Whatever stands in an object that others can write, it must
not break the translation: what cannot be read is left out and told.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import structlog
from pydantic import ValidationError

from modelsync.api import names, reasons
from modelsync.api import steps as spec_steps
from modelsync.api.effective import hold_rules, registry_of
from modelsync.api.problems import FieldProblem, explain
from modelsync.api.references import MODEL
from modelsync.api.registry import Registry
from modelsync.api.routing import HeaderMatch
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.api.status import ModelDeploymentStatus, PodStatus, RegistryStatus, ResolvedStatus
from modelsync.api.validation import problems as spec_problems
from modelsync.cluster import conflicts, lookup, pods, references
from modelsync.cluster.adapters import Known, Loading, loading
from modelsync.cluster.exams import with_earlier
from modelsync.cluster.family import Family
from modelsync.cluster.kinds import Object, annotations_of, labels_of, uid_of
from modelsync.cluster.references import Positives
from modelsync.registry.model import Answers, Question
from modelsync.resources.objects import Owner
from modelsync.resources.record import Record, RecordError
from modelsync.resources.revision import Artifact, RevisionInputs, inputs_of, revision_name
from modelsync.resources.route import read_route
from modelsync.resources.service import selected_revision
from modelsync.rollout import model
from modelsync.rollout.model import (
    Candidate,
    Exam,
    Observed,
    Pause,
    Policy,
    Problem,
    RegistryOutcome,
    RegistryView,
    Requests,
    Revision,
    RevisionView,
    RouteView,
    SetMatch,
    SetWeight,
    State,
    Step,
)
from modelsync.rollout.state import load

log = structlog.get_logger(__name__)

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
MAX_PROBLEMS_TOLD = 5


@dataclass(frozen=True, slots=True)
class Pinned:
    """What the aliases' answers make with today's spec: all that a record of it is written from."""

    revision: Revision
    inputs: RevisionInputs
    artifacts: Mapping[str, Artifact]
    """By key (`api.references`)."""
    lora: Loading = field(default_factory=Loading)
    """What is known of its adapters; of one that has a record, nothing is asked."""

    @property
    def artifact(self) -> Artifact:
        """The model."""
        return self.artifacts[MODEL]

    @property
    def others(self) -> Mapping[str, Artifact]:
        """All but the model."""
        return {key: artifact for key, artifact in self.artifacts.items() if key != MODEL}


@dataclass(frozen=True, slots=True)
class Read:
    """A family, read: what does not need the registry's answer. `question` is what the registry is to be asked."""

    family: Family
    owner: Owner
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus
    state: State
    records: Mapping[Revision, Record]
    problems: tuple[Problem, ...]
    question: Question
    registry: Registry | None
    """The one to ask, of the spec or the administrator's default; None when nothing may be asked."""
    not_to_ask: str | None
    """Why nothing may be asked, where `registry` is None; no credential may go to a server that is not allowed."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the planner may know, and what `apply` and `report` need to act on its answer."""

    read: Read
    observed: Observed
    pinned: Pinned | None
    registry: RegistryStatus | None
    resolved: ResolvedStatus | None
    pods: tuple[PodStatus, ...]
    url: str | None
    """Of the plain Service; with a gateway its listeners would have to say whether it is http or https."""


@dataclass(slots=True)
class Sightings:
    """Since when this process has seen something that no object carries a time of."""

    _since: dict[str, dict[tuple[str, ...], datetime]] = field(default_factory=lambda: defaultdict(dict))

    def since(self, uid: str, what: tuple[str, ...], now: datetime) -> datetime:
        """When `what` was first seen to hold of the ModelDeployment `uid`."""
        return self._since[uid].setdefault(what, now)

    def has(self, uid: str, what: tuple[str, ...]) -> bool:
        """Whether `what` was seen to hold."""
        return what in self._since[uid]

    def ended(self, uid: str, what: tuple[str, ...]) -> None:
        """`what` does not hold now."""
        self._since[uid].pop(what, None)

    def forget(self, uid: str) -> None:
        """The ModelDeployment is no more."""
        self._since.pop(uid, None)


class UnreadableError(Exception):
    """Nothing can be made of the spec at all: the CRD that the API server has is not ours."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__(_told(problems))


def read(family: Family, settings: OperatorSettings) -> Read:
    """Read everything but the registry's answer. Raises UnreadableError."""
    spec, wrong = _spec(family.owner)
    wrong += spec_problems(spec, settings)
    found = [Problem(reasons.Reason.INVALID_SPEC, _told(wrong))] if wrong else []
    if spec.traffic.gateway is not None:
        if not family.gateway_api:
            found.append(
                Problem(
                    reasons.Reason.GATEWAY_API_MISSING,
                    "spec.traffic.gateway: the cluster does not know HTTPRoute; install the Gateway API's CRDs (v1), "
                    "or leave spec.traffic.gateway out",
                    blocks_route=True,
                )
            )
        elif (conflict := conflicts.conflict(family, spec.traffic.gateway)) is not None:
            found.append(Problem(reasons.Reason.CONFLICT, conflict, blocks_route=True))
    status = status_of(family)
    state = load(status)
    records = _records(family)
    in_play = [records[revision] for revision in sorted(_in_play(family, state)) if revision in records]
    not_to_ask = _told([each for each in wrong if each.field.startswith(("spec.registry", "spec.modelRef"))]) or None
    return Read(
        family=family,
        owner=Owner.of(family.owner),
        spec=spec,
        status=status,
        state=state,
        records=records,
        problems=tuple(found),
        question=lookup.question(spec, settings, in_play, state.holds),
        # What is wrong with a registry that cannot be read is told; the default does not take its place.
        registry=registry_of(spec, settings) if not_to_ask is None else None,
        not_to_ask=not_to_ask,
    )


def gather(
    found: Read,
    *,
    settings: OperatorSettings,
    answers: Answers | None,
    refusal: str | None,
    sightings: Sightings,
    now: datetime,
    exams: Mapping[Revision, Exam] = MappingProxyType({}),
    adapters: Known = MappingProxyType({}),
) -> Gathered:
    """Make the planner's view of what was read, with what the registry last answered and what pods said of their exams.

    `refusal` says why the registry is not asked at all; `adapters` is what was read of LoRA adapters.
    """
    family, spec = found.family, found.spec
    positive = references.positives(spec, answers)
    problems = found.problems
    pinned: Pinned | None = None
    try:
        artifacts = positive.artifacts if positive else references.remembered(spec, found.status.resolved)
        if artifacts is not None:
            pinned = _pinned(found, artifacts, settings)
            if pinned.revision not in found.records:
                lora = loading(pinned.inputs, artifacts, adapters, positive)
                pinned = replace(pinned, lora=lora)
                problems = (*problems, lora.problem) if lora.problem is not None else problems
    except ValidationError as error:
        # The registry said something that no pod can be made of, such as a digest that is none.
        told = _told(explain(error, root="the registry's answer"))
        refusal = refusal or f"spec.modelRef: {told}"
    candidate = _candidate(pinned)
    asked_at = positive.asked_at if positive is not None else None
    revisions = _revisions(found, candidate, sightings, now, with_earlier(exams, found.status))
    observed = Observed(
        now=now,
        generation=int(family.owner["metadata"].get("generation") or 0),
        policy=policy(spec, settings),
        requests=_requests(family.owner),
        state=found.state,
        registry=_unless_unread(
            lookup.registry_view(
                spec, found.registry, answers, _refused(found, refusal, sightings, now), candidate, asked_at
            ),
            pinned,
        ),
        holds=lookup.hold_reads(found.question, answers, lookup.server_of(found.registry)),
        revisions=revisions,
        route=_route(found, sightings, now),
        service=_plain_service(family),
        problems=problems,
    )
    return Gathered(
        read=found,
        observed=observed,
        pinned=pinned,
        registry=_default_registry(found),
        resolved=_resolved(found, positive, pinned, now),
        pods=tuple(pods.status_of(family.pods, names.REVISION_LABEL)),
        url=_url(found) if observed.service is not None else None,
    )


def policy(spec: ModelDeploymentSpec, settings: OperatorSettings) -> Policy:
    """What of the spec the planner goes by; the administrator's least hold action counts where it is the stronger."""
    return Policy(
        replicas=spec.replicas,
        steps=tuple(map(_step, spec.steps)),
        progress_deadline=spec.rollout.progress_deadline,
        keep_previous_replicas=spec.rollout.keep_previous.replicas,
        keep_previous_for=spec.rollout.keep_previous.duration,
        hold_action=model.HoldAction(hold_rules(spec, settings).action.value),
        settle=spec.traffic.settle,
        shutdown_timeout=spec.serving.shutdown_timeout,
        gateway=spec.traffic.gateway is not None,
        suspend=spec.suspend,
        history_limit=spec.revision_history_limit,
        test_header=spec.traffic.test_header is not None,
        sessions=spec.traffic.session_affinity is not None,
    )


def holds_told(holds: Sequence[model.Hold]) -> str | None:
    """The holds in one line, for the annotation on the route; None when there is none."""
    told = sorted({f"{hold.mark.name} on {hold.mark.collection}:{hold.mark.version}" for hold in holds})
    return "; ".join(told) or None


def _step(step: spec_steps.Step) -> Step:
    if step.match is not None:
        values = ((each.header_name, each.header_value) for each in step.match)
        matches = (HeaderMatch(name, said.exact or said.regex or "", said.regex is not None) for name, said in values)
        return SetMatch(tuple(dict.fromkeys(matches)))
    if step.set_weight is not None:
        return SetWeight(step.set_weight)
    return Pause(step.pause.duration if step.pause is not None else None)


def _spec(owner: Object) -> tuple[ModelDeploymentSpec, list[FieldProblem]]:
    """Read the spec. Parts that cannot be read are left out and told, so that a hold still acts on what serves.

    The CRD refuses all that this refuses; only an object that is older than the CRD's rules comes here.
    """
    raw = dict(owner.get("spec") or {})
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


def status_of(family: Family) -> ModelDeploymentStatus:
    """Read the status; what of it cannot be read is left out: a status that stops the planner would stop a hold."""
    raw: dict[str, Any] = dict(family.owner.get("status") or {})
    while True:
        try:
            return ModelDeploymentStatus.model_validate(raw)
        except ValidationError as error:
            parts = {str(item["loc"][0]) for item in error.errors() if item["loc"]} & raw.keys()
            log.error("status.unreadable", parts=sorted(parts), problem=_one_line(error))
            raw = {name: value for name, value in raw.items() if name not in parts} if parts else {}


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


def _in_play(family: Family, state: State) -> set[Revision]:
    """Revisions that are exposed, warm, promoted or being moved to."""
    found = {*state.promoted}
    found |= {move.revision for move in (state.canary, state.target, state.previous) if move is not None}
    found |= {pod_revision for pod in family.pods if (pod_revision := labels_of(pod).get(names.REVISION_LABEL))}
    for name, deployment in family.deployments.items():
        revision = names.revision_of(family.key.name, name)
        if revision and (deployment.get("spec") or {}).get("replicas"):
            found.add(revision)
    if family.route is not None:
        for rule in (family.route.get("spec") or {}).get("rules") or ():
            for backend in rule.get("backendRefs") or ():
                if revision := names.revision_of(family.key.name, str(backend.get("name"))):
                    found.add(revision)
    if (service := _plain_service(family)) is not None:
        found.add(service)
    return found


def _refused(found: Read, refusal: str | None, sightings: Sightings, now: datetime) -> lookup.Refusal | None:
    uid, seen = found.family.uid, ("refused", lookup.server_of(found.registry))
    if refusal is None:
        sightings.ended(uid, seen)
        return None
    return lookup.Refusal(refusal, sightings.since(uid, seen, now))


def _pinned(found: Read, artifacts: Mapping[str, Artifact], settings: OperatorSettings) -> Pinned:
    others = {key: artifact for key, artifact in artifacts.items() if key != MODEL}
    records = found.records.values()
    inputs = inputs_of(found.owner.name, found.spec, artifacts[MODEL], settings, records, others=others)
    return Pinned(revision_name(inputs), inputs, artifacts)


def _unless_unread(view: RegistryView, pinned: Pinned | None) -> RegistryView:
    """As long as an adapter has not been read, the candidate cannot be begun: as if the registry had not answered."""
    if pinned is None or not pinned.lora.to_read or view.outcome is not RegistryOutcome.RESOLVED:
        return view
    if pinned.lora.failing is not None:
        return replace(view, outcome=RegistryOutcome.UNREACHABLE, message=pinned.lora.failing)
    return replace(view, outcome=RegistryOutcome.PENDING, message="the adapters' files are being read")


def _candidate(pinned: Pinned | None) -> Candidate | None:
    if pinned is None:
        return None
    digests = tuple(sorted(set(pinned.inputs.digests.values())))
    parts = references.parts(pinned.artifacts)
    return Candidate(pinned.revision, pinned.artifact.version, pinned.inputs.content, digests, parts)


def _default_registry(found: Read) -> RegistryStatus | None:
    """Nobody but the operator can read its settings, and who has to make the Secret needs to know its name."""
    if found.registry is None or found.spec.registry is not None:
        return None
    ref = found.registry.auth.secret_key_ref
    return RegistryStatus(base_url=found.registry.base_url, secret_name=ref.name, secret_key=ref.key)


def _resolved(found: Read, positives: Positives | None, pinned: Pinned | None, now: datetime) -> ResolvedStatus | None:
    """What the alias named when it was last answered. `firstSeen` goes on while it names the same version."""
    before = found.status.resolved
    if positives is None or pinned is None:
        # Today's spec may make another revision of what was remembered.
        if before is None or pinned is None:
            return before
        return before.model_copy(update={"revision": pinned.revision, "content": pinned.inputs.content})
    positive, parts = positives.model, references.parts_status(positives)
    same = (
        before is not None
        and before.alias == positive.alias
        and before.digest == positive.digest
        and before.version == positive.version
        and before.parts == parts
    )
    source = positive.artifact.source
    return ResolvedStatus(
        alias=positive.alias,
        collection=str(positive.collection_ref),
        version=positive.version,
        source_version=f"{source}:{positive.source_version}" if source and positive.source_version else None,
        artifact_id=positive.artifact_id,
        digest=positive.digest,
        size=positive.size,
        tags=sorted(positive.tags)[:64],
        first_seen=before.first_seen if before is not None and same else now,
        revision=pinned.revision,
        content=pinned.inputs.content,
        parts=parts,
    )


def _requests(owner: Object) -> Requests:
    said = annotations_of(owner)
    return Requests(
        promote=said.get(names.PROMOTE_ANNOTATION),
        promote_full=said.get(names.PROMOTE_FULL_ANNOTATION),
        abort=said.get(names.ABORT_ANNOTATION),
        retry=said.get(names.RETRY_ANNOTATION),
        requested_at=said.get(names.REQUESTED_AT_ANNOTATION),
    )


def _revisions(
    found: Read, candidate: Candidate | None, sightings: Sightings, now: datetime, exams: Mapping[Revision, Exam]
) -> Mapping[Revision, RevisionView]:
    family, name = found.family, found.owner.name
    by_revision: dict[Revision, list[Object]] = defaultdict(list)
    for pod in family.pods:
        by_revision[labels_of(pod).get(names.REVISION_LABEL, "")].append(pod)
    slices: dict[str, list[Object]] = defaultdict(list)
    for each in family.slices:
        slices[labels_of(each).get(SERVICE_NAME_LABEL, "")].append(each)
    present = {*found.records, *by_revision} | {
        revision for child in family.deployments if (revision := names.revision_of(name, child))
    }
    views = {}
    for revision in present - {"", names.BLOCKED}:
        record = found.records.get(revision)
        child = names.child(name, revision)
        deployment = family.deployments.get(child)
        view = pods.view(deployment, by_revision[revision], slices[child], now=now)
        ready_since, unready_since = _since(family.uid, revision, view, sightings, now)
        # Pods may be there before a record: those of an earlier ModelDeployment of the same name that still end.
        known = record or (candidate if candidate is not None and candidate.revision == revision else None)
        views[revision] = RevisionView(
            revision=revision,
            version=known.version if known else revision.partition("-")[0],
            content=known.content if known else "",
            digests=known.digests if known else (),
            parts=references.parts(record.parts) if record else candidate.parts if known and candidate else (),
            recorded=record is not None,
            deployed=deployment is not None and child in family.services,
            replicas=_replicas(deployment),
            ready=view.ready,
            pods=view.pods,
            cut=view.cut,
            ready_since=ready_since,
            unready_since=unready_since,
            lacking_since=_lacking_since(found, revision, _replicas(deployment) - view.ready, sightings, now),
            progress_at=view.progress_at,
            pulling=view.pulling,
            trouble=view.trouble,
            verified=view.verified,
            exam=exams.get(revision),
            recorded_at=record.created if record else None,
        )
    return views


def _since(
    uid: str, revision: Revision, view: pods.PodsView, sightings: Sightings, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """Since when there has been a ready endpoint, or none. Pods that are gone tell no time: then ours counts."""
    ready, unready = ("ready", revision), ("unready", revision)
    if view.ready:
        sightings.ended(uid, unready)
        seen = sightings.since(uid, ready, now)
        return min(view.ready_since or seen, seen), None
    sightings.ended(uid, ready)
    seen = sightings.since(uid, unready, now)
    return None, min(view.unready_since or seen, seen)


def _lacking_since(
    found: Read, revision: Revision, lacking: int, sightings: Sightings, now: datetime
) -> datetime | None:
    """Since when pods that are asked for have not been ready. Only this process can tell of a pod that is gone: another
    operator begins to count anew. The time of a suspension does not count."""
    uid, seen = found.family.uid, ("lacking", revision)
    if lacking > 0 and not found.spec.suspend:
        return sightings.since(uid, seen, now)
    sightings.ended(uid, seen)
    return None


def _route(found: Read, sightings: Sightings, now: datetime) -> RouteView | None:
    route, uid = found.family.route, found.family.uid
    if route is None:
        return None
    live = read_route(route, found.owner, found.spec.traffic)
    if found.spec.traffic.gateway is None:
        # Nobody asks for it any more, and the planner has it removed; until then it carries traffic.
        return RouteView(weights=live.routing.weights, accepted=None, drifted=True, rules=live.routing.rules)
    accepted_since = None
    seen = ("accepted", uid_of(route), str(route["metadata"].get("generation")))
    # A route that was accepted before we came has settled since then, and not since we came.
    before = None if sightings.has(uid, ("route", uid_of(route))) else _accepted_before(route)
    sightings.since(uid, ("route", uid_of(route)), now)
    if live.accepted:
        accepted_since = sightings.since(uid, seen, min(before or now, now))
    else:
        sightings.ended(uid, seen)
    refused_since = None
    if live.accepted is False:
        refused_since = sightings.since(uid, ("refused", uid_of(route)), now)
    else:
        sightings.ended(uid, ("refused", uid_of(route)))
    hold = annotations_of(route).get(names.HOLD_ANNOTATION)
    return RouteView(
        weights=live.routing.weights,
        rules=live.routing.rules,
        accepted=live.accepted,
        accepted_since=accepted_since,
        refused_since=refused_since,
        message=live.message,
        drifted=live.drifted or hold != holds_told(found.state.holds),
    )


def _accepted_before(route: Object) -> datetime | None:
    """When the gateway last wrote the status, by the API server's clock in whole seconds, rounded up."""
    written = [
        at
        for entry in route["metadata"].get("managedFields") or ()
        if entry.get("subresource") == "status" and (at := pods.parse_time(entry.get("time"))) is not None
    ]
    return max(written) + timedelta(seconds=1) if written else None


def _plain_service(family: Family) -> Revision | None:
    service = family.services.get(family.key.name)
    return selected_revision(service) if service is not None else None


def _url(found: Read) -> str | None:
    if found.spec.traffic.gateway is not None:
        return None
    return f"http://{found.owner.name}.{found.owner.namespace}.svc:{names.PORT}/v1"


def _replicas(deployment: Object | None) -> int:
    replicas = ((deployment or {}).get("spec") or {}).get("replicas")
    return replicas if isinstance(replicas, int) else 0


def _told(problems: Sequence[FieldProblem]) -> str:
    told = "; ".join(str(problem) for problem in problems[:MAX_PROBLEMS_TOLD])
    more = len(problems) - MAX_PROBLEMS_TOLD
    return f"{told}; and {more} more" if more > 0 else told


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
