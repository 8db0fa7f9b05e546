"""Why a pull did not publish.

Every message is for the person who reads the pod's termination message or the terminal: it names where, what, what is
allowed and what to do next. None may hold a key or a signed URL.

The exit codes are an interface: the operator tells bad content (never tried again by itself) from infrastructure
(tried again) by them.
"""

from typing import ClassVar

from modelsync.api.pod_contract import EXIT_CONTENT, EXIT_INFRASTRUCTURE, EXIT_USAGE


class PullError(Exception):
    """Nothing was published. `outcome` is the word for machines, `str()` the sentence for people."""

    outcome: ClassVar[str]
    exit_code: ClassVar[int] = EXIT_INFRASTRUCTURE

    def __init__(self, message: str, *, file: str = "") -> None:
        """`file` is the artifact's file that the error is about, if it is about one."""
        super().__init__(message)
        self.file = file


class InvalidInputError(PullError):
    """What was asked for cannot be asked: a reference, a digest, a setting."""

    outcome = "InvalidInput"
    exit_code = EXIT_USAGE


class TargetUnusableError(PullError):
    """The folder to publish is no place for it: not empty, a mount point, another version, no permission."""

    outcome = "TargetUnusable"
    exit_code = EXIT_USAGE


class DeniedError(PullError):
    """The registry or the object store refuses this key."""

    outcome = "Denied"


class NotFoundError(PullError):
    """The registry or the object store has no such artifact or file, or does not let this key see it."""

    outcome = "NotFound"


class UnreachableError(PullError):
    """The registry or the object store gave no usable answer for as long as was waited."""

    outcome = "Unreachable"


class NoSpaceError(PullError):
    """The volume is full, or a quota or file size limit is reached."""

    outcome = "NoSpace"


class StorageFailedError(PullError):
    """Reading or writing the volume failed for another reason than space."""

    outcome = "StorageFailed"


class CorruptFileError(PullError):
    """A file is not what the manifest says, also when fetched a second time."""

    outcome = "CorruptFile"
    exit_code = EXIT_CONTENT


class ManifestMismatchError(PullError):
    """The manifest, or the artifact itself, is not the one that the digest names."""

    outcome = "ManifestMismatch"
    exit_code = EXIT_CONTENT


class BadManifestError(PullError):
    """The manifest has the right digest or none, and cannot be used."""

    outcome = "BadManifest"
    exit_code = EXIT_CONTENT


class UnsafeNameError(PullError):
    """A file's name would leave the folder, clash with another, or forge the manifest's digest."""

    outcome = "UnsafeName"
    exit_code = EXIT_CONTENT


class UnsupportedReferenceError(PullError):
    """The artifact points to bytes outside of W&B, which are not pulled."""

    outcome = "UnsupportedReference"
    exit_code = EXIT_CONTENT


class PublishedChangedError(PullError):
    """The folder was published and somebody changed it since."""

    outcome = "PublishedChanged"
    exit_code = EXIT_CONTENT

    def __init__(self, what: str, *, file: str) -> None:
        """`what`: which folder, and how it has changed."""
        super().__init__(f"{what}; pull again with --repair, or remove the folder and pull again", file=file)
        self.what = what


class InterruptedPullError(PullError):
    """A signal ended the pull. What was fetched is kept for the next one."""

    outcome = "Interrupted"

    def __init__(self, message: str, *, signum: int = 0) -> None:
        """`signum` is the signal, from which the process's exit code follows."""
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
