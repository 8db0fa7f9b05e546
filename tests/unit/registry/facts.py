"""Builders for a server's answers."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from modelsync.api.model_ref import CollectionRef, ModelRef
from modelsync.registry.model import (
    AliasedVersion,
    Answers,
    Artifact,
    ArtifactRead,
    CollectionRead,
    Failure,
    Link,
    Missing,
    Resolved,
    Unreachable,
)
from modelsync.registry.store import keep

CHAT = CollectionRef("acme", "wandb-registry-model", "chat llm")
SOURCE = CollectionRef("acme", "llms", "chat")
T0 = datetime(2026, 11, 21, 8, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def link(collection: CollectionRef, version: str, aliases: Iterable[str] = (), tags: Iterable[str] = ()) -> Link:
    return Link(collection, version, frozenset(aliases), frozenset(tags))


def artifact(
    number: int, *, digest: str = "", tags: Iterable[str] = (), links: Iterable[Link] = (), state: str = "COMMITTED"
) -> Artifact:
    """Version `number` of SOURCE; its digest is `d<number>` if not given."""
    return Artifact(
        artifact_id=f"artifact-{number}",
        digest=digest or f"d{number}",
        digest_algorithm="MANIFEST_MD5",
        state=state,
        size=1,
        file_count=1,
        type="model",
        tags=frozenset(tags),
        metadata="{}",
        created_at="2026-11-01T00:00:00Z",
        updated_at="2026-11-01T00:00:00Z",
        source=SOURCE,
        source_version=f"v{number}",
        links=tuple(links),
    )


def resolved(
    ref: ModelRef,
    number: int,
    *,
    aliases: Iterable[str] = (),
    collection_tags: Iterable[str] = (),
    asked: float = 0,
    content: Artifact | None = None,
) -> Resolved:
    return Resolved(
        ref=ref,
        collection_ref=ref.in_collection,
        version_index=number,
        aliases=frozenset(aliases),
        collection_tags=frozenset(collection_tags),
        artifact=content or artifact(number),
        asked_at=at(asked),
        answered_at=at(asked + 0.1),
        asked=asked,
    )


def collection(
    home: CollectionRef = CHAT,
    *,
    tags: Iterable[str] = (),
    aliases: Iterable[str] = (),
    carriers: Iterable[AliasedVersion] = (),
    asked: float = 0,
) -> CollectionRead:
    return CollectionRead(
        collection=home,
        tags=frozenset(tags),
        aliases=frozenset(aliases),
        hold_aliases=frozenset(carriers),
        asked_at=at(asked),
        answered_at=at(asked + 0.1),
        asked=asked,
    )


def by_id(content: Artifact, *, asked: float = 0) -> ArtifactRead:
    return ArtifactRead(artifact=content, asked_at=at(asked), answered_at=at(asked + 0.1), asked=asked)


def missing(subject: ModelRef | CollectionRef | str, *, asked: float = 0) -> Missing:
    return Missing(
        subject=subject,
        what="version",
        message="it is gone",
        asked_at=at(asked),
        answered_at=at(asked + 0.1),
        asked=asked,
    )


def unreachable(subject: ModelRef | CollectionRef | str, *, asked: float = 0) -> Unreachable:
    return Unreachable(
        subject=subject, message="no answer", asked_at=at(asked), answered_at=at(asked + 0.1), asked=asked
    )


def known(*outcomes: Resolved | CollectionRead | ArtifactRead | Failure) -> Answers:
    """The answers known after these outcomes, in this order."""
    answers = Answers({}, {}, {})
    refs, collections, artifacts = dict(answers.refs), dict(answers.collections), dict(answers.artifacts)
    for outcome in outcomes:
        match outcome:
            case Resolved(ref=ref):
                refs[ref] = keep(refs.get(ref), outcome)
            case CollectionRead(collection=home):
                collections[home] = keep(collections.get(home), outcome)
            case ArtifactRead(artifact=content):
                artifacts[content.artifact_id] = keep(artifacts.get(content.artifact_id), outcome)
            case _:
                subject = outcome.subject
                if isinstance(subject, ModelRef):
                    refs[subject] = keep(refs.get(subject), outcome)
                elif isinstance(subject, CollectionRef):
                    collections[subject] = keep(collections.get(subject), outcome)
                else:
                    artifacts[subject] = keep(artifacts.get(subject), outcome)
    return Answers(refs, collections, artifacts)
