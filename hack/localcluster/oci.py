"""Writes OCI images (image-spec v1.1) without a daemon: layers as tar files, and archives of them.

Layers are not compressed, so a layer's digest is also its diff_id, and an import costs no more than a copy. The same
content gives the same bytes: no timestamps, no local owners, sorted names.
"""

import hashlib
import io
import json
import os
import platform
import tarfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Entry:
    """One entry of a layer: a file with `content`, a link to `link`, or a folder if both are None."""

    path: str
    content: bytes | Path | None = None
    mode: int = 0o644
    link: str | None = None
    owner: int = 0


@dataclass(frozen=True)
class Layer:
    """A layer in a tar file; `digest` is `sha256:…` of its bytes, `size` in bytes."""

    path: Path
    digest: str
    size: int
    entries: Callable[[], Iterable[Entry]] | None = field(default=None, compare=False)
    """If set, the tar is written from these whenever it is sent; there is no file, and `path` is the content's folder.

    For a layer so large that a second copy would cost too much disk space.
    """


@dataclass(frozen=True)
class Image:
    """An image with its full name, such as `docker.io/library/modelsync:dev`."""

    name: str
    layers: tuple[Layer, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = "/"
    labels: Mapping[str, str] = field(default_factory=dict)

    def config(self) -> bytes:
        """The image's configuration document."""
        return _document(
            {
                "architecture": architecture(),
                "os": "linux",
                "config": {
                    "Entrypoint": list(self.entrypoint),
                    "Cmd": list(self.command),
                    "User": self.user,
                    "Env": [f"{name}={value}" for name, value in sorted(self.environment.items())],
                    "WorkingDir": self.folder,
                    "Labels": dict(sorted(self.labels.items())),
                },
                "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in self.layers]},
            }
        )

    def manifest(self) -> bytes:
        """The image's manifest; its SHA-256 is the image's digest."""
        config = self.config()
        return _document(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {"mediaType": _CONFIG, "digest": digest_of(config), "size": len(config)},
                "layers": [{"mediaType": _LAYER, "digest": layer.digest, "size": layer.size} for layer in self.layers],
            }
        )

    @property
    def digest(self) -> str:
        return digest_of(self.manifest())


def write_layer(entries: Iterable[Entry], path: Path) -> Layer:
    """Write `entries` and the folders above them to a tar file at `path`."""
    with path.open("wb") as output:
        hashing = _Hashing(output)
        _write_tar(entries, hashing)
    return Layer(path, hashing.digest, hashing.size)


def streamed_layer(folder: Path, entries: Callable[[], Iterable[Entry]]) -> Layer:
    """A layer without a tar file: it is written once to compute its digest, and again whenever it is sent.

    `entries` must give the same each time, as long as `folder` exists.
    """
    with Path(os.devnull).open("wb") as nowhere:
        hashing = _Hashing(nowhere)
        _write_tar(entries(), hashing)
    return Layer(folder, hashing.digest, hashing.size, entries)


def layer_from_tar(path: Path) -> Layer:
    """A layer from an existing tar file."""
    with path.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    return Layer(path, f"sha256:{digest}", path.stat().st_size)


def write_archive(images: Iterable[Image], output: BinaryIO, *, present: Collection[str] = ()) -> None:
    """Write an OCI image layout as a tar stream, without the layers whose digests the receiver already has."""
    written: set[str] = set()
    descriptors = []
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as archive:

        def blob(digest: str, content: bytes | Path) -> None:
            if digest not in written:
                written.add(digest)
                _add(archive, Entry(_blob_path(digest), content))

        _add(archive, Entry("oci-layout", _document({"imageLayoutVersion": "1.0.0"})))
        for image in images:
            for layer in image.layers:
                if layer.digest in present:
                    continue
                if layer.entries is None:
                    blob(layer.digest, layer.path)
                elif layer.digest not in written:
                    written.add(layer.digest)
                    with _streamed(layer.entries()) as stream:
                        header = tarfile.TarInfo(_blob_path(layer.digest))
                        header.mode, header.size = 0o644, layer.size
                        archive.addfile(header, stream)
            config, manifest = image.config(), image.manifest()
            blob(digest_of(config), config)
            blob(digest_of(manifest), manifest)
            descriptors.append(
                {
                    "mediaType": _MANIFEST,
                    "digest": digest_of(manifest),
                    "size": len(manifest),
                    "platform": {"architecture": architecture(), "os": "linux"},
                    "annotations": {
                        "io.containerd.image.name": image.name,
                        "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
                    },
                }
            )
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": descriptors}
        _add(archive, Entry("index.json", _document(index)))


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def architecture() -> str:
    """This machine's architecture, in the images' terms."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _blob_path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _write_tar(entries: Iterable[Entry], output: "_Hashing | BinaryIO") -> None:
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        folders: set[str] = set()
        for entry in sorted(entries, key=lambda entry: entry.path):
            for parent in reversed(Path(entry.path).parents[:-1]):
                if str(parent) not in folders:
                    folders.add(str(parent))
                    archive.addfile(_header(Entry(str(parent), mode=0o755)))
            if entry.content is None and entry.link is None:
                folders.add(entry.path)
            _add(archive, entry)


@contextmanager
def _streamed(entries: Iterable[Entry]) -> Iterator[BinaryIO]:
    """The output of `_write_tar` as a readable stream."""
    reading, writing = os.pipe()
    failures: list[Exception] = []

    def write() -> None:
        try:
            with os.fdopen(writing, "wb", buffering=1 << 20) as output:
                _write_tar(entries, output)
        except Exception as failure:
            failures.append(failure)

    writer = threading.Thread(target=write, name="layer", daemon=True)
    writer.start()
    try:
        with os.fdopen(reading, "rb", buffering=1 << 20) as stream:
            yield stream
    finally:
        writer.join()
    if failures:
        raise failures[0]


def _document(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _add(archive: tarfile.TarFile, entry: Entry) -> None:
    if isinstance(entry.content, Path):
        with entry.content.open("rb") as content:
            archive.addfile(_header(entry), content)
    elif entry.content is not None:
        archive.addfile(_header(entry), io.BytesIO(entry.content))
    else:
        archive.addfile(_header(entry))


def _header(entry: Entry) -> tarfile.TarInfo:
    header = tarfile.TarInfo(entry.path)
    header.mode = entry.mode
    header.uid = header.gid = entry.owner
    if entry.link is not None:
        header.type, header.linkname, header.mode = tarfile.SYMTYPE, entry.link, 0o777
    elif entry.content is None:
        header.type = tarfile.DIRTYPE
    elif isinstance(entry.content, Path):
        header.size = entry.content.stat().st_size
    else:
        header.size = len(entry.content)
    return header


class _Hashing(io.RawIOBase):
    """Forwards writes to `output`, and computes their hash and size."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self.hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self.hash.hexdigest()}"

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.hash.update(data)
        self.size += len(data)
        return self._output.write(data)
