"""An error of the server beside an answer may have left out a mark: what is there counts, and is not called whole."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from modelsync.registry.errors import GraphQLError
from modelsync.registry.graphql import GraphQL, Response
from modelsync.registry.model import CollectionRead, Question, Reading, Resolved
from modelsync.registry.resolver import Resolver
from unit.registry.facts import CHAT, T0
from unit.registry.test_wire import home, membership

REF = CHAT.at("production")


class Answer:
    """A server that has one answer for the reference and its collection, with `errors` beside it."""

    base_url = "https://wandb.example.com"

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        end = {"pageInfo": {"hasNextPage": False, "endCursor": None}, "edges": [{"node": {"alias": "production"}}]}
        self.data = {"p0": {"f0": membership(), "f1": home(CHAT.collection, CHAT.project) | {"aliases": end}}}
        self._errors = tuple(errors)

    async def execute(self, query: str, variables: Mapping[str, Any], *, operation: str) -> Response:
        return Response(self.data, self._errors, 200, T0, T0)

    async def read(self) -> Reading:
        return await Resolver().read(cast(GraphQL, self), [Question(refs=frozenset({REF}))])


@pytest.mark.parametrize(
    ("error", "artifact", "collection"),
    [
        (GraphQLError("timeout", path=("p0", "f0", "artifact", "artifactMemberships", "edges", 3)), False, True),
        (GraphQLError("timeout", path=("p0", "f1", "tags")), True, False),
        (GraphQLError("timeout", path=("p0",)), False, False),
        (GraphQLError("timeout"), False, False),
        (GraphQLError("permission denied", path=("p0", "f0", "artifact", "artifactSequence", "project")), True, True),
        (GraphQLError("project not found", path=("p0", "f0", "artifact", "artifactMemberships", "edges")), True, True),
    ],
)
async def test_what_an_error_concerns_is_not_whole(error: GraphQLError, artifact: bool, collection: bool) -> None:
    reading = await Answer([error]).read()
    resolved, read = reading.refs[REF], reading.collections[CHAT]
    assert isinstance(resolved, Resolved)
    assert isinstance(read, CollectionRead)
    assert (resolved.artifact.whole, read.whole) == (artifact, collection)
