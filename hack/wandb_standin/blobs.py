"""The object store behind the presigned URLs: files on disk, addressed by content, never loaded into memory as a whole.

Objects have keys; identical content is stored once. An object becomes visible only when it is complete.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Blob:
    """Content: hex MD5 and size in bytes."""

    md5_hex: str
    size: int

    @property
    def md5_base64(self) -> str:
        return base64.b64encode(bytes.fromhex(self.md5_hex)).decode()


class Blobs:
    """Objects below `directory`, which is created if missing.

    The keys live in memory only, so that a new server does not know the objects of an earlier one; it reuses their
    content, though.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._objects: dict[str, Blob] = {}
        for name in ("content", "incoming"):
            (directory / name).mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> Blob | None:
        """The object with this key."""
        return self._objects.get(key)

    def path(self, blob: Blob) -> Path:
        """The file that holds the content; read-only by convention."""
        return self._directory / "content" / blob.md5_hex[:2] / blob.md5_hex

    def put_bytes(self, key: str, content: bytes) -> Blob:
        """Store a small object at once."""
        return self._put(key, [content])

    def put_file(self, key: str, source: Path) -> Blob:
        """Store a copy of a file."""
        with source.open("rb") as stream:
            return self._put(key, iter(lambda: stream.read(CHUNK_BYTES), b""))

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], expected_md5: str | None) -> Blob | None:
        """Store a stream; stores nothing and returns None if it does not match the (base64) MD5."""
        incoming = self._incoming()
        digest, size = hashlib.md5(usedforsecurity=False), 0
        try:
            with incoming.open("wb") as out:
                async for chunk in chunks:
                    out.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
            blob = Blob(digest.hexdigest(), size)
            if expected_md5 and expected_md5 != blob.md5_base64:
                return None
            return self._publish(key, blob, incoming)
        finally:
            incoming.unlink(missing_ok=True)

    def join(self, key: str, part_keys: list[str]) -> Blob:
        """Join parts, in order, to one object, and drop the parts (S3's complete-multipart)."""

        def chunks() -> Iterable[bytes]:
            for part_key in part_keys:
                with self.path(self._objects[part_key]).open("rb") as part:
                    while chunk := part.read(CHUNK_BYTES):
                        yield chunk

        blob = self._put(key, chunks())
        for part_key in part_keys:
            part = self._objects.pop(part_key)
            if part not in self._objects.values():
                self.path(part).unlink(missing_ok=True)
        return blob

    def alias(self, key: str, blob: Blob) -> Blob | None:
        """Add a key for content that is already stored; None if it is not."""
        if not self.path(blob).is_file() or self.path(blob).stat().st_size != blob.size:
            return None
        self._objects[key] = blob
        return blob

    def _incoming(self) -> Path:
        descriptor, name = tempfile.mkstemp(dir=self._directory / "incoming")
        os.close(descriptor)
        return Path(name)

    def _put(self, key: str, chunks: Iterable[bytes]) -> Blob:
        incoming = self._incoming()
        digest, size = hashlib.md5(usedforsecurity=False), 0
        try:
            with incoming.open("wb") as out:
                for chunk in chunks:
                    out.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
            return self._publish(key, Blob(digest.hexdigest(), size), incoming)
        finally:
            incoming.unlink(missing_ok=True)

    def _publish(self, key: str, blob: Blob, incoming: Path) -> Blob:
        target = self.path(blob)
        target.parent.mkdir(exist_ok=True)
        shutil.move(incoming, target)
        self._objects[key] = blob
        return blob
