"""The conversion of pydantic's schema, and the rules for every type of the resource."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from modelsync.api.base import ApiModel, Unique, cel
from modelsync.api.crd import crd
from modelsync.api.duration import Between
from modelsync.api.schema import NotStructuralError, structural

FORBIDDEN = {
    "$ref", "$defs", "definitions", "dependencies", "deprecated", "discriminator", "id", "patternProperties", "title",
    "prefixItems", "readOnly", "writeOnly", "xml", "const", "examples", "if", "then", "else", "oneOf", "allOf", "not",
    "uniqueItems", "propertyNames", "exclusiveMinimum", "exclusiveMaximum",
}  # fmt: skip


def parts(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema nested in `schema`, with its path."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from parts(field, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "[*]")):
        if isinstance(schema.get(key), dict):
            yield from parts(schema[key], path + mark)


def resource() -> dict[str, Any]:
    (version,) = crd()["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def missing(wanted: Any) -> list[str]:
    """Paths below spec and status for which `wanted(part)` is false."""
    return [
        path
        for root in ("spec", "status")
        for path, part in parts(resource()["properties"][root], root)
        if not wanted(part)
    ]


def test_nothing_is_left_that_kubernetes_does_not_know() -> None:
    assert missing(lambda part: not FORBIDDEN & part.keys()) == []


def test_every_field_is_described() -> None:
    schema = resource()["properties"]
    undescribed = [
        f"{path}.{name}"
        for root in ("spec", "status")
        for path, part in parts(schema[root], root)
        for name, field in part.get("properties", {}).items()
        if not field.get("description")
    ]
    assert undescribed == []


def test_every_list_defines_how_it_is_merged_and_its_maximum_length() -> None:
    assert (
        missing(lambda part: part.get("type") != "array" or {"x-kubernetes-list-type", "maxItems"} <= part.keys()) == []
    )


def test_every_string_and_map_in_the_spec_is_bounded() -> None:
    def bounded(part: dict[str, Any]) -> bool:
        if part.get("type") == "string":
            return bool({"maxLength", "enum", "format"} & part.keys())
        return "additionalProperties" not in part or "maxProperties" in part

    assert missing(bounded) == []


def test_there_are_no_floats() -> None:
    assert missing(lambda part: part.get("type") != "number") == []


def test_the_only_default_is_that_of_replicas() -> None:
    assert missing(lambda part: "default" not in part) == ["spec.replicas"]


def test_no_reference_but_that_to_a_gateway_has_a_namespace() -> None:
    namespaced = [
        path
        for path, part in parts(resource()["properties"]["spec"], "spec")
        if "namespace" in part.get("properties", {})
    ]
    assert namespaced == ["spec.traffic.gateway.parentRefs[]"]


def test_every_cel_rule_has_a_sentence_of_its_own_that_fits_one_line() -> None:
    rules = [rule for _, part in parts(resource()) for rule in part.get("x-kubernetes-validations", [])]
    assert rules
    assert [rule for rule in rules if not rule.get("message") or "\n" in rule["message"]] == []


class Inner(ApiModel):
    """The inner type."""

    name: str = Field(description="A name.")


class Example(ApiModel):
    """The outer type."""

    choice: Literal["a"] = Field("a", description="One choice.")
    wait: Annotated[timedelta, Between("1s", "1h")] = Field(timedelta(seconds=90), description="A wait.")
    inner: Annotated[Inner, cel(("outer", "o"))] | None = Field(None, description="Something inside.")
    labels: Annotated[dict[Annotated[str, Field(pattern="^a$")], str], Field(max_length=3)] = Field(
        description="Labels."
    )
    items: Annotated[list[Inner], Unique(("name",))] = Field(description="Things.")


def test_rewrites_pydantics_schema_to_a_structural_schema() -> None:
    fields = structural(Example)["properties"]
    assert fields["choice"] == {"type": "string", "enum": ["a"], "description": "One choice. Default: a."}
    assert fields["wait"]["description"] == "A wait. Default: 1m30s."
    assert fields["inner"]["description"] == "Something inside."
    assert fields["inner"]["x-kubernetes-validations"] == [{"rule": "outer", "message": "o"}]
    assert "nullable" not in fields["inner"]
    assert fields["labels"] == {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "maxProperties": 3,
        "description": "Labels.",
    }
    assert fields["items"]["x-kubernetes-list-type"] == "map"
    assert fields["items"]["x-kubernetes-list-map-keys"] == ["name"]


class Recursive(ApiModel):
    """Contains itself."""

    child: "Recursive | None" = Field(None, description="Another.")


class Union(ApiModel):
    """A union."""

    either: int | str = Field(description="A number or a text.")


class Anything(ApiModel):
    """A map with values of any type."""

    values: dict[str, Any] = Field(description="Whatever.")


class Decimal(ApiModel):
    """Uses a keyword that Kubernetes does not support."""

    step: Annotated[int, Field(gt=0)] = Field(description="More than none.")


@pytest.mark.parametrize(
    ("model", "where"),
    [
        (Recursive, "Recursive.child: Recursive contains itself"),
        (Union, "Union.either: is a union"),
        (Anything, "Anything.values: is a map without a type of its values"),
        (Decimal, "Decimal.step: Kubernetes does not support exclusiveMinimum"),
    ],
)
def test_what_kubernetes_cannot_express_is_an_error_that_names_the_field(model: type[ApiModel], where: str) -> None:
    with pytest.raises(NotStructuralError, match=where):
        structural(model)
