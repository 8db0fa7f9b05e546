"""Converts what was read from the cluster and the registry to the planner's `Observed`. Pure except for `Sightings`.

Only this module builds `Observed`: `spec_status` reads what needs no registry answer, `revisions` and `route` read the
revisions and the route.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from pydantic import ValidationError

from modelsync.api import names
from modelsync.api import rollout as spec_steps
from modelsync.api.kinds import annotations_of
from modelsync.api.parts import MODEL
from modelsync.api.problems import explain
from modelsync.api.requests import Requests
from modelsync.api.routing import HeaderMatch
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.api.status import PodStatus, RegistryStatus, ResolvedStatus
from modelsync.observe import pods
from modelsync.observe.adapters import Known, Loading, loading
from modelsync.observe.answers import (
    Positives,
    Refusal,
    hold_reads,
    parts,
    parts_status,
    positives,
    registry_view,
    remembered,
)
from modelsync.observe.exams import with_earlier
from modelsync.observe.hold_watch import NO_MARKS, Marks, Watch, merge_reads, on_clock
from modelsync.observe.question import server_of
from modelsync.observe.revisions import revision_views
from modelsync.observe.route import route_view
from modelsync.observe.sightings import Sightings
from modelsync.observe.spec_status import Read, plain_service, summarize_problems
from modelsync.policy.effective import hold_rules
from modelsync.registry.model import Answers
from modelsync.resources.revision import Artifact, RevisionInputs, inputs_of, revision_name
from modelsync.rollout.model import (
    Candidate,
    Exam,
    Observed,
    Pause,
    Policy,
    RegistryOutcome,
    RegistryView,
    Revision,
    SetMatch,
    SetWeight,
    Step,
)


@dataclass(frozen=True, slots=True)
class Pinned:
    """The revision for the resolved aliases and the current spec: everything needed to write its record."""

    revision: Revision
    inputs: RevisionInputs
    artifacts: Mapping[str, Artifact]
    """The artifact of each part, by key (`api.parts`)."""
    lora: Loading = field(default_factory=Loading)
    """Result of checking its adapters; empty for a revision that has a record."""

    @property
    def artifact(self) -> Artifact:
        """The model."""
        return self.artifacts[MODEL]

    @property
    def others(self) -> Mapping[str, Artifact]:
        """All artifacts except the model."""
        return {key: artifact for key, artifact in self.artifacts.items() if key != MODEL}


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the planner may use, and what `apply` and `report` need to carry out its decision."""

    read: Read
    observed: Observed
    pinned: Pinned | None
    registry: RegistryStatus | None
    resolved: ResolvedStatus | None
    pods: tuple[PodStatus, ...]
    url: str | None
    """URL of the plain Service. None with a gateway, since only its listeners know whether it is http or https."""


