"""The two digests of W&B artifacts: MD5, and XXH128 since client 0.29. Both are 16 bytes: base64 for a file, hex for an
artifact (wandb.sdk.lib.hashutil).
"""

import base64
import binascii
import hashlib
import os
import re
from enum import StrEnum
from typing import Protocol

import xxhash

READ_BYTES = 2**18
_HEX = re.compile(r"[0-9a-f]{32}")


class Algorithm(StrEnum):
    """The algorithm of a digest; the values are those of a manifest entry's `extra.alg`."""

    MD5 = "MD5"
    XXH128 = "XXH128"


class Hasher(Protocol):
    """The common interface of hashlib and xxhash. Both release the GIL while they process a large buffer."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add bytes."""

    def digest(self) -> bytes:
        """Return the 16 bytes."""

    def hexdigest(self) -> str:
        """Return the 16 bytes as 32 hex digits."""


def hasher(algorithm: Algorithm) -> Hasher:
    """Create a new hasher."""
    if algorithm is Algorithm.XXH128:
        return xxhash.xxh128()
    # W&B uses MD5 for change detection; a FIPS build of OpenSSL must not reject it.
    return hashlib.md5(usedforsecurity=False)


def hex_of(digest: str) -> str | None:
    """Convert a file's base64 digest to hex; None if it is not exactly the base64 of 16 bytes."""
    try:
        raw = base64.b64decode(digest.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        return None
    return raw.hex() if len(raw) == 16 and base64.b64encode(raw).decode() == digest else None


def is_artifact_digest(text: str) -> bool:
    """Whether `text` can be an artifact's digest: 32 lower-case hex digits."""
    return bool(_HEX.fullmatch(text))


def hash_file(path: str, algorithm: Algorithm) -> str:
    """Return the base64 digest of a whole file, in constant memory. Raises OSError."""
    taken = hasher(algorithm)
    buffer = memoryview(bytearray(READ_BYTES))
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := file.readinto(buffer):
            taken.update(buffer[:count])
    return base64.b64encode(taken.digest()).decode()
