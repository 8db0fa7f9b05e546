"""GraphQL over HTTP: validates each request against the schema, runs it, and answers with W&B's status codes.

Parsed and validated documents are cached, so that a poller's repeated query only costs its execution.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any, Final, TypeGuard

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentSpreadNode,
    GraphQLAbstractType,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    build_schema,
    execute,
    get_operation_ast,
    parse,
    validate,
)

from wandb_standin import fields  # noqa: F401 (it registers the resolvers)
from wandb_standin.context import Context
from wandb_standin.errors import RefusedError
from wandb_standin.fields.registry import RESOLVERS, Resolver
from wandb_standin.model import Collection, Entity, Project, Run, User

MAX_CACHED_DOCUMENTS: Final = 512


@dataclass(frozen=True)
class Request:
    """A valid request. `operation` is the client's name for it, or its first field."""

    document: DocumentNode
    variables: dict[str, Any]
    operation: str
    operation_name: str | None
    lookups: int


@dataclass(frozen=True)
class Answer:
    """HTTP status and the body, to be sent as JSON."""

    status: int
    body: dict[str, Any]


class GraphQL:
    """The endpoint without its transport."""

    def __init__(self, lacking: frozenset[str] = frozenset()) -> None:
        """`lacking`: see `build`."""
        self._schema = build(lacking)
        self._documents: OrderedDict[str, DocumentNode | Answer] = OrderedDict()

    def read(self, body: object) -> Request | Answer:
        """Check a request against the schema; an `Answer` is the refusal (HTTP 400 and `errors`)."""
        if not isinstance(body, dict) or not isinstance(body.get("query"), str):
            return _refuse('the body is a JSON object with a "query"')
        variables = body.get("variables") or {}
        operation_name = body.get("operationName") or None
        if not isinstance(variables, dict) or not isinstance(operation_name, str | None):
            return _refuse('"variables" is an object and "operationName" a string')
        document = self._document(body["query"])
        if isinstance(document, Answer):
            return document
        operation = get_operation_ast(document, operation_name)
        if operation is None:
            return _refuse(f"no operation {operation_name!r} in the document")
        name = operation.name.value if operation.name else _first_field(operation)
        return Request(document, variables, name, operation_name, _count_lookups(document, operation))

    def run(self, request: Request, context: Context) -> Answer:
        """Execute. When single fields are refused, the others are still in `data`, and `errors` has the `path`s."""
        result = execute(
            self._schema,
            request.document,
            variable_values=request.variables,
            operation_name=request.operation_name,
            context_value=context,
            field_resolver=_read_field,
            type_resolver=_type_of,
            is_awaitable=_never,
        )
        if not isinstance(result, ExecutionResult):
            raise TypeError("a resolver of this schema must not be asynchronous")
        if not result.errors:
            return Answer(200, {"data": result.data})
        errors = [_shown(error) for error in result.errors]
        if result.data is None and all(error.path is None for error in result.errors):
            return Answer(400, {"errors": errors})
        return Answer(_status(result.errors), {"errors": errors, "data": result.data})

    def _document(self, query: str) -> DocumentNode | Answer:
        known = self._documents.get(query)
        if known is None:
            known = self._checked(query)
            self._documents[query] = known
            if len(self._documents) > MAX_CACHED_DOCUMENTS:
                self._documents.popitem(last=False)
        else:
            self._documents.move_to_end(query)
        return known

    def _checked(self, query: str) -> DocumentNode | Answer:
        try:
            document = parse(query)
        except GraphQLError as error:
            return Answer(400, {"errors": [error.formatted]})
        errors = validate(self._schema, document)
        return Answer(400, {"errors": [dict(error.formatted) for error in errors]}) if errors else document


@cache
def build(lacking: frozenset[str] = frozenset()) -> GraphQLSchema:
    """The schema with its resolvers; shared by all servers of the process, since it holds no state.

    Args:
        lacking: what an older server does not have: `Type.field`, or `Type.field(argument)`.

    Raises:
        LookupError: a resolver is for a field that the schema does not have, or nothing has the name of `lacking`.
    """
    schema = build_schema(resources.files(__package__).joinpath("schema.graphql").read_text())
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLInputObjectType):
            for name, input_field in kind.fields.items():
                input_field.out_name = snake_case(name)
        elif isinstance(kind, GraphQLObjectType | GraphQLInterfaceType) and not kind.name.startswith("__"):
            for field in kind.fields.values():
                for name, argument in field.args.items():
                    argument.out_name = snake_case(name)
    for (type_name, field_name), function in RESOLVERS.items():
        owner = schema.type_map.get(type_name)
        if not isinstance(owner, GraphQLObjectType) or field_name not in owner.fields:
            raise LookupError(f"no field {type_name}.{field_name} in the schema")
        owner.fields[field_name].resolve = _adapted(function)
    _scalar(schema, "DateTime").coerce_output_value = _show_time
    _scalar(schema, "Int64").coerce_output_value = _show_integer
    for part in lacking:
        _remove(schema, part)
    return schema