def gather(
    found: Read,
    *,
    settings: OperatorSettings,
    answers: Answers | None,
    watched: Mapping[Watch, Answers | None] = MappingProxyType({}),
    marks: Marks = NO_MARKS,
    refusal: str | None,
    sightings: Sightings,
    now: datetime,
    instant: float | None = None,
    exams: Mapping[Revision, Exam] = MappingProxyType({}),
    adapters: Known = MappingProxyType({}),
) -> Gathered:
    """Combine what was read with the registry's last answers and the exams of the pods.

    `marks` are those that any credential sees; `refusal` is the reason why the registry is not queried; `adapters` has
    the results of reading LoRA adapters; `instant` is `now` in seconds of the clock that orders answers.
    """
    family, spec = found.family, found.spec
    positive = positives(spec, answers)
    problems = found.problems
    pinned: Pinned | None = None
    try:
        artifacts = positive.artifacts if positive else remembered(spec, found.status.resolved)
        if artifacts is not None:
            pinned = _pinned(found, artifacts, settings)
            if pinned.revision not in found.records:
                lora = loading(pinned.inputs, artifacts, adapters, positive)
                pinned = replace(pinned, lora=lora)
                problems = (*problems, lora.problem) if lora.problem is not None else problems
    except ValidationError as error:
        # The registry's answer cannot be used, for example because the digest is not valid.
        summary = summarize_problems(explain(error, root="the registry's answer"))
        refusal = refusal or f"spec.modelRef: {summary}"
    candidate = _candidate(pinned)
    asked_at = positive.asked_at if positive is not None else None
    holds = merge_reads(
        hold_reads(found.question, answers, server_of(found.registry)),
        (hold_reads(each.question, known, server_of(each.registry)) for each, known in watched.items()),
        found.state.holds,
    )
    holds = on_clock(holds, now, instant)
    revisions = revision_views(found, candidate, holds, sightings, now, with_earlier(exams, found.status))
    observed = Observed(
        now=now,
        generation=family.owner["metadata"].get("generation") or 0,
        policy=policy(spec, settings),
        requests=Requests.of(annotations_of(family.owner)),
        state=found.state,
        registry=replace(
            _unless_unread(
                registry_view(
                    spec,
                    found.registry,
                    answers,
                    _refused(found, refusal, sightings, now),
                    candidate,
                    asked_at,
                    own=found.own is not None,
                ),
                pinned,
            ),
            watched=tuple(sorted({server_of(each.registry) for each in watched})),
        ),
        holds=holds,
        revisions=revisions,
        route=route_view(found, sightings, now),
        service=plain_service(family),
        problems=problems,
        shown=marks.shown,
        gone=marks.gone,
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
    """The settings of the spec that the planner uses. Of spec and administrator the stricter rules of holds apply."""
    rules = hold_rules(spec, settings)
    return Policy(
        replicas=spec.replicas,
        steps=tuple(map(_step, spec.steps)),
        progress_deadline=spec.rollout.progress_deadline,
        keep_previous_replicas=spec.rollout.keep_previous.replicas,
        keep_previous_for=spec.rollout.keep_previous.duration,
        hold_action=rules.action,
        settle=spec.traffic.settle,
        shutdown_timeout=spec.serving.shutdown_timeout,
        gateway=spec.traffic.gateway is not None,
        suspend=spec.suspend,
        history_limit=spec.revision_history_limit,
        test_header=spec.traffic.test_header is not None,
        sessions=spec.traffic.session_affinity is not None,
        max_staleness=rules.max_staleness,
        on_stale=rules.on_stale,
    )


def _step(step: spec_steps.Step) -> Step:
    if step.match is not None:
        values = ((match.header_name, match.header_value) for match in step.match)
        matches = (HeaderMatch(name, each.exact or each.regex or "", each.regex is not None) for name, each in values)
        return SetMatch(tuple(dict.fromkeys(matches)))
    if step.set_weight is not None:
        return SetWeight(step.set_weight)
    return Pause(step.pause.duration if step.pause is not None else None)


def _refused(found: Read, refusal: str | None, sightings: Sightings, now: datetime) -> Refusal | None:
    uid, seen = found.family.uid, ("refused", server_of(found.registry))
    if refusal is None:
        sightings.ended(uid, seen)
        return None
    return Refusal(refusal, sightings.since(uid, seen, now))


def _pinned(found: Read, artifacts: Mapping[str, Artifact], settings: OperatorSettings) -> Pinned:
    others = {key: artifact for key, artifact in artifacts.items() if key != MODEL}
    records = found.records.values()
    inputs = inputs_of(found.owner.name, found.spec, artifacts[MODEL], settings, records, others=others)
    return Pinned(revision_name(inputs), inputs, artifacts)


def _unless_unread(view: RegistryView, pinned: Pinned | None) -> RegistryView:
    """Until all adapters have been read, the candidate cannot be started, as if the registry had not answered."""
    if pinned is None or not pinned.lora.to_read or view.outcome is not RegistryOutcome.RESOLVED:
        return view
    if pinned.lora.failing is not None:
        return replace(view, outcome=RegistryOutcome.UNREACHABLE, message=pinned.lora.failing)
    return replace(view, outcome=RegistryOutcome.PENDING, message="the adapters' files are being read")


def _candidate(pinned: Pinned | None) -> Candidate | None:
    if pinned is None:
        return None
    digests = tuple(sorted(set(pinned.inputs.digests.values())))
    return Candidate(pinned.revision, pinned.artifact.version, pinned.inputs.content, digests, parts(pinned.artifacts))


def _default_registry(found: Read) -> RegistryStatus | None:
    """Shown in the status because users cannot read the operator's settings but must create the Secret."""
    if found.registry is None or found.spec.registry is not None:
        return None
    ref = found.registry.auth.secret_key_ref
    return RegistryStatus(base_url=found.registry.base_url, secret_name=ref.name, secret_key=ref.key)


def _resolved(found: Read, answered: Positives | None, pinned: Pinned | None, now: datetime) -> ResolvedStatus | None:
    """What the alias named in the last answer. `firstSeen` stays the same while it names the same version."""
    before = found.status.resolved
    if answered is None or pinned is None:
        # The current spec may make a different revision from the remembered artifacts.
        if before is None or pinned is None:
            return before
        return before.model_copy(update={"revision": pinned.revision, "content": pinned.inputs.content})
    positive, others = answered.model, parts_status(answered)
    same = (
        before is not None
        and before.alias == positive.alias
        and before.digest == positive.digest
        and before.version == positive.version
        and before.parts == others
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
        parts=others,
    )


def _url(found: Read) -> str | None:
    if found.spec.traffic.gateway is not None:
        return None
    return f"http://{found.owner.name}.{found.owner.namespace}.svc:{names.PORT}/v1"
