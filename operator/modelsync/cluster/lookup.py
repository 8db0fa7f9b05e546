"""What to ask the registry for a ModelDeployment, and its answer in the planner's words. No I/O.

Only a positive answer says anything about a version or a hold; everything else says why there is none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from modelsync.api.reference import CollectionRef, InvalidReferenceError, ModelRef
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.api.status import ResolvedStatus
from modelsync.api.validation import hold_rules
from modelsync.registry import holds
from modelsync.registry.model import (
    Answers,
    Denied,
    Failure,
    HoldMark,
    HoldNames,
    Kept,
    Missing,
    Question,
    Resolved,
    ServedVersion,
    Throttled,
    Via,
)
from modelsync.resources.record import Record
from modelsync.resources.revision import Artifact
from modelsync.rollout import model
from modelsync.rollout.model import Candidate, HoldRead, RegistryOutcome, RegistryView

DELETED = "DELETED"
COMMITTED = "COMMITTED"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the registry is not asked at all: server not allowed, Secret missing or not labelled, bad CA bundle."""

    message: str
    since: datetime


def question(
    spec: ModelDeploymentSpec, settings: OperatorSettings, in_play: Iterable[Record], latched: Iterable[model.Hold]
) -> Question:
    """The alias, each version that is exposed, warm or promoted, and every mark that was seen before."""
    rules = hold_rules(spec, settings)
    return Question(
        refs=frozenset(filter(None, [_ref(spec)])),
        served=frozenset(served(record.artifact) for record in in_play),
        hold=HoldNames(tags=frozenset(rules.tags), aliases=frozenset(rules.aliases)),
        latched=frozenset(_latched(hold.mark) for hold in latched),
    )


def served(artifact: Artifact) -> ServedVersion:
    """The version that a record pins, as one to watch wherever its alias goes."""
    home = CollectionRef(artifact.entity, artifact.project, artifact.collection)
    return ServedVersion(home, artifact.version, artifact.artifact_id, artifact.digest)


def artifact_of(resolved: Resolved) -> Artifact:
    """What a revision pins of an answer. Raises ValidationError when it cannot be pinned."""
    return Artifact(
        entity=resolved.entity,
        project=resolved.project,
        collection=resolved.collection,
        version=resolved.version,
        artifact_id=resolved.artifact_id,
        digest=resolved.digest,
        size=resolved.size,
    )


def remembered_artifact(spec: ModelDeploymentSpec, status: ResolvedStatus | None) -> Artifact | None:
    """What the alias named when it was last asked, from the status, if the spec still names the same alias."""
    if status is None:
        return None
    ref = _ref(spec)
    try:
        home = CollectionRef.parse(status.collection)
        if ref is None or ref.alias != status.alias or ref.collection != home.collection:
            return None
        return Artifact(
            entity=home.entity,
            project=home.project,
            collection=home.collection,
            version=status.version,
            artifact_id=status.artifact_id,
            digest=status.digest,
            size=status.size or 0,
        )
    except (InvalidReferenceError, ValidationError):
        return None


def positive(spec: ModelDeploymentSpec, answers: Answers | None) -> Resolved | None:
    """The newest positive answer about the alias."""
    kept = _kept(spec, answers)
    return kept.positive if kept is not None else None


def registry_view(
    spec: ModelDeploymentSpec,
    answers: Answers | None,
    refusal: Refusal | None,
    candidate: Candidate | None,
    asked_at: datetime | None,
) -> RegistryView:
    """How the last look ended. `candidate` and `asked_at` are those of the last positive answer."""
    if refusal is not None:
        return RegistryView(RegistryOutcome.REFUSED, candidate, asked_at, refusal.message, refusal.since)
    kept = _kept(spec, answers)
    if kept is None:
        return RegistryView(RegistryOutcome.PENDING, candidate, asked_at)
    latest = kept.latest
    outcome, message = _outcome(latest)
    if outcome is RegistryOutcome.DENIED:
        ref = spec.registry.auth.secret_key_ref
        message = f"{message} (spec.registry.auth: Secret {ref.name}, key {ref.key})"
    return RegistryView(
        outcome=outcome,
        candidate=candidate,
        asked_at=asked_at,
        message=message,
        since=kept.since,
        retry_at=latest.until if isinstance(latest, Throttled) else None,
    )


def hold_reads(asked: Question, answers: Answers | None) -> Mapping[str, HoldRead]:
    """Positive reads of hold marks, by digest; what is missing is unknown."""
    if answers is None:
        return {}
    return {
        digest: HoldRead(
            digest=digest,
            marks=tuple(sorted(map(_mark, read.marks), key=_order)),
            alias_mark_elsewhere=read.alias_mark_elsewhere,
            asked_at=read.asked_at,
        )
        for digest, read in holds.hold_reads(answers, asked).items()
    }


def _ref(spec: ModelDeploymentSpec) -> ModelRef | None:
    """The alias; None when it is no reference, which `validation` tells the user."""
    try:
        return ModelRef.parse(spec.model_ref)
    except InvalidReferenceError:
        return None


def _kept(spec: ModelDeploymentSpec, answers: Answers | None) -> Kept[Resolved] | None:
    ref = _ref(spec)
    return answers.refs.get(ref) if answers is not None and ref is not None else None


def _outcome(latest: Resolved | Failure) -> tuple[RegistryOutcome, str]:
    if isinstance(latest, Resolved):
        if latest.state == DELETED:
            return RegistryOutcome.WITHDRAWN, f"{latest.ref} names {latest.version}, which has been deleted"
        if latest.state != COMMITTED:
            return RegistryOutcome.MISSING, f"{latest.ref} names {latest.version}, which is still being logged"
        return RegistryOutcome.RESOLVED, ""
    if isinstance(latest, Missing):
        return RegistryOutcome.MISSING, latest.message
    if isinstance(latest, Denied):
        return RegistryOutcome.DENIED, latest.message
    if isinstance(latest, Throttled):
        return RegistryOutcome.THROTTLED, latest.message
    return RegistryOutcome.UNREACHABLE, latest.message


def _mark(mark: HoldMark) -> model.HoldMark:
    return model.HoldMark(mark.digest, mark.collection, mark.version, mark.via.value, mark.name)


def _latched(mark: model.HoldMark) -> HoldMark:
    return HoldMark(mark.digest, mark.collection, mark.version, Via(mark.via), mark.name)


def _order(mark: model.HoldMark) -> tuple[str, ...]:
    return mark.digest, mark.collection, mark.version, mark.via, mark.name
