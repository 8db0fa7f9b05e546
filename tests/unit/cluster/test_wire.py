"""What others nest too deeply becomes null where the API server's answers are read, and hides nothing else."""

import json
from typing import Any

import pytest

from modelsync.api.kinds import CONTROLLER_REVISION, Key
from modelsync.cluster import wire
from modelsync.cluster.cache import Cache

DEEP = "[" * 9000 + "]" * 9000


def test_of_a_list_only_the_value_that_is_nested_too_deeply_is_lost() -> None:
    deep = f'{{"metadata": {{"name": "deep"}}, "data": {{"x": {DEEP}, "y": 1}}}}'
    text = f'{{"items": [{deep}, {{"metadata": {{"name": "b"}}}}]}}'
    with pytest.raises(RecursionError):
        json.loads(text)
    first, second = wire.parse(text.encode())["items"]
    assert first["metadata"]["name"] == "deep"
    assert first["data"]["y"] == 1
    assert second == {"metadata": {"name": "b"}}


def test_a_line_of_a_watch_is_changed_only_if_it_is_nested_too_deeply() -> None:
    plain = json.dumps({"object": {"metadata": {"name": "x", "annotations": {"a": "[" * 5000}}}}).encode()
    assert wire.bounded_line(plain) is plain
    deep = f'{{"type": "ADDED", "object": {{"data": {DEEP}, "kind": "x"}}}}'.encode()
    found = json.loads(wire.bounded_line(deep))
    assert (found["type"], found["object"]["kind"]) == ("ADDED", "x")


@pytest.mark.parametrize("text", ["[" * 5000, '{"a":' * 5000, "]" * 5000])
def test_brackets_that_do_not_match_are_no_answer(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        wire.parse(text.encode())


@pytest.mark.parametrize("depth", [150, 500, 5000])
def test_of_an_object_that_is_nested_too_deeply_the_cache_keeps_whose_it_is(depth: int) -> None:
    value: Any = []
    for _ in range(depth):
        value = [value]
    wide: list[Any] = [[] for _ in range(500)]
    owner = {"uid": "uid-chat", "controller": True, "kind": "ModelDeployment"}
    metadata = {
        "name": "chat-v7-00000000",
        "namespace": "prod",
        "uid": "u",
        "resourceVersion": "5",
        "labels": {"modelsync.dev/name": "chat"},
        "ownerReferences": [owner],
    }
    cache = Cache()
    assert cache.put(CONTROLLER_REVISION, {"metadata": metadata, "data": {"deep": value, "wide": wide}}) == {
        Key("prod", "chat")
    }
    (kept,) = cache.children(Key("prod", "chat"), CONTROLLER_REVISION)
    assert kept["metadata"]["labels"] == {"modelsync.dev/name": "chat"}
    assert kept["metadata"]["ownerReferences"][0]["uid"] == "uid-chat"
    assert "data" not in kept
