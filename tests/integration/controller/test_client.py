"""Requests to a real API server: preconditions hold, errors have types, a status is replaced as a whole."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from integration.controller.conftest import World
from modelsync.api import kinds
from modelsync.api.kinds import Kind
from modelsync.cluster.client import Cluster
from modelsync.cluster.connection import connect
from modelsync.cluster.errors import (
    AlreadyExistsError,
    ConflictError,
    ConnectionConfigError,
    ForbiddenError,
    InvalidError,
    KindMissingError,
    NotFoundError,
    NotLeadingError,
    UnavailableError,
)


def service(namespace: str, port: int = 80, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "thing", "namespace": namespace, **metadata},
        "spec": {"ports": [{"port": port}]},
    }


async def test_applying_the_same_object_again_changes_nothing(cluster: Cluster, namespace: str) -> None:
    first = await cluster.apply(kinds.SERVICE, namespace, service(namespace))
    again = await cluster.apply(kinds.SERVICE, namespace, service(namespace), read=first)
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_a_write_that_was_decided_on_an_older_object_is_refused(cluster: Cluster, namespace: str) -> None:
    first = await cluster.apply(kinds.SERVICE, namespace, service(namespace))
    await cluster.apply(kinds.SERVICE, namespace, service(namespace, 81))
    with pytest.raises(ConflictError):
        await cluster.apply(kinds.SERVICE, namespace, service(namespace, 82), read=first)
    with pytest.raises(ConflictError):
        await cluster.delete(kinds.SERVICE, namespace, "thing", read=first)


async def test_a_write_that_was_decided_on_a_deleted_object_does_not_recreate_it(
    cluster: Cluster, namespace: str
) -> None:
    first = await cluster.apply(kinds.SERVICE, namespace, service(namespace))
    await cluster.delete(kinds.SERVICE, namespace, "thing", read=first)
    with pytest.raises(ConflictError):
        await cluster.apply(kinds.SERVICE, namespace, service(namespace), read=first)
    assert await cluster.find(kinds.SERVICE, namespace, "thing") is None


async def test_a_write_that_was_decided_on_an_earlier_object_of_that_name_is_refused(
    cluster: Cluster, namespace: str
) -> None:
    first = await cluster.apply(kinds.SERVICE, namespace, service(namespace))
    await cluster.delete(kinds.SERVICE, namespace, "thing")
    second = await cluster.apply(kinds.SERVICE, namespace, service(namespace))
    with pytest.raises(ConflictError):
        await cluster.apply(kinds.SERVICE, namespace, service(namespace, 81), read=first)
    with pytest.raises(ConflictError):
        await cluster.delete(kinds.SERVICE, namespace, "thing", uid=first["metadata"]["uid"])
    await cluster.delete(kinds.SERVICE, namespace, "thing", uid=second["metadata"]["uid"], grace=timedelta(seconds=1))


async def test_deleting_a_missing_object_is_no_error(cluster: Cluster, namespace: str) -> None:
    await cluster.delete(kinds.SERVICE, namespace, "never-was")


async def test_errors_have_types_and_contain_the_request(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(NotFoundError, match=f"get Service {namespace}/nope"):
        await cluster.get(kinds.SERVICE, namespace, "nope")
    with pytest.raises(KindMissingError):
        await cluster.list_all(Kind("nothing.example.com/v1", "Nothing", "nothings"), namespace)
    with pytest.raises(KindMissingError):
        await cluster.get(Kind("apps/v1", "Nothing", "nothings"), namespace, "x")
    with pytest.raises(InvalidError, match="Bad_Name"):
        await cluster.apply(kinds.SERVICE, namespace, service(namespace, name="Bad_Name"))
    await cluster.create(kinds.SERVICE, namespace, service(namespace))
    with pytest.raises(AlreadyExistsError):
        await cluster.create(kinds.SERVICE, namespace, service(namespace))


async def test_find_returns_none_for_a_missing_object_and_raises_for_a_missing_kind(
    cluster: Cluster, namespace: str
) -> None:
    assert await cluster.find(kinds.HTTP_ROUTE, namespace, "nope") is None
    with pytest.raises(KindMissingError):
        await cluster.find(Kind("nothing.example.com/v1", "Nothing", "nothings"), namespace, "nope")


async def test_a_namespace_that_is_being_deleted_counts_as_deleted(world: World) -> None:
    await world.deploy()
    metadata = {"metadata": {"finalizers": ["modelsync.test/wait"]}}
    await world.cluster.merge(kinds.MODEL_DEPLOYMENT, world.namespace, "chat", metadata)
    world.api.call("DELETE", f"/api/v1/namespaces/{world.namespace}")
    with pytest.raises(NotFoundError, match="being terminated"):
        await world.cluster.create(kinds.SERVICE, world.namespace, service(world.namespace))
    await world.cluster.merge(kinds.MODEL_DEPLOYMENT, world.namespace, "chat", {"metadata": {"finalizers": None}})


async def test_lists_are_read_in_pages_and_complete(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelsync.cluster.client.PAGE_SIZE", 2)
    for number in range(5):
        await cluster.create(kinds.SERVICE, namespace, service(namespace, name=f"thing-{number}", labels={"a": "b"}))
    found = await cluster.list_all(kinds.SERVICE, namespace, labels="a=b")
    assert sorted(kinds.name_of(obj) for obj in found) == [f"thing-{number}" for number in range(5)]
    assert {(obj["kind"], obj["apiVersion"]) for obj in found} == {("Service", "v1")}


async def test_a_status_is_replaced_as_a_whole_and_only_if_the_object_has_not_changed(world: World) -> None:
    made = await world.deploy()
    first = await world.cluster.replace_status(
        kinds.MODEL_DEPLOYMENT, made, {"phase": "Pending", "url": "http://x", "promoted": ["v1-aaaaaaaa"]}
    )
    second = await world.cluster.replace_status(kinds.MODEL_DEPLOYMENT, first, {"phase": "Healthy"})
    assert second["status"] == {"phase": "Healthy"}
    assert second["spec"] == made["spec"]
    assert second["metadata"]["generation"] == made["metadata"]["generation"]
    with pytest.raises(ConflictError):
        await world.cluster.replace_status(kinds.MODEL_DEPLOYMENT, first, {"phase": "Pending"})


async def test_a_merge_never_creates(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(NotFoundError):
        await cluster.merge(kinds.SERVICE, namespace, "nope", {"metadata": {"annotations": {"a": "b"}}})


async def test_no_write_is_sent_when_the_fence_raises(cluster: Cluster, namespace: str) -> None:
    def fence() -> None:
        raise NotLeadingError("we do not lead")

    fenced = cluster.fenced(fence)
    for write in (
        fenced.apply(kinds.SERVICE, namespace, service(namespace)),
        fenced.create(kinds.SERVICE, namespace, service(namespace)),
        fenced.delete(kinds.SERVICE, namespace, "thing"),
        fenced.merge(kinds.SERVICE, namespace, "thing", {}),
        fenced.replace(kinds.SERVICE, namespace, service(namespace)),
    ):
        with pytest.raises(NotLeadingError):
            await write
    assert await fenced.list_all(kinds.SERVICE, namespace) == []


async def test_an_account_without_rights_and_a_wrong_token_are_forbidden(namespace: str) -> None:
    connection = await connect()
    connection._configuration.api_key["BearerToken"] = "Bearer wrong"
    client = Cluster(connection.client())
    with pytest.raises(ForbiddenError, match="does not accept the credentials"):
        await client.get(kinds.SERVICE, namespace, "x")
    await client.close()


async def test_the_error_for_an_unreachable_api_server_has_its_address(namespace: str) -> None:
    connection = await connect()
    connection._configuration.host = "https://127.0.0.1:1"
    client = Cluster(connection.client())
    with pytest.raises(UnavailableError, match=r"cannot be reached: 127\.0\.0\.1:1"):
        await client.get(kinds.SERVICE, namespace, "x")
    await client.close()


async def test_a_missing_or_invalid_kubeconfig_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConnectionConfigError, match="there is no such file"):
        await connect(tmp_path / "nothing")
    broken = tmp_path / "config"
    broken.write_text("clusters: [")
    with pytest.raises(ConnectionConfigError, match="cannot be used"):
        await connect(broken)
    broken.write_text("just text")
    with pytest.raises(ConnectionConfigError, match="cannot be used"):
        await connect(broken)
