"""The contract between the operator and the programs in a pod: paths, variables, exit codes, the puller's result.

The operator writes pods that run an older or newer puller and middleware, so the meaning of these values must never
change. The middleware runs in vLLM's image, without this package, and has a copy of its part; a test compares the two.
"""

import json
import math
from dataclasses import dataclass
from typing import Any, Final

PULL_CONTAINER: Final = "pull"
"""The init container that pulls the model; those of the other artifacts are `pull-1`, `pull-2`, …"""
SERVE_CONTAINER: Final = "vllm"

MIDDLEWARE: Final = "modelsync_middleware.VersionHeader"
"""Value of vLLM's `--middleware`; the puller copies its package into `MIDDLEWARE_DIR`."""

# --- paths in the pod ---

MODELS_DIR: Final = "/models"
"""One folder for each artifact, named after its digest."""
ARTIFACTS_DIR: Final = "/artifacts"
"""Side artifacts are mounted here, each in a folder with its name."""
MIDDLEWARE_DIR: Final = "/modelsync"
STATE_DIR: Final = "/modelsync-state"
"""State shared by the server processes, including whether the pod was silenced. It outlives containers."""
RESULT_FILE: Final = "/dev/termination-log"
"""The puller writes its result here; the kubelet reports it as the container's termination message."""

# --- endpoints of the middleware ---

READY_PATH: Final = "/modelsync/ready"
"""The readiness probe: 200 once the model has answered a request."""
DRAIN_PATH: Final = "/modelsync/drain"
"""The preStop hook: answers when the pod has settled and has no request in progress, or after shutdownTimeout."""
FUSE_PATH: Final = "/modelsync/fuse"
"""A POST with the revision's token silences the model permanently."""
EXAM_PATH: Final = "/modelsync/exam"
"""A GET returns the state of the version's own exam."""
METRICS_PATH: Final = "/modelsync/metrics"
"""Outcomes of requests to the model, in the Prometheus text format."""

# --- environment variables ---

REVISION_VARIABLE: Final = "MODELSYNC_REVISION"
VERSION_VARIABLE: Final = "MODELSYNC_VERSION"
"""`collection:version`."""
DIGEST_VARIABLE: Final = "MODELSYNC_DIGEST"
SERVED_NAMES_VARIABLE: Final = "MODELSYNC_SERVED_NAMES"
"""Names of the model, separated by commas."""
MODEL_DIR_VARIABLE: Final = "MODELSYNC_MODEL_DIR"
FUSE_HASH_VARIABLE: Final = "MODELSYNC_FUSE_SHA256"
"""SHA-256 of the fuse's token, in hex."""
STATE_DIR_VARIABLE: Final = "MODELSYNC_STATE_DIR"
SETTLE_VARIABLE: Final = "MODELSYNC_SETTLE_SECONDS"
DRAIN_VARIABLE: Final = "MODELSYNC_DRAIN_SECONDS"
ADAPTER_NAMES_VARIABLE: Final = "MODELSYNC_ADAPTER_NAMES"
BASE_NAMES_VARIABLE: Final = "MODELSYNC_BASE_NAMES"
EXPOSE_BASE_VARIABLE: Final = "MODELSYNC_EXPOSE_BASE"
"""`true` or `false`."""
DEFAULT_NAME_VARIABLE: Final = "MODELSYNC_DEFAULT_NAME"
"""The model that answers requests without a model name."""
POD_UID_VARIABLE: Final = "MODELSYNC_POD_UID"
"""Read by the puller."""

# --- the puller's exit codes ---

EXIT_USAGE: Final = 2
EXIT_INFRASTRUCTURE: Final = 3
"""Registry, network or disk; the kubelet retries."""
EXIT_CONTENT: Final = 4
"""The files do not match the version, or may not be served. Never retried automatically."""

# --- the puller's result ---

PULLED: Final = "Pulled"
ALREADY_PUBLISHED: Final = "AlreadyPublished"

MAX_TERMINATION_BYTES: Final = 4096
"""Kubernetes truncates a longer termination message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminationMessage:
    """The puller's result, a JSON object on one line. Fields that do not apply are empty or 0."""

    outcome: str = ""
    """`PULLED`, `ALREADY_PUBLISHED`, or the name of a failure (`puller.errors.OUTCOMES`)."""
    digest: str = ""
    """Digest of the artifact, in hex."""
    files: int = 0
    bytes: int = 0
    """Total size of the files."""
    reused_bytes: int = 0
    """How many of them did not have to be downloaded."""
    seconds: float = 0.0
    ref: str = ""
    """The version, such as `entity/project/collection:v7`, if a reference was given."""
    message: str = ""
    """What went wrong. Only set for a failure."""
    file: str = ""
    """The file of the artifact that failed. Only set for a failure."""
    wrong: tuple[str, ...] = ()
    """Names of fields whose value was not valid and was ignored."""

    @classmethod
    def parse(cls, text: object) -> "TerminationMessage | None":
        """Read a termination message. None if the puller did not write it: a killed puller leaves none, and anyone who
        may create pods can write any text there."""
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
        """The JSON object to write: for a success with all numbers, for a failure with its message."""
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
    """Whether `value` is valid for the field: text, or a number that is finite, not negative and below 2**63."""
    if name in _TEXTS:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    whole = name != "seconds"
    return 0 <= value < 2**63 and not (whole and isinstance(value, float)) and math.isfinite(value)
