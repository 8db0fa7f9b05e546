"""The parameters of a pull, and its result when the artifact is already published."""

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
    """Without an id: what to resolve. With one: a link to that version through which the key can read its files."""
    artifact_id: str = ""
    digest: str = ""
    """The artifact's digest, hex; nothing else is published."""
    pod: str = ""
    """UID of the pod that this runs in, if any: its earlier pulls have ended, so their files can be used at once."""
    weights: str = ""
    """Pattern of the weights that the server loads; with one, pickled weights alone are refused (`weights`)."""
    verify: bool = False
    """Read all files of a published folder again instead of only checking sizes and times."""
    repair: bool = False
    """Replace a published folder that was changed since."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Where to pull from. An empty `base_url` or a missing key is an error only when the registry is needed."""

    base_url: str
    credential: Credential | None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Effort:
    """The limits on connections and retries."""

    connections: int = 16
    retry_for: float = 300.0
    """Seconds without any progress after which to give up."""


def already(published: Published, *, verify: bool, started: float, ref: str = "") -> PullResult:
    """Check an already published folder and return it as the result. Raises PublishedChangedError."""
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
