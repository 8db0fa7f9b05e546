"""What the operator and the programs in a revision's pod agree on: paths, variables, exit codes, the puller's result.

The operator writes pods that run an older or newer puller and middleware, so none of these may change its meaning. The
middleware runs alone in an image of others and keeps a copy of its part; a test holds the two together.
"""

import json
import math
from dataclasses import dataclass
from typing import Any, Final

PULL_CONTAINER: Final = "pull"
"""The init container that fetches the model; the other artifacts' are `pull-1`, `pull-2`, …"""
SERVE_CONTAINER: Final = "vllm"

MIDDLEWARE: Final = "modelsync_middleware.VersionHeader"
"""What vLLM's `--middleware` loads; the puller lays its package into `MIDDLEWARE_DIR`."""

# --- paths in the pod ---

MODELS_DIR: Final = "/models"
"""One folder for each artifact, named by its digest."""
ARTIFACTS_DIR: Final = "/artifacts"
"""Side artifacts are mounted here, each in a folder of its name."""
MIDDLEWARE_DIR: Final = "/modelsync"
STATE_DIR: Final = "/modelsync-state"
"""What the server processes share, and that the pod was silenced: it outlives containers."""
RESULT_FILE: Final = "/dev/termination-log"
"""Where the puller writes its result: the kubelet reports it as the container's termination message."""

# --- what the middleware answers ---

READY_PATH: Final = "/modelsync/ready"
"""The readiness probe: 200 once the model has really answered."""
DRAIN_PATH: Final = "/modelsync/drain"
"""preStop: answered when the pod has settled and has no request under way, or after shutdownTimeout."""
FUSE_PATH: Final = "/modelsync/fuse"
"""A POST with the revision's token silences the model for good."""
EXAM_PATH: Final = "/modelsync/exam"
"""A GET returns how the version's own exam stands."""
METRICS_PATH: Final = "/modelsync/metrics"
"""How requests to the model ended, in Prometheus' text format."""

# --- environment variables ---

REVISION_VARIABLE: Final = "MODELSYNC_REVISION"
VERSION_VARIABLE: Final = "MODELSYNC_VERSION"
"""`collection:version`."""
DIGEST_VARIABLE: Final = "MODELSYNC_DIGEST"
SERVED_NAMES_VARIABLE: Final = "MODELSYNC_SERVED_NAMES"
"""Names of one model, separated by commas."""
MODEL_DIR_VARIABLE: Final = "MODELSYNC_MODEL_DIR"
FUSE_HASH_VARIABLE: Final = "MODELSYNC_FUSE_SHA256"
"""Hex SHA-256 of the fuse's token."""
STATE_DIR_VARIABLE: Final = "MODELSYNC_STATE_DIR"
SETTLE_VARIABLE: Final = "MODELSYNC_SETTLE_SECONDS"
DRAIN_VARIABLE: Final = "MODELSYNC_DRAIN_SECONDS"
ADAPTER_NAMES_VARIABLE: Final = "MODELSYNC_ADAPTER_NAMES"
BASE_NAMES_VARIABLE: Final = "MODELSYNC_BASE_NAMES"
EXPOSE_BASE_VARIABLE: Final = "MODELSYNC_EXPOSE_BASE"
"""`true` or `false`."""
DEFAULT_NAME_VARIABLE: Final = "MODELSYNC_DEFAULT_NAME"
"""Who answers a request that names no model."""
POD_UID_VARIABLE: Final = "MODELSYNC_POD_UID"
"""For the puller."""

# --- the puller's exit codes ---

EXIT_USAGE: Final = 2
EXIT_INFRASTRUCTURE: Final = 3
"""Tried again: registry, network, disk."""
EXIT_CONTENT: Final = 4
"""Never tried again by itself: the bytes are not the version's, or may not be served."""

# --- the puller's result ---

PULLED: Final = "Pulled"
ALREADY_PUBLISHED: Final = "AlreadyPublished"

MAX_TERMINATION_BYTES: Final = 4096
"""What Kubernetes keeps of a termination message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminationMessage:
    """How one pull ended, as the puller writes it: a JSON object on one line. What does not apply is empty or 0."""

    outcome: str = ""
    """`PULLED`, `ALREADY_PUBLISHED`, or the word of a failure (`puller.errors.OUTCOMES`)."""
    digest: str = ""
    """Of the artifact, hex."""
    files: int = 0
    bytes: int = 0
    """Size of all files."""
    reused_bytes: int = 0
    """How many of them did not have to be fetched."""
    seconds: float = 0.0
    ref: str = ""
    """The version, as `entity/project/collection:v7`, if a reference was given."""
    message: str = ""
    """Of a failure: what is wrong, for a person."""
    file: str = ""
    """Of a failure: the artifact's file that it is about."""
    wrong: tuple[str, ...] = ()
    """Fields that hold something else than this puller writes, and were left out."""

    @classmethod
    def parse(cls, text: object) -> "TerminationMessage | None":
        """Read a termination message. None for what the puller did not write: a killed one leaves none, and anybody who
        may create pods can put any text there."""
        if not isinstance(text, str) or len(text) > 4 * MAX_TERMINATION_BYTES:
            return None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict):
            return None
        known = {name: found[name] for name in _TEXTS | _NUMBERS if found.get(name) is not None}
        wrong = tuple(name for name, value in known.items() if not _fits(name, value))
        return cls(**{name: value for name, value in known.items() if name not in wrong}, wrong=wrong)

    def document(self) -> dict[str, Any]:
        """The JSON object: of a success with all numbers, of a failure with its message."""
        if self.message:
            found: dict[str, Any] = {"digest": self.digest, "message": self.message, "file": self.file}
        else:
            found = {
                "digest": self.digest,
                "files": self.files,
                "bytes": self.bytes,
                "seconds": round(self.seconds, 3),
                "reused_bytes": self.reused_bytes,
                "ref": self.ref,
            }
        return {"outcome": self.outcome, **{name: value for name, value in found.items() if value != ""}}


_TEXTS = frozenset({"outcome", "digest", "ref", "message", "file"})
_NUMBERS = frozenset({"files", "bytes", "reused_bytes", "seconds"})


def _fits(name: str, value: object) -> bool:
    """Whether the field may hold `value`: text, or a number that is finite, not negative and below 2**63."""
    if name in _TEXTS:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    whole = name != "seconds"
    return 0 <= value < 2**63 and not (whole and isinstance(value, float)) and math.isfinite(value)
