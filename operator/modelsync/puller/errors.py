"""Why a pull did not publish.

Every message is for the user who reads the pod's termination message or the terminal: it names the location, the
problem, what is allowed and what to do next. None may contain a key or a signed URL.

The exit codes are an interface: by them the operator distinguishes bad content (never retried automatically) from
infrastructure failures (retried).
"""

from typing import ClassVar

from modelsync.api.pod_contract import EXIT_CONTENT, EXIT_INFRASTRUCTURE, EXIT_USAGE


class PullError(Exception):
    """Nothing was published. `outcome` is for machines, `str()` is the message for users."""

    outcome: ClassVar[str]
    exit_code: ClassVar[int] = EXIT_INFRASTRUCTURE

    def __init__(self, message: str, *, file: str = "") -> None:
        """`file` is the artifact's file that caused the error, if any."""
        super().__init__(message)
        self.file = file


class InvalidInputError(PullError):
    """The arguments are invalid: a reference, a digest, a setting."""

    outcome = "InvalidInput"
    exit_code = EXIT_USAGE


class TargetUnusableError(PullError):
    """The target folder cannot be used: not empty, a mount point, another version, no permission."""

    outcome = "TargetUnusable"
    exit_code = EXIT_USAGE


class DeniedError(PullError):
    """The registry or the object store denied access to this key."""

    outcome = "Denied"


class NotFoundError(PullError):
    """The registry or the object store has no such artifact or file, or this key cannot see it."""

    outcome = "NotFound"


class UnreachableError(PullError):
    """The registry or the object store gave no usable answer in time."""

    outcome = "Unreachable"


class NoSpaceError(PullError):
    """The volume is full, or a quota or file size limit is reached."""

    outcome = "NoSpace"


class StorageFailedError(PullError):
    """Reading or writing the volume failed for a reason other than space."""

    outcome = "StorageFailed"


class CorruptFileError(PullError):
    """A file does not match the manifest, even when fetched a second time."""

    outcome = "CorruptFile"
    exit_code = EXIT_CONTENT


class ManifestMismatchError(PullError):
    """The manifest, or the artifact itself, does not have the expected digest."""

    outcome = "ManifestMismatch"
    exit_code = EXIT_CONTENT


class BadManifestError(PullError):
    """The manifest cannot be parsed or is incomplete."""

    outcome = "BadManifest"
    exit_code = EXIT_CONTENT


class UnsafeNameError(PullError):
    """A file's name would leave the folder, clash with another, or forge the manifest's digest."""

    outcome = "UnsafeName"
    exit_code = EXIT_CONTENT


class UnsupportedReferenceError(PullError):
    """The artifact references files outside W&B, which are not pulled."""

    outcome = "UnsupportedReference"
    exit_code = EXIT_CONTENT


class PickledWeightsError(PullError):
    """The artifact has pickled weights, which can run code, and no safetensors."""

    outcome = "PickledWeights"
    exit_code = EXIT_CONTENT


class PublishedChangedError(PullError):
    """The folder was changed after it was published."""

    outcome = "PublishedChanged"
    exit_code = EXIT_CONTENT

    def __init__(self, what: str, *, file: str) -> None:
        """`what`: which folder, and how it changed."""
        super().__init__(f"{what}; pull again with --repair, or remove the folder and pull again", file=file)
        self.what = what


class InterruptedPullError(PullError):
    """A signal ended the pull. The fetched bytes are kept for the next pull."""

    outcome = "Interrupted"

    def __init__(self, message: str, *, signum: int = 0) -> None:
        """`signum` is the signal, which determines the exit code."""
        super().__init__(message)
        self.signum = signum


OUTCOMES = tuple(
    sorted(
        (each.outcome, each.exit_code, (each.__doc__ or "").split("\n")[0])
        for each in PullError.__subclasses__()
        if each is not InterruptedPullError
    )
)
"""What `--help` lists: outcome, exit code, meaning."""
