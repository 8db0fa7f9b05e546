"""The Mongo-like filters of searches and automations."""

from __future__ import annotations

from typing import Any

import pytest

from wandb_standin import filters
from wandb_standin.errors import RefusedError

FACTS = {"alias": ["production", "v3"], "name": "chat", "created_at": "2026-01-02", "metadata": {"eval": {"acc": 0.9}}}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({}, True),
        ({"alias": "production"}, True),
        ({"alias": "staging"}, False),
        ({"alias": {"$eq": "v3"}}, True),
        ({"alias": {"$ne": "v3"}}, False),
        ({"alias": {"$in": ["a", "v3"]}}, True),
        ({"alias": {"$nin": ["a", "v3"]}}, False),
        ({"name": {"$regex": "^ch"}}, True),
        ({"name": {"$contains": "at"}}, True),
        ({"nothing": {"$exists": False}}, True),
        ({"name": {"$not": {"$eq": "chat"}}}, False),
        ({"created_at": {"$gte": "2026-01-01", "$lt": "2026-01-02"}}, False),
        ({"metadata.eval.acc": {"$gt": 0.8}}, True),
        ({"$and": [{"name": "chat"}, {"alias": "v3"}]}, True),
        ({"$or": [{"name": "other"}, {"$and": [{"alias": "v3"}]}]}, True),
        ({"$or": []}, True),
        ({"$nor": [{"name": "chat"}]}, False),
        ({"$not": {"name": "chat"}}, False),
    ],
)
def test_a_condition_holds_or_does_not(condition: dict[str, Any], holds: bool) -> None:
    assert filters.matches(condition, FACTS) is holds


@pytest.mark.parametrize("condition", [{"$xor": []}, {"name": {"$like": "x"}}])
def test_an_unknown_operator_is_refused(condition: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="unknown filter operator"):
        filters.matches(condition, FACTS)


@pytest.mark.parametrize("text", ["[]", "{", '"x"'])
def test_a_filter_is_a_json_object(text: str) -> None:
    with pytest.raises(RefusedError, match="a filter is a JSON object"):
        filters.parse(text)
