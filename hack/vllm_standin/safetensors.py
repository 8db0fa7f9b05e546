"""The safetensors container: writes files, and checks that a file is complete.

The format is 8 bytes of little-endian header length, a JSON header, then the tensors' bytes without gaps
(https://github.com/huggingface/safetensors#format). The check compares the header with the file's size and never reads
the tensors.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAX_HEADER_BYTES = 100_000_000  # limit of the reference implementation

_BYTES_PER_ELEMENT = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4,
    "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


class SafetensorsError(Exception):
    """The file is not a complete safetensors file; the message says where it is broken."""


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file."""

    tensors: frozenset[str]
    metadata: Mapping[str, str]
    data_offset: int
    """Offset of the tensors in the file, in bytes."""


def encode(tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file.

    `tensors` maps a name to (dtype as the format spells it, shape, little-endian bytes).
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, (dtype, shape, data) in tensors.items():
        expected = math.prod(shape) * _BYTES_PER_ELEMENT[dtype]
        if len(data) != expected:
            raise ValueError(f"tensor {name}: {len(data)} bytes for {dtype}{list(shape)}, which takes {expected}")
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # tensors start at a multiple of 8
    return len(raw).to_bytes(8, "little") + raw + b"".join(data for _, _, data in tensors.values())


def read_header(path: Path) -> Header:
    """The header of the file at `path`, checked against the file's size.

    Raises SafetensorsError when the file is truncated or too long, or its header is invalid.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise SafetensorsError(f"{path.name}: HeaderTooSmall: {size} bytes, a safetensors file has at least 8")
        length = int.from_bytes(prefix, "little")
        if length > _MAX_HEADER_BYTES:
            raise SafetensorsError(f"{path.name}: HeaderTooLarge: the header claims {length} bytes")
        if 8 + length > size:
            raise SafetensorsError(f"{path.name}: InvalidHeaderLength: header of {length} bytes in a file of {size}")
        raw = file.read(length)
    try:
        header = json.loads(raw)
    except ValueError:
        raise SafetensorsError(f"{path.name}: InvalidHeaderDeserialization: the header is not JSON") from None
    if not isinstance(header, dict):
        raise SafetensorsError(f"{path.name}: InvalidHeaderDeserialization: the header is not an object")
    metadata = header.pop("__metadata__", None) or {}
    end = _check_tensors(path.name, header)
    if 8 + length + end != size:
        raise SafetensorsError(
            f"{path.name}: MetadataIncompleteBuffer: the header names {end} bytes of tensors, "
            f"the file holds {size - 8 - length}"
        )
    return Header(frozenset(header), metadata, 8 + length)


def _check_tensors(file: str, header: Mapping[str, Any]) -> int:
    """The total size of the tensors in bytes; they must not have gaps or overlap."""
    try:
        spans = sorted(
            (int(t["data_offsets"][0]), int(t["data_offsets"][1]), name, t["dtype"], math.prod(t["shape"]))
            for name, t in header.items()
        )
    except (TypeError, KeyError, IndexError, ValueError):
        raise SafetensorsError(f"{file}: InvalidTensorInfo: a tensor lacks dtype, shape or data_offsets") from None
    end = 0
    for start, stop, name, dtype, elements in spans:
        if dtype not in _BYTES_PER_ELEMENT:
            raise SafetensorsError(f"{file}: tensor {name}: unknown dtype {dtype!r}")
        if start != end or stop - start != elements * _BYTES_PER_ELEMENT[dtype]:
            raise SafetensorsError(
                f"{file}: InvalidOffset: tensor {name} claims bytes {start} to {stop}, expected "
                f"{elements * _BYTES_PER_ELEMENT[dtype]} bytes from {end}"
            )
        end = stop
    return end
