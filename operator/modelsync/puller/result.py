"""The machine-readable result of a pull: one line of JSON that fits into a container's termination message."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelsync.api.pod_contract import MAX_TERMINATION_BYTES, TerminationMessage
from modelsync.puller.errors import PullError, StorageFailedError
from modelsync.puller.file_names import shown


@dataclass(frozen=True, slots=True)
class PullResult:
    """A published, verified folder."""

    outcome: str
    """PULLED or ALREADY_PUBLISHED."""
    folder: Path
    digest: str
    files: int
    bytes: int
    """Size of all files."""
    reused_bytes: int
    """How many of them were not fetched."""
    seconds: float
    ref: str = ""
    """The version, as `entity/project/collection:v7`, if a reference was given."""

    def document(self) -> dict[str, Any]:
        """Return the JSON object."""
        return TerminationMessage(
            outcome=self.outcome,
            digest=self.digest,
            files=self.files,
            bytes=self.bytes,
            seconds=self.seconds,
            reused_bytes=self.reused_bytes,
            ref=self.ref,
        ).document()


def failure_document(error: PullError, *, digest: str = "") -> dict[str, Any]:
    """Return the JSON object of a pull that published nothing."""
    file = shown(error.file) if error.file else ""
    return TerminationMessage(outcome=error.outcome, digest=digest, message=str(error), file=file).document()


def encode(document: dict[str, Any]) -> str:
    """Encode as one line of JSON of at most MAX_TERMINATION_BYTES; a longer message is cut and ends in `…`."""
    line = json.dumps(document, ensure_ascii=False)
    message = str(document.get("message", "")).encode()
    while (excess := len(line.encode()) - MAX_TERMINATION_BYTES) > 0 and message:
        message = message[: -excess - len("…".encode())]
        line = json.dumps({**document, "message": f"{message.decode(errors='ignore')}…"}, ensure_ascii=False)
    return line


def write_result(path: Path, document: dict[str, Any]) -> None:
    """Write the document to `path`. Raises StorageFailedError.

    It is written in place, not renamed: a container's termination log is a mounted file.
    """
    try:
        # Without O_CREAT for an existing file: Linux denies it for another user's file in a sticky folder.
        create = 0 if path.exists() else os.O_CREAT
        with open(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | create, 0o644), "w") as file:
            file.write(encode(document) + "\n")
    except OSError as error:
        raise StorageFailedError(
            f"the result file {path} cannot be written ({error.strerror}); pass another --result"
        ) from None
