"""What every type of the resource has in common: how it is spelt on the wire, and the strings that Kubernetes knows.

A field that the CRD does not know is refused here too (`extra="forbid"`): a typing mistake must not be a no-op.
"""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

LABEL_KEY_PATTERN = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"

Name = Annotated[str, Field(min_length=1, max_length=253, pattern=NAME_PATTERN)]
"""Name of a Kubernetes object (DNS subdomain)."""

QualifiedName = Annotated[str, Field(min_length=1, max_length=317, pattern=LABEL_KEY_PATTERN)]
LabelKey = QualifiedName
LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE_PATTERN)]


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

    `pattern` is anchored and means the same to Python and to CEL (RE2); it holds no single quote.
    """

    pattern: str
    message: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        rule = {"rule": f"self.matches(r'{self.pattern}')", "message": self.message}
        found = handler(schema)
        return {**found, "x-kubernetes-validations": [*found.get("x-kubernetes-validations", []), rule]}

    def _checked(self, value: str) -> str:
        # `$` would let a line feed at the end through, which RE2 does not.
        if not re.fullmatch(self.pattern.removeprefix("^").removesuffix("$"), value):
            raise ValueError(f"{value!r} {self.message}")
        return value


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
