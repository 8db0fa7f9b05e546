"""The registry's answers about a ModelDeployment: what each reference names, what is held, and why there is no answer.

A revision needs all of them: until every reference is resolved, no new revision can be started. No I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from modelsync.api.model_ref import CollectionRef, InvalidReferenceError, ModelRef
from modelsync.api.parts import MODEL, field_of
from modelsync.api.registry import Registry
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.api.status import PartStatus, ResolvedStatus
from modelsync.observe.question import refs, server_of
from modelsync.registry import holds
from modelsync.registry.model import Answers, Denied, Failure, Kept, Missing, Question, Resolved, Throttled
from modelsync.resources.revision import Artifact
from modelsync.rollout.model import Candidate, HoldRead, Part, RegistryOutcome, RegistryView

OWN_CREDENTIAL_REFUSED = (
    "the operator's own credential for this server cannot be used, or may not read this reference; ask the "
    "administrator (settings.registries; the operator's log says why)"
)
"""Without the server's answer, which may name what only the administrator may know."""

DELETED = "DELETED"
COMMITTED = "COMMITTED"


@dataclass(frozen=True, slots=True)
class Positives:
    """The latest positive answer for each reference, by the key of the part (`api.parts`)."""

    answers: Mapping[str, Resolved]

    @property
    def model(self) -> Resolved:
        """The answer for `spec.modelRef`."""
        return self.answers[MODEL]

    @property
    def asked_at(self) -> datetime:
        """When the oldest of the requests was sent."""
        return min(self.answers.values(), key=lambda each: each.asked).asked_at

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """The artifacts that a revision pins. Raises ValidationError if an answer is not valid for that."""
        return {key: _artifact(each) for key, each in self.answers.items()}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the registry is not queried: server not allowed, Secret missing or not labelled, invalid CA bundle."""

    message: str
    since: datetime


def positives(spec: ModelDeploymentSpec, answers: Answers | None) -> Positives | None:
    """What the references name; None until each of them has been answered once."""
    found = {}
    for key, kept in _kept(spec, answers).items():
        if kept is None or kept.positive is None:
            return None
        found[key] = kept.positive
    return Positives(found) if MODEL in found else None


def worst(spec: ModelDeploymentSpec, answers: Answers | None) -> tuple[str, Kept[Resolved] | None]:
    """The reference to report, with its answers: one that is not resolved, else one without an answer, else the
    model. Of several, the first; the model comes first."""
    kept = _kept(spec, answers)
    for key, one in kept.items():
        if one is not None and outcome(one.latest)[0] is not RegistryOutcome.RESOLVED:
            return key, one
    return next(((key, one) for key, one in kept.items() if one is None), (MODEL, kept[MODEL]))


def outcome(latest: Resolved | Failure) -> tuple[RegistryOutcome, str]:
    """The outcome of the last query for one reference, with a message if it is not resolved."""
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


def remembered(spec: ModelDeploymentSpec, status: ResolvedStatus | None) -> dict[str, Artifact] | None:
    """What all references named according to the status; None unless the status has the spec's current alias for every
    reference."""
    if status is None:
        return None
    known: dict[str, PartStatus | ResolvedStatus] = {MODEL: status, **{part.part: part for part in status.parts}}
    found = {}
    for key, ref in refs(spec).items():
        artifact = _remembered(ref, known[key]) if key in known else None
        if artifact is None:
            return None
        found[key] = artifact
    return found if found.keys() == spec.references.keys() else None


def parts_status(positive: Positives) -> tuple[PartStatus, ...]:
    """The status of all parts except the model."""
    return tuple(
        PartStatus(
            part=key,
            alias=each.alias,
            collection=str(each.collection_ref),
            version=each.version,
            artifact_id=each.artifact_id,
            digest=each.digest,
            size=each.size,
        )
        for key, each in sorted(positive.answers.items())
        if key != MODEL
    )


def parts(artifacts: Mapping[str, Artifact]) -> tuple[Part, ...]:
    """The parts of a revision as the planner's type, the model first."""
    return tuple(Part(key, artifact.version, artifact.digest) for key, artifact in artifacts.items())


def registry_view(
    spec: ModelDeploymentSpec,
    registry: Registry | None,
    answers: Answers | None,
    refusal: Refusal | None,
    candidate: Candidate | None,
    asked_at: datetime | None,
    *,
    own: bool = False,
) -> RegistryView:
    """The outcome of the last query of `registry`; with `own`, by the operator's own credential.

    `candidate` and `asked_at` are from the last positive answers.
    """
    server = server_of(registry)
    if refusal is not None:
        message = refusal.message
        if registry is not None and spec.registry is None:
            message = f"{message} (spec.registry is not set: the administrator's default {registry.base_url} applies)"
        return RegistryView(RegistryOutcome.REFUSED, candidate, asked_at, message, refusal.since, server=server)
    key, kept = worst(spec, answers)
    if kept is None:
        return RegistryView(RegistryOutcome.PENDING, candidate, asked_at, server=server)
    latest = kept.latest
    result, message = outcome(latest)
    if message and key != MODEL:
        message = f"{field_of(key)}: {message}"
    if result is RegistryOutcome.DENIED and own:
        message = OWN_CREDENTIAL_REFUSED
    elif result is RegistryOutcome.DENIED and registry is not None:
        ref = registry.auth.secret_key_ref
        whose = "the administrator's default registry" if spec.registry is None else "spec.registry.auth"
        message = f"{message} ({whose}: Secret {ref.name}, key {ref.key})"
    return RegistryView(
        outcome=result,
        candidate=candidate,
        asked_at=asked_at,
        message=message,
        since=kept.since,
        retry_at=latest.until if isinstance(latest, Throttled) else None,
        server=server,
    )


def hold_reads(asked: Question, answers: Answers | None, server: str) -> Mapping[str, HoldRead]:
    """Positive reads of hold marks on `server`, by digest. A digest that is missing is unknown."""
    if answers is None:
        return {}
    return {
        digest: HoldRead(
            digest=digest,
            marks=tuple(sorted(read.marks)),
            alias_mark_elsewhere=read.alias_mark_elsewhere,
            asked_at=read.asked_at,
            asked=read.asked,
            server=server,
        )
        for digest, read in holds.hold_reads(answers, asked).items()
    }


def _kept(spec: ModelDeploymentSpec, answers: Answers | None) -> dict[str, Kept[Resolved] | None]:
    """The answers for each reference, the model's first; None for a reference that is not valid."""
    asked = refs(spec)
    known = answers.refs if answers is not None else {}
    return {key: known.get(asked[key]) if key in asked else None for key in spec.references}


def _artifact(resolved: Resolved) -> Artifact:
    return Artifact(
        entity=resolved.entity,
        project=resolved.project,
        collection=resolved.collection,
        version=resolved.version,
        artifact_id=resolved.artifact_id,
        digest=resolved.digest,
        size=resolved.size,
    )


def _remembered(ref: ModelRef, status: PartStatus | ResolvedStatus) -> Artifact | None:
    try:
        home = CollectionRef.parse(status.collection)
        if ref.alias != status.alias or ref.collection != home.collection:
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
