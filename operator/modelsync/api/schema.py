"""Converts pydantic's JSON schema to a Kubernetes structural schema. A pure function of the types.

Kubernetes supports a subset of OpenAPI 3.0 and requires the type of every field exactly once. What it cannot express is
an error here and must never be dropped silently. Defaults become text in descriptions: the CRD has none (see `spec`).
"""

from collections.abc import Mapping
from copy import deepcopy
from datetime import timedelta
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from modelsync.api import duration

Schema: TypeAlias = dict[str, Any]

VALIDATIONS = "x-kubernetes-validations"
INT_OR_STRING = "x-kubernetes-int-or-string"
PRESERVE = "x-kubernetes-preserve-unknown-fields"

# Keys of maps are checked when the spec is read; Kubernetes has no keyword for them. The API server prunes unknown
# fields, or rejects them with fieldValidation=Strict, so additionalProperties=false has no counterpart either.
_DROPPED = {
    "title", "$defs", "examples", "propertyNames", "patternProperties", "const", "default", "additionalProperties",
}  # fmt: skip
_KEPT = {
    "type", "format", "description", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "multipleOf",
    "minItems", "maxItems", "minProperties", "maxProperties", "required", "properties", "items", "nullable",
}  # fmt: skip

_INT32_MAX = 2**31 - 1


class NotStructuralError(ValueError):
    """A type has no structural schema; the message says which part of it is the cause."""


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of `model`, with JSON field names. Raises NotStructuralError."""
    schema = model.model_json_schema(by_alias=True, mode="validation", schema_generator=WithDurations)
    return _walk(schema, schema.get("$defs", {}), (), model.__name__)


class WithDurations(GenerateJsonSchema):
    """Writes defaults that are durations as they are written in YAML."""

    def encode_default(self, dft: Any) -> Any:
        return duration.render(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def _walk(schema: Mapping[str, Any], defs: Mapping[str, Any], seen: tuple[str, ...], path: str) -> Schema:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        if name in seen:
            raise NotStructuralError(f"{path}: {name} contains itself, which Kubernetes cannot describe")
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return _walk(_joined(defs[name], beside), defs, (*seen, name), path)
    if "anyOf" in schema:
        given = [part for part in schema["anyOf"] if part.get("type") != "null"]
        if len(given) != 1:
            raise NotStructuralError(f"{path}: is a union; use optional fields and a CEL rule that exactly one is set")
        beside = {key: value for key, value in schema.items() if key != "anyOf"}
        return _walk(_joined(given[0], beside), defs, seen, path)
    result: Schema = {}
    for key, value in schema.items():
        if key in _KEPT or key.startswith("x-kubernetes-"):
            result[key] = deepcopy(value)
        elif key not in _DROPPED:
            raise NotStructuralError(f"{path}: Kubernetes does not support {key}")
    if "const" in schema:
        result["enum"] = [schema["const"]]
    if schema.get("default") not in (None, "", [], {}):
        result["description"] = _with_default(result.get("description", ""), schema["default"])
    values = schema.get("additionalProperties")
    if "patternProperties" in schema:
        (values,) = schema["patternProperties"].values()
    if isinstance(values, dict):
        result["additionalProperties"] = _walk(values, defs, seen, f"{path}[*]")
    elif values is True and "properties" not in schema:
        raise NotStructuralError(f"{path}: is a map without a type of its values")
    if "properties" in schema:
        result["properties"] = {
            key: _walk(value, defs, seen, f"{path}.{key}") for key, value in schema["properties"].items()
        }
    if "items" in schema:
        result["items"] = _walk(schema["items"], defs, seen, f"{path}[]")
    if result.get("type") == "integer":
        result.setdefault("format", "int32" if result.get("maximum", _INT32_MAX + 1) <= _INT32_MAX else "int64")
    if "type" not in result and INT_OR_STRING not in result:
        raise NotStructuralError(f"{path}: has no type")
    return result


def _joined(inner: Mapping[str, Any], outer: Mapping[str, Any]) -> Schema:
    """Keywords next to a reference override those of its target; the CEL rules of both apply."""
    joined = {**inner, **outer}
    if VALIDATIONS in inner and VALIDATIONS in outer:
        joined[VALIDATIONS] = [*inner[VALIDATIONS], *outer[VALIDATIONS]]
    return joined


def _with_default(description: str, default: Any) -> str:
    if isinstance(default, bool):
        default = str(default).lower()
    return f"{description} Default: {default}.".strip()