def _remove(schema: GraphQLSchema, part: str) -> None:
    owner_name, _, rest = part.partition(".")
    field_name, _, argument = rest.rstrip(")").partition("(")
    owner = schema.type_map.get(owner_name)
    owners = [owner]
    if isinstance(owner, GraphQLInterfaceType):
        owners += schema.get_implementations(owner).objects
    for each in owners:
        found = each.fields if isinstance(each, GraphQLObjectType | GraphQLInterfaceType) else {}
        if field_name not in found or (argument and argument not in found[field_name].args):
            raise LookupError(f"no {part} in the schema; write Type.field or Type.field(argument)")
        if argument:
            del found[field_name].args[argument]
        else:
            del found[field_name]


@cache
def snake_case(name: str) -> str:
    """`artifactManifestID` -> `artifact_manifest_id`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _scalar(schema: GraphQLSchema, name: str) -> GraphQLScalarType:
    kind = schema.type_map[name]
    if not isinstance(kind, GraphQLScalarType):
        raise LookupError(f"{name} is not a scalar of the schema")
    return kind


def _show_time(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")


def _show_integer(value: float) -> int:
    return int(value)


def _adapted(function: Resolver) -> Callable[..., Any]:
    def resolve(source: Any, info: GraphQLResolveInfo[Context], **arguments: Any) -> Any:
        return function(source, info.context, **arguments)

    return resolve


def _read_field(source: Any, info: GraphQLResolveInfo[Context], **arguments: Any) -> Any:
    """The key or attribute with the field's name; if it is a function, its result."""
    if not isinstance(source, dict):
        return getattr(source, snake_case(info.field_name))
    value = source.get(info.field_name)
    return value(info, **arguments) if callable(value) else value


def _never(value: object) -> TypeGuard[Awaitable[Any]]:
    """No resolver here is asynchronous; checking each value would cost a tenth of the time."""
    return False


def _status(errors: list[GraphQLError]) -> int:
    """The status of the first error: a refusal's own, or 500 for a failure of this server."""
    first = errors[0].original_error
    return first.status if isinstance(first, RefusedError) else 500


def _shown(error: GraphQLError) -> dict[str, Any]:
    """An error in W&B's form: message, path and code, no locations."""
    cause = error.original_error
    if isinstance(cause, RefusedError):
        shown = cause.as_json()
    elif cause is not None and not isinstance(cause, GraphQLError):
        shown = {"message": f"the stand-in failed: {type(cause).__name__}: {cause}"}
    else:
        shown = {"message": error.message}
    return shown | ({"path": error.path} if error.path is not None else {})


def _type_of(value: Any, info: GraphQLResolveInfo[Context], abstract: GraphQLAbstractType) -> str:
    if isinstance(value, Collection):
        return value.kind
    if isinstance(value, Run | User | Project | Entity):
        return type(value).__name__
    name = getattr(value, "graphql_type", None) or (value.get("__typename") if isinstance(value, dict) else None)
    if not isinstance(name, str):
        raise TypeError(f"{value!r} is not a {abstract.name}")
    return name


def _refuse(message: str) -> Answer:
    return Answer(400, {"errors": [{"message": message}]})


def _first_field(operation: OperationDefinitionNode) -> str:
    names = [s.name.value for s in operation.selection_set.selections if isinstance(s, FieldNode)]
    return names[0] if names else operation.operation.value


def _count_lookups(document: DocumentNode, operation: OperationDefinitionNode) -> int:
    """The number of registry references in the request, which a limit on batches counts."""
    fragments = {d.name.value: d.selection_set for d in document.definitions if hasattr(d, "type_condition")}  # type: ignore[attr-defined]

    def count(selections: SelectionSetNode, depth: int) -> int:
        total = 0
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                if selection.name.value in ("artifactCollectionMembership", "artifactMembership"):
                    total += 1
                elif selection.selection_set and depth:
                    total += count(selection.selection_set, depth - 1)
            elif isinstance(selection, InlineFragmentNode):
                total += count(selection.selection_set, depth)
            elif isinstance(selection, FragmentSpreadNode):
                total += count(fragments[selection.name.value], depth)
        return total

    return count(operation.selection_set, 2)
