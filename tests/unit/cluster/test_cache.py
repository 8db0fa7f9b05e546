"""The cache of watched objects: the newest version wins, deletions are matched by uid, rivals are found."""

from typing import Any

import pytest

from modelsync.api.kinds import DEPLOYMENT, HTTP_ROUTE, MODEL_DEPLOYMENT, Key
from modelsync.cluster.cache import Cache
from unit.observe.builders import live, model_deployment, spec

CHAT = Key("prod", "chat")


def child(version: int = 1, **metadata: Any) -> dict[str, Any]:
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "chat-v7", "namespace": "prod"}}
    labels = {"modelsync.dev/name": "chat"}
    return live(body, uid="uid-child", resourceVersion=str(version), labels=labels, **metadata)


def route(name: str = "other", hosts: tuple[str, ...] = ("chat.example.com",), **metadata: Any) -> dict[str, Any]:
    body = {
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "parentRefs": [{"name": "models", "namespace": "gateways"}],
            "hostnames": list(hosts),
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}]}],
        },
    }
    return live(body, **metadata)


def test_a_child_affects_the_model_deployment_in_its_name_label() -> None:
    cache = Cache()
    assert cache.put(DEPLOYMENT, child()) == {CHAT}
    assert [each["metadata"]["name"] for each in cache.children(CHAT, DEPLOYMENT)] == ["chat-v7"]


def test_an_unchanged_object_affects_nothing() -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, child(5))
    assert cache.put(DEPLOYMENT, child(5)) == set()


def test_an_older_event_does_not_replace_a_newer_write() -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, child(9, annotations={"is": "new"}))
    assert cache.put(DEPLOYMENT, child(8, annotations={"is": "old"})) == set()
    (kept,) = cache.children(CHAT, DEPLOYMENT)
    assert kept["metadata"]["annotations"] == {"is": "new"}


def test_a_recreated_object_replaces_the_old_one_although_its_version_is_smaller() -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, child(900))
    assert cache.put(DEPLOYMENT, child(5) | {"metadata": child(5)["metadata"] | {"uid": "uid-new"}}) == {CHAT}


def relabelled(version: int, name: str | None) -> dict[str, Any]:
    obj = child(version)
    obj["metadata"]["labels"] = {"modelsync.dev/name": name} if name is not None else {}
    return obj


@pytest.mark.parametrize("name", ["zzz", None], ids=["another name", "no name"])
def test_an_edit_of_the_label_moves_the_object(name: str | None) -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, child(1))
    other = {Key("prod", name)} if name is not None else set()
    assert cache.put(DEPLOYMENT, relabelled(2, name)) == {CHAT} | other
    assert cache.children(CHAT, DEPLOYMENT) == []
    assert CHAT not in cache.all_keys()
    assert [len(cache.children(key, DEPLOYMENT)) for key in other] == [1] * len(other)
    assert cache.put(DEPLOYMENT, child(3)) == {CHAT} | other, "and back"
    assert [key for key in cache.all_keys() if key != CHAT] == []


def test_an_object_is_removed_whatever_its_label_says_when_it_is_deleted() -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, child(1))
    assert CHAT in cache.put(DEPLOYMENT, relabelled(2, "zzz"), deleted=True)
    assert cache.children(CHAT, DEPLOYMENT) == []


def test_managed_fields_and_the_last_applied_configuration_are_not_kept() -> None:
    cache = Cache()
    note = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "1"}
    cache.put(DEPLOYMENT, child(managedFields=[{"manager": "x"}], annotations=note))
    (kept,) = cache.children(CHAT, DEPLOYMENT)
    assert "managedFields" not in kept["metadata"]
    assert kept["metadata"]["annotations"] == {"mine": "1"}


def test_returned_objects_are_copies() -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, child())
    cache.children(CHAT, DEPLOYMENT)[0]["metadata"]["name"] = "changed"
    assert cache.children(CHAT, DEPLOYMENT)[0]["metadata"]["name"] == "chat-v7"


def test_a_late_deletion_of_an_earlier_object_does_not_remove_a_new_one_with_the_same_name() -> None:
    cache = Cache()
    cache.put(MODEL_DEPLOYMENT, model_deployment(uid="uid-new"))
    cache.put(MODEL_DEPLOYMENT, model_deployment(uid="uid-old"), deleted=True)
    assert cache.owner(CHAT) is not None

    cache.put(MODEL_DEPLOYMENT, model_deployment(uid="uid-new"), deleted=True)
    assert cache.owner(CHAT) is None


def test_deleted_objects_are_pruned_and_newer_ones_stay() -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, child())
    before = cache.known(DEPLOYMENT, None)
    cache.put(MODEL_DEPLOYMENT, model_deployment())
    assert cache.prune(DEPLOYMENT, before) == {CHAT}
    assert cache.children(CHAT, DEPLOYMENT) == []
    assert cache.all_keys() == [CHAT]


def test_rivals_for_a_host_are_known_and_their_changes_affect_the_model_deployment() -> None:
    cache = Cache()
    cache.put(MODEL_DEPLOYMENT, model_deployment())
    assert cache.put(HTTP_ROUTE, route()) == {CHAT}
    assert cache.older_claims(CHAT) == [(HTTP_ROUTE, Key("shop", "other"))]

    moved = route(hosts=("shop.example.com",))
    assert cache.put(HTTP_ROUTE, moved) == {CHAT}, "the one that waited for the host must be queued"
    assert cache.older_claims(CHAT) == []
    assert cache.put(HTTP_ROUTE, moved, deleted=True) == set()


def test_two_model_deployments_on_one_host_are_rivals_until_one_goes() -> None:
    cache = Cache()
    cache.put(MODEL_DEPLOYMENT, model_deployment())
    rival = model_deployment("other", "shop", creationTimestamp="2020-01-01T00:00:00Z")
    assert CHAT in cache.put(MODEL_DEPLOYMENT, rival)
    assert cache.older_claims(CHAT) == [(MODEL_DEPLOYMENT, Key("shop", "other"))]
    assert CHAT in cache.put(MODEL_DEPLOYMENT, rival, deleted=True)
    assert cache.older_claims(CHAT) == []


def test_a_gateway_without_host_names_claims_all_of_the_listener() -> None:
    cache = Cache()
    parent = {"name": "models"}
    bare = spec(traffic={"gateway": {"parentRefs": [parent]}})
    cache.put(MODEL_DEPLOYMENT, model_deployment(spec=bare))
    cache.put(MODEL_DEPLOYMENT, model_deployment("other", spec=bare))
    assert cache.older_claims(Key("prod", "other")) == [(MODEL_DEPLOYMENT, CHAT)]
    assert cache.older_claims(CHAT) == []


def test_our_route_without_its_label_still_affects_the_model_deployment() -> None:
    cache = Cache()
    cache.put(MODEL_DEPLOYMENT, model_deployment())
    ours = live({"kind": "HTTPRoute", "metadata": {"name": "chat", "namespace": "prod"}, "spec": {}})
    assert CHAT in cache.put(HTTP_ROUTE, ours)
