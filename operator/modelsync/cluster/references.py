"""Everything that a spec refers to in the registry, answered: what each reference names, and which has no answer.

A revision is made of all of them or of none: as long as one is not resolved, nothing new can be begun. No I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from modelsync.api.reference import CollectionRef, InvalidReferenceError, ModelRef
from modelsync.api.references import MODEL
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.api.status import PartStatus, ResolvedStatus
from modelsync.registry.model import Answers, Denied, Failure, Kept, Missing, Resolved, Throttled
from modelsync.resources.revision import Artifact
from modelsync.rollout.model import Part, RegistryOutcome

DELETED = "DELETED"
COMMITTED = "COMMITTED"


@dataclass(frozen=True, slots=True)
class Positives:
    """The newest positive answer about each reference, by the key of the part (`api.references`)."""

    answers: Mapping[str, Resolved]

    @property
    def model(self) -> Resolved:
        """Of `spec.modelRef`."""
        return self.answers[MODEL]

    @property
    def asked_at(self) -> datetime:
        """When the oldest of the questions was sent."""
        return min(each.asked_at for each in self.answers.values())

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """What a revision pins of them. Raises ValidationError when one cannot be pinned."""
        return {key: _artifact(each) for key, each in self.answers.items()}


def refs(spec: ModelDeploymentSpec) -> dict[str, ModelRef]:
    """The references by key; without those that are none, which `validation` tells the user."""
    found = {}
    for key, text in spec.references.items():
        try:
            found[key] = ModelRef.parse(text)
        except InvalidReferenceError:
            continue
    return found


def positives(spec: ModelDeploymentSpec, answers: Answers | None) -> Positives | None:
    """What the references name; None as long as one of them has never been answered."""
    found = {}
    for key, kept in _kept(spec, answers).items():
        if kept is None or kept.positive is None:
            return None
        found[key] = kept.positive
    return Positives(found) if MODEL in found else None


def worst(spec: ModelDeploymentSpec, answers: Answers | None) -> tuple[str, Kept[Resolved] | None]:
    """The reference that most needs to be told of, and what is known of it: one that is not resolved before one that
    is, one without an answer last of these. The model before the others."""
    kept = _kept(spec, answers)
    for key, one in kept.items():
        if one is not None and outcome(one.latest)[0] is not RegistryOutcome.RESOLVED:
            return key, one
    return next(((key, one) for key, one in kept.items() if one is None), (MODEL, kept[MODEL]))


def outcome(latest: Resolved | Failure) -> tuple[RegistryOutcome, str]:
    """How the last question about one reference ended, and in words if it did not end well."""
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
    """What all references named when they were last asked, from the status, as far as the spec still names the same
    aliases; None when one is not remembered."""
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
    """What is remembered of all but the model."""
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
    """The parts of a revision in the planner's words, the model first."""
    return tuple(Part(key, artifact.version, artifact.digest) for key, artifact in artifacts.items())


def _kept(spec: ModelDeploymentSpec, answers: Answers | None) -> dict[str, Kept[Resolved] | None]:
    """What is known of each reference, the model's first; a reference that is none has no answer."""
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
