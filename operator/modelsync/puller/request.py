"""What is to be pulled, from where and how hard, and the answer when it is published already."""

import time
from dataclasses import dataclass
from pathlib import Path

from modelsync.api.model_ref import ModelRef
from modelsync.api.pod_contract import ALREADY_PUBLISHED
from modelsync.puller.result import PullResult
from modelsync.puller.target import Published
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
