"""One pull from beginning to end: a reference or an artifact's id becomes a verified, published folder.

What is published already is answered from the disk alone, before the network code is even imported: a restarted pod
must not need the registry.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from modelsync.api.reference import ModelRef
from modelsync.puller.digests import is_artifact_digest
from modelsync.puller.errors import InvalidInputError, PublishedChangedError
from modelsync.puller.progress import Progress
from modelsync.puller.result import ALREADY_PUBLISHED, PullResult
from modelsync.puller.staging import Staging
from modelsync.puller.target import Published, find_published, usable_target
from modelsync.registry.credential import Credential


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What to pull, and where to. Either `artifact_id` and `digest`, or `ref` alone."""

    folder: Path
    ref: ModelRef | None = None
    """Without an id: what to resolve. With one: a link to that version through which the key may see its files."""
    artifact_id: str = ""
    digest: str = ""
    """The artifact's, hex; nothing else is published."""
    pod: str = ""
    """UID of the pod that this runs in, if it does: its other pulls are over, so that what they left can be used."""
    verify: bool = False
    """Read what is published already again instead of looking at its sizes and times."""
    repair: bool = False
    """Put the right bytes there again if what is published was changed since."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Where to pull from. An empty `base_url` or a missing key is an error only when the registry is needed."""

    base_url: str
    credential: Credential | None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to try."""

    connections: int = 16
    retry_for: float = 300.0
    """Seconds without any progress, of a file or an answer, after which to give up."""


def pull(request: PullRequest, registry: Registry, *, effort: Effort, progress: Progress) -> PullResult:
    """Publish the artifact at `request.folder`, unless it is there. Must be called from the main thread.

    SIGTERM and SIGINT end it within seconds; what was fetched is kept for the next pull. Raises PullError.
    """
    started = time.monotonic()
    if bool(request.artifact_id) != bool(request.digest) or not (request.artifact_id or request.ref):
        raise InvalidInputError("pass a reference, or both an artifact's id and its digest")
    if request.digest and not is_artifact_digest(request.digest):
        raise InvalidInputError(
            f"the digest {request.digest!r} is not one of W&B's: 32 digits 0-9a-f, as `modelsync resolve` prints them"
        )
    target = usable_target(request.folder)
    if request.digest and (published := find_published(target, digest=request.digest)):
        try:
            result = already(published, verify=request.verify, started=started)
        except PublishedChangedError:
            if not request.repair:
                raise
        else:
            Staging(target, pod=request.pod).sweep()
            return result
    from modelsync.puller.session import Session

    return Session(request, registry, target, effort=effort, progress=progress, started=started).run()


def already(published: Published, *, verify: bool, started: float, ref: str = "") -> PullResult:
    """Answer with what an earlier pull has published, after a check of it. Raises PublishedChangedError."""
    published.check(content=verify)
    return PullResult(
        ALREADY_PUBLISHED,
        published.folder,
        published.digest,
        files=len(published.entries),
        bytes=published.size,
        reused_bytes=published.size,
        seconds=time.monotonic() - started,
        ref=ref,
    )
