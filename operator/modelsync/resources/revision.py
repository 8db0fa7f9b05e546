"""The inputs of a revision, and its name, which contains a hash of them.

The hash covers everything that defines a pod: what was resolved, and `spec.serving` with the image filled in. It is
computed over canonical JSON: sorted keys, quantities as plain numbers, no values that equal their default. So `1000m`
instead of `1`, or an explicit default, does not change the name, and neither does an upgrade of the operator. The
fixtures in the tests are frozen: a change here that breaks one would restart every pod of every user.
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

_DIGEST = re.compile(r"[0-9a-f]{8,128}")

Digest = Annotated[str, Field(pattern=rf"^{_DIGEST.pattern}$")]
"""Digest of an artifact's manifest in hex, as in W&B. It becomes a folder name, so the pattern is strict."""


def is_digest(text: str) -> bool:
    """Whether `text` is a `Digest`."""
    return _DIGEST.fullmatch(text) is not None


class Artifact(ApiModel):
    """A resolved version, as a revision pins it."""

    entity: str
    project: str
    collection: str
    version: Annotated[str, Field(pattern=rf"^{_VERSION.pattern}$")]
    artifact_id: str
    digest: Digest
    size: Annotated[int, Field(ge=0)]
    """Total size of the files in bytes."""

    @property
    def ref(self) -> str:
        """`entity/project/collection:v7`."""
        return f"{self.entity}/{self.project}/{self.collection}:{self.version}"


class RevisionInputs(ApiModel):
    """Everything that a revision's name depends on. `serving.image` is always set."""

    version: Annotated[str, Field(pattern=rf"^{_VERSION.pattern}$")]
    digests: dict[str, Digest]
    """The digest of each resolved part, by key (`api.parts`)."""
    serving: Serving

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.serving.image is None:
            raise ValueError("the image must be filled in before a revision is named")
        for key in (MODEL, *self.serving.references):
            if key not in self.digests:
                raise ValueError(f"the digest of the {part_label(key)} must be resolved before a revision is named")
        return self

    @property
    def image(self) -> str:
        """The vLLM image."""
        return self.serving.image or ""

    @property
    def content(self) -> str:
        """Hash of what was resolved, without the spec: revisions with the same content differ only in their spec."""
        return hashlib.sha256(_json(self.digests)).hexdigest()[:16]


class PastRevision(Protocol):
    """The fields of a record that decide which image a spec without an image gets."""

    @property
    def inputs(self) -> RevisionInputs: ...
    @property
    def image_was_default(self) -> bool: ...
    @property
    def created(self) -> datetime: ...


def revision_name(inputs: RevisionInputs) -> str:
    """The revision's name, such as `v7-3fa9c1d2`: the version, and the hash of everything else."""
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
    """The inputs for the current spec of the ModelDeployment `name`, the model `artifact`, and `others` by key.

    If the spec does not set the image, it is taken from one of `records` with the same content and otherwise equal
    inputs, else it is the operator's default: a new default must not restart serving pods. Of several records, one
    whose spec did not set the image either comes first, then one with the default image, then the newest: an image
    that was tried and removed from the spec again must not stay.
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
    """The JSON form with plain numbers as quantities, without references, since their digests are hashed instead."""
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
        # Nested inside lists an empty value has a meaning (a label selector `{}` selects every pod); here it has none.
        if item != standard and item not in ({}, []):
            kept[key] = item
    return kept


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
