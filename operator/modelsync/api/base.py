"""The base of every type of the resource: how it is serialized, and the string types that Kubernetes defines.

A field that the CRD does not have is rejected here too (`extra="forbid"`): a typo must not be ignored silently.
"""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema


class ApiModel(BaseModel):
    """A part of the resource: camelCase when serialized, no unknown fields, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
    )

    def wire(self) -> dict[str, Any]:
        """The JSON form for Kubernetes: camelCase, without fields that are not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(ApiModel):
    """A part of the status. Ignores unknown fields, so that it can read what a newer operator wrote."""

    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True)
class Schema:
    """Adds `keywords` to the JSON schema of the annotated type."""

    keywords: dict[str, Any] = field(hash=False)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), **self.keywords}


def cel(*rules: tuple[str, str]) -> Schema:
    """CEL rules with their error messages, for the API server to check."""
    return Schema({"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]})


@dataclass(frozen=True)
class Matches:
    """A string that must match `pattern`; the error shows `message` instead of the regular expression.

    `pattern` is anchored, means the same in Python and in CEL (RE2) and contains no single quote. Without `cel` the API
    server checks the schema's `pattern` and shows it in the error: map keys support nothing else, and in deeply nested
    lists a rule would exceed the API server's cost limit.
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
        # `$` would accept a trailing newline, which RE2 does not.
        if not re.fullmatch(self.pattern.removeprefix("^").removesuffix("$"), value):
            raise ValueError(f"{value!r} {self.message}")
        return value


def written_as(pattern: str, message: str) -> Matches:
    """`Matches` without CEL."""
    return Matches(pattern, message, cel=False)


def ordered() -> Schema:
    """A list that is replaced as a whole (`x-kubernetes-list-type: atomic`)."""
    return Schema({"x-kubernetes-list-type": "atomic"})


@dataclass(frozen=True)
class Unique:
    """A list without duplicates: a set of plain values, or objects identified by the fields `keys` (JSON names)."""

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
                raise ValueError(f"{shown!r} is listed twice; list each entry once")
            seen.add(identity)
        return items


Name = Annotated[
    str,
    Field(min_length=1, max_length=253),
    written_as(
        r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        "is not a valid Kubernetes object name; use lowercase letters, digits, - and .",
    ),
]
LabelKey = Annotated[
    str,
    Field(min_length=1, max_length=317),
    written_as(
        r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        "is not a valid Kubernetes key; write name or domain/name, where name has letters, digits, -, _ and .",
    ),
]
"""The key of a label, an annotation, a resource or a topology."""
LabelValue = Annotated[
    str,
    Field(max_length=63),
    written_as(
        r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$",
        "is not a valid label value; use letters, digits, -, _ and ., and begin and end with a letter or digit",
    ),
]
Short = Annotated[str, Field(max_length=512)]
"""A short string in the status, such as a name or a reason."""
