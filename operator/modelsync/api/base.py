"""What every type of the resource has in common: how it is spelt on the wire, and the strings that Kubernetes knows.

A field that the CRD does not know is refused here too (`extra="forbid"`): a typing mistake must not be a no-op.
"""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema


class ApiModel(BaseModel):
    """A part of the resource: camelCase on the wire, unknown fields refused, never changed once read."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
    )

    def wire(self) -> dict[str, Any]:
        """As Kubernetes would have it: camelCase, what is not set left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(ApiModel):
    """A part of the status: reads what a newer operator wrote by leaving out what it does not know."""

    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True)
class Schema:
    """Adds `keywords` to the JSON schema of what it annotates."""

    keywords: dict[str, Any] = field(hash=False)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), **self.keywords}


def cel(*rules: tuple[str, str]) -> Schema:
    """CEL rules, each with the sentence for whoever broke it; the apiserver judges them."""
    return Schema({"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]})


@dataclass(frozen=True)
class Matches:
    """A string of one form, with a sentence of our own instead of the regular expression for whoever missed it.

    `pattern` is anchored and means the same to Python and to CEL (RE2); it holds no single quote. Without `cel` the
    apiserver judges by the schema's `pattern`, and answers with it: keys of maps know nothing else, and deep in nested
    lists a rule would cost more than the apiserver allows.
    """

    pattern: str
    message: str
    cel: bool = True

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = handler(schema)
        if not self.cel:
            return {**found, "pattern": self.pattern}
        rule = {"rule": f"self.matches(r'{self.pattern}')", "message": self.message}
        return {**found, "x-kubernetes-validations": [*found.get("x-kubernetes-validations", []), rule]}

    def _checked(self, value: str) -> str:
        # `$` would let a line feed at the end through, which RE2 does not.
        if not re.fullmatch(self.pattern.removeprefix("^").removesuffix("$"), value):
            raise ValueError(f"{value!r} {self.message}")
        return value


def written_as(pattern: str, message: str) -> Matches:
    """`Matches` without CEL."""
    return Matches(pattern, message, cel=False)


def ordered() -> Schema:
    """A list that is one value: a writer replaces it whole (`x-kubernetes-list-type: atomic`)."""
    return Schema({"x-kubernetes-list-type": "atomic"})


@dataclass(frozen=True)
class Unique:
    """A list without repetition: a set of plain values, or objects told apart by the fields `keys` (wire names)."""

    keys: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = handler(schema)
        if self.keys:
            return {**found, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(self.keys)}
        return {**found, "x-kubernetes-list-type": "set"}

    def _checked(self, items: list[Any]) -> list[Any]:
        seen = set()
        for item in items:
            wire = item.wire() if isinstance(item, ApiModel) else {}
            identity = tuple(wire.get(key) for key in self.keys) if self.keys else item
            if identity in seen:
                shown = ", ".join(map(str, identity)) if self.keys else item
                raise ValueError(f"{shown!r} is there twice; each may be there once")
            seen.add(identity)
        return items


Name = Annotated[
    str,
    Field(min_length=1, max_length=253),
    written_as(
        r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "is no name of a Kubernetes object; use small letters, digits, - and ."
    ),
]
LabelKey = Annotated[
    str,
    Field(min_length=1, max_length=317),
    written_as(
        r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        "is no key of Kubernetes' kind; write name or domain/name, the name with letters, digits, -, _ and .",
    ),
]
"""Of a label, an annotation, a resource or a topology."""
LabelValue = Annotated[
    str,
    Field(max_length=63),
    written_as(
        r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$",
        "is no label's value; use letters, digits, -, _ and ., with a letter or digit at both ends",
    ),
]
Short = Annotated[str, Field(max_length=512)]
"""A word or a name in the status."""
