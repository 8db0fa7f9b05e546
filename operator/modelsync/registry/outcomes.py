"""Classifies a reply: a positive answer, or one of the failures. Pure.

Neither null nor an error proves that something does not exist: W&B answers 404, or null, both for what does not exist
and for what this key cannot see, so `Missing` means either.
"""

from collections.abc import Collection
from datetime import datetime
from difflib import get_close_matches
from heapq import nsmallest
from typing import Literal, TypedDict

from modelsync.api.foreign_text import foreign_text
from modelsync.api.model_ref import CollectionRef, ModelRef
from modelsync.registry import wire
from modelsync.registry.errors import DeniedError, GraphQLError, NotFoundError, ThrottledError, in_short
from modelsync.registry.exchange import NoReply, Reply
from modelsync.registry.model import (
    ArtifactOutcome,
    CollectionOutcome,
    CollectionRead,
    Denied,
    Failure,
    Missing,
    Outcome,
    Subject,
    Throttled,
    Unreachable,
)

_DENIED = ("permission", "forbidden", "unauthorized", "unauthenticated", "access denied", "not authorized")
_MISSING = ("not found", "not_found", "does not exist", "could not find")

MAX_NAME = 128
"""Characters of an alias, at W&B."""
MAX_SIMILAR = 1000
"""Aliases that a misspelt one is compared with: that takes long."""

_What = Literal["project", "collection", "alias", "version"]


def of_ref(ref: ModelRef, reply: Reply | NoReply, collection: CollectionOutcome) -> Outcome:
    """Classify the reply about a reference; `collection` is the outcome for its collection in the same round."""
    if isinstance(reply, Reply) and reply.value is not None:
        if isinstance(reply.value, dict) and reply.value.get("artifact", ...) is None and not reply.errors:
            message = f"{ref} names a version that was deleted, or that this API key cannot see"
            return Missing(subject=ref, what="version", message=message, **_times(reply))
        try:
            return wire.resolved(reply.value, ref, **_times(reply))
        except wire.UnexpectedShapeError as error:
            return _odd(ref, reply, error)
    if isinstance(collection, Missing):
        what: _What = collection.what
    else:
        what = "version" if ref.is_pinned else "alias"
    known = collection.aliases if isinstance(collection, CollectionRead) else ()
    return _failure(ref, reply, what, known)


def of_collection(collection: CollectionRef, reply: Reply | NoReply) -> CollectionOutcome:
    """Classify the reply about a collection's first page. `hold_aliases` stays empty; `lists.py` adds further pages."""
    if not isinstance(reply, Reply) or reply.value is None:
        return _failure(collection, reply, "collection")
    try:
        page = wire.aliases_page(reply.value)
    except wire.UnexpectedShapeError as error:
        return _odd(collection, reply, error)
    return CollectionRead(
        collection=collection,
        tags=page.tags,
        aliases=page.aliases,
        hold_aliases=frozenset(),
        whole=not is_partial(reply),
        **_times(reply),
    )


def of_artifact(artifact_id: str, reply: Reply | NoReply) -> ArtifactOutcome:
    """Classify the reply about an artifact that was queried by its id."""
    if isinstance(reply, Reply) and reply.value is not None:
        try:
            return wire.artifact_read(reply.value, **_times(reply))
        except wire.UnexpectedShapeError as error:
            return _odd(artifact_id, reply, error)
    return _failure(artifact_id, reply, "version")


class _Times(TypedDict):
    asked_at: datetime
    answered_at: datetime
    asked: float


def _times(reply: Reply | NoReply) -> _Times:
    return {"asked_at": reply.asked_at, "answered_at": reply.answered_at, "asked": reply.asked}


def is_partial(reply: Reply | NoReply) -> bool:
    """Whether an error of the server may have left out something of the reply that is there.

    Not for what this key may not see: that is left out in any case, with an error or as null.
    """
    return isinstance(reply, Reply) and any(_meaning([error], 200) == "unknown" for error in reply.errors)


def _failure(subject: Subject, reply: Reply | NoReply, what: _What, known: Collection[str] = ()) -> Failure:
    times = _times(reply)
    if isinstance(reply, NoReply):
        error = reply.error
        if isinstance(error, ThrottledError):
            return Throttled(subject=subject, until=error.until, resume=error.resume, message=str(error), **times)
        if isinstance(error, DeniedError):
            return Denied(subject=subject, message=str(error), **times)
        if not isinstance(error, NotFoundError):
            return Unreachable(subject=subject, message=str(error), **times)
        details = in_short(error.errors)
        what = "project" if "project" in details.lower() else what
    else:
        details = in_short(reply.errors)
        match _meaning(reply.errors, reply.status):
            case "denied":
                message = f"{subject}: {details or 'permission denied'}; check what the API key's user has access to"
                return Denied(subject=subject, message=message, **times)
            case "unknown":
                message = f"{subject}: the server answered with an error: {details}"
                return Unreachable(subject=subject, message=message, **times)
        if reply.project_missing:
            what = "project"
    return Missing(subject=subject, what=what, message=_missing(subject, what, known), **times)


def _meaning(errors: Collection[GraphQLError], status: int) -> Literal["denied", "missing", "unknown"]:
    """Classify errors by their code and wording, since W&B sends them with HTTP 200, 403 and 404 alike."""
    if not errors:
        return "denied" if status == 403 else "missing"
    texts = [f"{error.code} {error.message}".lower() for error in errors]
    if any(word in text for text in texts for word in _DENIED):
        return "denied"
    if all(any(word in text for word in _MISSING) for text in texts):
        return "missing"
    return "denied" if status == 403 else "missing" if status == 404 else "unknown"


def _missing(subject: Subject, what: _What, known: Collection[str]) -> str:
    if isinstance(subject, str):
        return f"artifact {subject} does not exist, or this API key cannot see it"
    home = subject.in_collection if isinstance(subject, ModelRef) else subject
    if what == "project":
        return (
            f"project {home.entity}/{home.project} does not exist, or this API key cannot see it; check the spelling "
            "and what the key's user has access to"
        )
    if what == "collection":
        return (
            f"project {home.entity}/{home.project} has no collection {home.collection!r}, or this API key cannot see "
            "it; check the spelling"
        )
    name = subject.alias if isinstance(subject, ModelRef) else ""
    if what == "version":
        return f"{home} has no version {name}; it was deleted or unlinked, or never existed"
    similar = nsmallest(MAX_SIMILAR, (each for each in known if len(each) <= MAX_NAME))
    close = [foreign_text(each) for each in get_close_matches(name, similar, n=1)]
    listed = ", ".join(foreign_text(each, limit=MAX_NAME) for each in nsmallest(8, known))
    listed += ", …" if len(known) > 8 else ""
    hint = f"did you mean {close[0]!r}? " if close else ""
    has = f"its aliases are {listed}" if known else "none of its versions has an alias"
    return f"{home} has no alias {name!r}; {hint}{has}"


def _odd(subject: Subject, reply: Reply, error: wire.UnexpectedShapeError) -> Failure:
    """The failure for a response that does not match the schema, unless its own errors give the reason."""
    if reply.errors:
        return _failure(subject, reply, "version")
    message = f"{subject}: the server's response does not match W&B's schema ({error})"
    return Unreachable(subject=subject, message=message, **_times(reply))
