"""What makes a revision the one it is, and the name that follows from it.

The hash covers what makes a pod: what was resolved, and `spec.serving` with the image filled in. It is taken over
canonical JSON: keys sorted, quantities as plain numbers, whatever equals its default left out. So writing `1000m` for
`1`, or a default for nothing, changes no name, and neither does an upgrade of the operator. The fixtures in the tests
are frozen; a change here that breaks one would restart every pod of every user.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Protocol, Self

from pydantic import Field, model_validator

from modelsync.api import quantity
from modelsync.api.base import ApiModel
from modelsync.api.names import MAX_VERSION_DIGITS
from modelsync.api.parts import MODEL, part_label
from modelsync.api.serving import Serving
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec

NO_OTHERS: Mapping[str, "Artifact"] = {}

_HASH_DIGITS = 8
_VERSION = re.compile(rf"v[0-9]{{1,{MAX_VERSION_DIGITS}}}")

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{8,128}$")]
"""Of an artifact's manifest, hexadecimal as W&B gives it. It becomes a folder's name, hence the strictness."""


class Artifact(ApiModel):
    """The version that the registry answered with, as a revision pins it."""

    entity: str
    project: str
    collection: str
    version: Annotated[str, Field(pattern=rf"^{_VERSION.pattern}$")]
    artifact_id: str
    digest: Digest
    size: Annotated[int, Field(ge=0)]
    """Bytes of all files."""

    @property
    def ref(self) -> str:
        """`entity/project/collection:v7`."""
        return f"{self.entity}/{self.project}/{self.collection}:{self.version}"


class RevisionInputs(ApiModel):
    """All that a revision's name depends on. `serving.image` is always there."""

    version: Annotated[str, Field(pattern=rf"^{_VERSION.pattern}$")]
    digests: dict[str, Digest]
    """Of each part that was resolved, by its key (`api.references`)."""
    serving: Serving

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.serving.image is None:
            raise ValueError("the image must have been filled in before a revision is named")
        for key in (MODEL, *self.serving.references):
            if key not in self.digests:
                raise ValueError(
                    f"the digest of the {part_label(key)} must have been resolved before a revision is named"
                )
        return self

    @property
    def image(self) -> str:
        """The image of vLLM."""
        return self.serving.image or ""

    @property
    def content(self) -> str:
        """What was resolved, apart from the spec: two revisions with the same content differ by spec only."""
        return hashlib.sha256(_json(self.digests)).hexdigest()[:16]


class PastRevision(Protocol):
    """What of a record decides which image a spec without one means."""

    @property
    def inputs(self) -> RevisionInputs: ...
    @property
    def image_was_default(self) -> bool: ...
    @property
    def created(self) -> datetime: ...


def revision_name(inputs: RevisionInputs) -> str:
    """`v7-3fa9c1d2`: the version, and the hash of everything else."""
    hashed = {"digests": inputs.digests, "serving": _canonical(inputs.serving)}
    return f"{inputs.version}-{hashlib.sha256(_json(hashed)).hexdigest()[:_HASH_DIGITS]}"


def inputs_of(
    name: str,
    spec: ModelDeploymentSpec,
    artifact: Artifact,
    settings: OperatorSettings,
    records: Iterable[PastRevision],
    *,
    others: Mapping[str, Artifact] = NO_OTHERS,
) -> RevisionInputs:
    """What today's spec of the ModelDeployment `name` makes of `artifact`, the model, and of `others` by their keys.

    An image that the spec leaves out is that of one of `records` with the same content and otherwise equal inputs, else
    the operator's default: a new default must not restart what serves. Of several it is the newest whose spec left the
    image out too, else one that has the default: an image that was tried and taken out of the spec again does not stay.
    """
    serving = spec.serving
    if serving.served_model_name == name:
        serving = serving.model_copy(update={"served_model_name": None})
    digests = {MODEL: artifact.digest, **{key: other.digest for key, other in others.items()}}
    default = settings.serving_image
    image = serving.image or _image_before(digests, serving, records, default) or default
    return RevisionInputs(
        version=artifact.version, digests=digests, serving=serving.model_copy(update={"image": image})
    )


def _image_before(
    digests: dict[str, str], serving: Serving, records: Iterable[PastRevision], default: str
) -> str | None:
    wanted = _without_image(serving)
    same = [
        record
        for record in records
        if record.inputs.digests == digests and _without_image(record.inputs.serving) == wanted
    ]

    def likeness(record: PastRevision) -> tuple[bool, bool, datetime]:
        return record.image_was_default, record.inputs.image == default, record.created

    return max(same, key=likeness).inputs.image if same else None


def _without_image(serving: Serving) -> dict[str, Any]:
    return _canonical(serving.model_copy(update={"image": None}))


def _canonical(serving: Serving) -> dict[str, Any]:
    return _without_defaults(_plain(serving), _defaults())


@cache
def _defaults() -> dict[str, Any]:
    return _plain(Serving())


def _plain(serving: Serving) -> dict[str, Any]:
    """On the wire, with each quantity as a plain number; what is resolved is left out, since its digests count."""
    wire = serving.wire()
    for resolved in ("artifacts", "adapters", "baseModelRef"):
        wire.pop(resolved, None)
    for amounts in wire.get("resources", {}).values():
        amounts.update({name: quantity.canonical(amount) for name, amount in amounts.items()})
    wire["sharedMemory"] = quantity.canonical(wire["sharedMemory"])
    if "size" in wire["storage"]:
        wire["storage"]["size"] = quantity.canonical(wire["storage"]["size"])
    return wire


def _without_defaults(value: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for key, item in value.items():
        standard = default.get(key)
        if isinstance(item, dict) and isinstance(standard, dict):
            item = _without_defaults(item, standard)
        # Deeper down an empty value has a meaning (a label selector `{}` is every pod), here it is nothing.
        if item != standard and item not in ({}, []):
            kept[key] = item
    return kept


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
