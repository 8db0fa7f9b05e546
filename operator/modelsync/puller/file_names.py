"""Which file names of an artifact may become paths below a folder.

An artifact's author chooses the names, and the author is not trusted: a name must not escape the folder, hide another
file, break a terminal, or give two different manifests the same digest. Must never touch the file system.
"""

from collections.abc import Iterable
from itertools import pairwise

from modelsync.puller.errors import UnsafeNameError

MARKER = ".modelsync.json"
"""The file that marks a folder as published; no file of an artifact may have its name."""

MAX_COMPONENT_BYTES = 255
"""NAME_MAX of Linux file systems."""
MAX_NAME_BYTES = 2048
"""Half of PATH_MAX, to leave room for the folder."""
MAX_FOLDERS = 64
"""Above a file. Each costs an inode and a system call, and a model's files are some three deep."""


def check_names(names: Iterable[str]) -> None:
    """Raise UnsafeNameError for the first name that is not allowed, alone or together with the others.

    `names` must be unique (the manifest's parser ensures that). Takes memory in proportion to the names.
    """
    files = sorted(names, key=ascii)
    for name in files:
        if problem := _problem(name):
            raise UnsafeNameError(
                f"the artifact's file {shown(name)} has a name that is not allowed: {problem}; nothing was published; "
                "log the artifact again with plain relative names",
                file=shown(name),
            )
    # With `/` before every other character, what is below a folder follows it at once; no name contains a NUL any more.
    # A set of all folders would need memory in proportion to names × depth.
    files.sort(key=lambda name: name.replace("/", "\0"))
    if both := min((name for name, after in pairwise(files) if after.startswith(f"{name}/")), default=None):
        raise UnsafeNameError(
            f"the artifact contains {shown(both)} both as a file and as a folder; nothing was published; log the "
            "artifact again with distinct names",
            file=both,
        )


def shown(name: str) -> str:
    """Return a name that is safe to print: unprintable characters escaped, at most 200 characters."""
    text = name if name.isprintable() and name else ascii(name)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _problem(name: str) -> str:
    if not name:
        return "it is empty"
    if any(char < " " or "\x7f" <= char <= "\x9f" or char in "\u2028\u2029" for char in name):
        # A line feed could make `a:<digest>\nb` and the two files `a` and `b` one manifest digest.
        return "it contains a control character"
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if name.startswith("/"):
        return "it is an absolute path"
    parts = name.split("/")
    if ".." in parts:
        return "it leads outside the folder ('..')"
    if "" in parts or "." in parts:
        return "it is not normalized (empty and '.' parts are not allowed)"
    if len(parts) - 1 > MAX_FOLDERS:
        return f"it is {len(parts) - 1} folders deep (allowed: {MAX_FOLDERS})"
    if len(encoded) > MAX_NAME_BYTES:
        return f"it has {len(encoded)} bytes (allowed: {MAX_NAME_BYTES})"
    if any(len(part.encode()) > MAX_COMPONENT_BYTES for part in parts):
        return f"a part of it is longer than {MAX_COMPONENT_BYTES} bytes"
    if parts[0] == MARKER:
        return f"{MARKER} is reserved for the marker of a published folder"
    return ""
