"""What to ask the registry for a ModelDeployment, and its answer in the planner's words. No I/O.

Only a positive answer says anything about a version or a hold; everything else says why there is none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from modelsync.api.effective import hold_rules, registry_of
from modelsync.api.reference import CollectionRef
from modelsync.api.references import MODEL, field_of
from modelsync.api.registry import Registry
from modelsync.api.settings import OperatorSettings, same_server
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.cluster import references
from modelsync.registry import holds
from modelsync.registry.model import Answers, HoldMark, HoldNames, Question, ServedVersion, Throttled, Via
from modelsync.resources.record import Record
from modelsync.resources.revision import Artifact
from modelsync.rollout import model
from modelsync.rollout.model import Candidate, HoldRead, RegistryOutcome, RegistryView


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the registry is not asked at all: server not allowed, Secret missing or not labelled, bad CA bundle."""

    message: str
    since: datetime


def question(
    spec: ModelDeploymentSpec, settings: OperatorSettings, in_play: Iterable[Record], latched: Iterable[model.Hold]
) -> Question:
    """The alias, each version that is exposed, warm or promoted, and every mark that was seen before on this server."""
    rules, server = hold_rules(spec, settings), server_of(registry_of(spec, settings))
    return Question(
        refs=frozenset(references.refs(spec).values()),
        served=frozenset(served(artifact) for record in in_play for artifact in record.parts.values()),
        hold=HoldNames(tags=frozenset(rules.tags), aliases=frozenset(rules.aliases)),
        latched=frozenset(
            _latched(hold.mark) for hold in latched if not hold.server or same_server(hold.server, server)
        ),
    )


def server_of(registry: Registry | None) -> str:
    """Base URL of who is asked; empty when nobody is."""
    return registry.base_url.rstrip("/") if registry is not None else ""


def served(artifact: Artifact) -> ServedVersion:
    """The version that a record pins, as one to watch wherever its alias goes."""
    home = CollectionRef(artifact.entity, artifact.project, artifact.collection)
    return ServedVersion(home, artifact.version, artifact.artifact_id, artifact.digest)


def registry_view(
    spec: ModelDeploymentSpec,
    registry: Registry | None,
    answers: Answers | None,
    refusal: Refusal | None,
    candidate: Candidate | None,
    asked_at: datetime | None,
) -> RegistryView:
    """How the last look at `registry` ended. `candidate` and `asked_at` are those of the last positive answers."""
    server = server_of(registry)
    if refusal is not None:
        message = refusal.message
        if registry is not None and spec.registry is None:
            message = f"{message} (spec.registry is left out: the administrator's default {registry.base_url} counts)"
        return RegistryView(RegistryOutcome.REFUSED, candidate, asked_at, message, refusal.since, server=server)
    key, kept = references.worst(spec, answers)
    if kept is None:
        return RegistryView(RegistryOutcome.PENDING, candidate, asked_at, server=server)
    latest = kept.latest
    outcome, message = references.outcome(latest)
    if message and key != MODEL:
        message = f"{field_of(key)}: {message}"
    if outcome is RegistryOutcome.DENIED and registry is not None:
        ref = registry.auth.secret_key_ref
        whose = "the administrator's default registry" if spec.registry is None else "spec.registry.auth"
        message = f"{message} ({whose}: Secret {ref.name}, key {ref.key})"
    return RegistryView(
        outcome=outcome,
        candidate=candidate,
        asked_at=asked_at,
        message=message,
        since=kept.since,
        retry_at=latest.until if isinstance(latest, Throttled) else None,
        server=server,
    )


def hold_reads(asked: Question, answers: Answers | None, server: str) -> Mapping[str, HoldRead]:
    """Positive reads of hold marks on `server`, by digest; what is missing is unknown."""
    if answers is None:
        return {}
    return {
        digest: HoldRead(
            digest=digest,
            marks=tuple(sorted(map(_mark, read.marks), key=_order)),
            alias_mark_elsewhere=read.alias_mark_elsewhere,
            asked_at=read.asked_at,
            server=server,
        )
        for digest, read in holds.hold_reads(answers, asked).items()
    }


def _mark(mark: HoldMark) -> model.HoldMark:
    return model.HoldMark(mark.digest, mark.collection, mark.version, mark.via.value, mark.name)


def _latched(mark: model.HoldMark) -> HoldMark:
    return HoldMark(mark.digest, mark.collection, mark.version, Via(mark.via), mark.name)


def _order(mark: model.HoldMark) -> tuple[str, ...]:
    return mark.digest, mark.collection, mark.version, mark.via, mark.name
