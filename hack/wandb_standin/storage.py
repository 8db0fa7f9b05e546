"""The object store over HTTP: GET (with Range), HEAD and PUT of presigned URLs. Streams bodies, never buffers them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from aiohttp import hdrs, web

from wandb_standin.blobs import Blob
from wandb_standin.faults import Fault, Kind
from wandb_standin.store import Store

CHUNK_BYTES: Final = 256 * 1024
THROTTLED_CHUNKS_PER_SECOND: Final = 20
BODY_FAULTS: Final[tuple[Kind, ...]] = ("corrupt", "truncate", "resize", "throttle")


def s3_error(status: int, code: str, message: str) -> web.Response:
    """An error in the format of S3-compatible stores."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return web.Response(status=status, text=body, content_type="application/xml")


class BlobResponse(web.FileResponse):
    """A stored object, sent by sendfile with S3's ETag (the content's MD5)."""

    def __init__(self, path: Path, blob: Blob) -> None:
        super().__init__(path, headers={hdrs.CONTENT_TYPE: "application/octet-stream"})
        self._md5_hex = blob.md5_hex

    async def _start(self, request: web.BaseRequest) -> Any:
        if hdrs.ETAG in self.headers:
            self.etag = self._md5_hex
        return await super()._start(request)


async def receive(request: web.Request, store: Store, key: str) -> web.Response:
    """Store the body under the key; it must match its `Content-MD5`, if given."""
    expected = request.headers.get("Content-MD5")
    blob = await store.blobs.put_stream(key, _chunks(request), expected)
    if blob is None:
        return s3_error(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
    return web.Response(headers={hdrs.ETAG: f'"{blob.md5_hex}"'})


def send(store: Store, blob: Blob) -> web.StreamResponse:
    """The object, subject to the request's Range and conditions."""
    return BlobResponse(store.blobs.path(blob), blob)


async def send_wrong(request: web.Request, content: Path, size: int, fault: Fault) -> web.StreamResponse:
    """The object with the fault applied: a wrong byte, truncated, resized, or slow. Supports Range."""
    total = max(0, size + fault.offset) if fault.kind == "resize" else size
    span = request.http_range
    start, stop = span.start or 0, min(span.stop or total, total)
    if start < 0:
        start = max(0, total + start)
    if start >= total > 0:
        return web.Response(status=416, headers={hdrs.CONTENT_RANGE: f"bytes */{total}"})
    partial = hdrs.RANGE in request.headers
    headers = {hdrs.CONTENT_TYPE: "application/octet-stream", hdrs.ACCEPT_RANGES: "bytes"}
    if partial:
        headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{stop - 1}/{total}"
    response = web.StreamResponse(status=206 if partial else 200, headers=headers)
    response.content_length = stop - start
    await response.prepare(request)
    end = min(stop, fault.offset) if fault.kind == "truncate" else stop
    wrong_at = min(fault.offset, size - 1) if fault.kind == "corrupt" else -1
    throttled = max(1, fault.rate // THROTTLED_CHUNKS_PER_SECOND) if fault.kind == "throttle" else 0
    loop = asyncio.get_running_loop()
    with await loop.run_in_executor(None, content.open, "rb") as stream:
        position = start
        while position < end:
            count = min(throttled or CHUNK_BYTES, end - position)
            chunk = await loop.run_in_executor(None, _read, stream, position, count)
            if position <= wrong_at < position + count:
                spot = wrong_at - position
                chunk = chunk[:spot] + bytes([chunk[spot] ^ 0xFF]) + chunk[spot + 1 :]
            await response.write(chunk)
            position += count
            if throttled:
                await asyncio.sleep(count / fault.rate)
    if end < stop and request.transport is not None:
        request.transport.close()
        return response
    await response.write_eof()
    return response


def altered_manifest(document: bytes) -> bytes:
    """The manifest with another digest for its first file: well formed, but not the artifact's."""
    manifest = json.loads(document)
    name = min(manifest["contents"])
    digest: str = manifest["contents"][name]["digest"]
    swapped = "B" if digest[0] == "A" else "A"
    manifest["contents"][name]["digest"] = swapped + digest[1:]
    return json.dumps(manifest, sort_keys=True).encode()


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_chunked(CHUNK_BYTES):
        yield chunk


def _read(stream: Any, position: int, count: int) -> bytes:
    """Exactly `count` bytes; zeros past the end of the file."""
    stream.seek(position)
    chunk: bytes = stream.read(count)
    return chunk.ljust(count, b"\0")
