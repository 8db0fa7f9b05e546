"""A hold acts on what serves although no plan is made for it: being deleted, orphaned, or with an unreadable spec."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import structlog

from integration.controller.conftest import World, until
from modelsync.api import kinds, names
from modelsync.api.registry import Registry
from modelsync.api.settings import OwnRegistry

HOLD = "regulatory-hold"
KEPT = "modelsync.test/kept"
OWNED = (
    kinds.CONTROLLER_REVISION,
    kinds.DEPLOYMENT,
    kinds.SERVICE,
    kinds.HTTP_ROUTE,
    kinds.POD_DISRUPTION_BUDGET,
    kinds.SECRET,
)


async def serving(world: World) -> None:
    world.point(world.log())
    await world.give_credential()
    await world.deploy()
    await world.until_phase("Healthy")


async def orphan_all(world: World) -> None:
    """Do what the garbage collector does for `kubectl delete --cascade=orphan`; itself it may take a minute here."""
    owner = (kinds.MODEL_DEPLOYMENT, world.namespace, "chat")
    await world.cluster.merge(*owner, {"metadata": {"finalizers": [KEPT]}})
    await world.cluster.delete(*owner)
    for kind in OWNED:
        for child in await world.cluster.list_all(kind, world.namespace, labels=names.NAME_LABEL):
            await world.cluster.merge(
                kind, world.namespace, kinds.name_of(child), {"metadata": {"ownerReferences": None}}
            )
    await world.cluster.merge(*owner, {"metadata": {"finalizers": None}})
    assert await world.cluster.find(*owner) is None


async def silent(world: World) -> None:
    """Wait until nothing of the version can be reached."""

    async def unreachable() -> bool:
        service = await world.cluster.find(kinds.SERVICE, world.namespace, "chat")
        selected = service["spec"]["selector"][names.REVISION_LABEL] if service else names.BLOCKED
        return selected == names.BLOCKED and await world.weights() == {"blocked": 1} and not await world.pods()

    await until("nothing serves", unreachable)
    deployments = await world.cluster.list_all(kinds.DEPLOYMENT, world.namespace, labels=names.NAME_LABEL)
    assert [each["spec"]["replicas"] for each in deployments] == [0]


async def events(world: World) -> list[str]:
    return [each["note"] for each in await world.cluster.list_all(kinds.EVENT, world.namespace) if each.get("note")]


@asynccontextmanager
async def being_deleted(world: World) -> AsyncIterator[None]:
    """A finalizer of somebody else keeps the ModelDeployment, and with it its children."""
    place = (kinds.MODEL_DEPLOYMENT, world.namespace, "chat")
    await world.cluster.merge(*place, {"metadata": {"finalizers": [KEPT]}})
    await world.cluster.delete(*place)
    try:
        yield
    finally:
        await world.cluster.merge(*place, {"metadata": {"finalizers": None}})


async def test_a_hold_acts_while_the_model_deployment_is_being_deleted(world: World) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)
        async with being_deleted(world):
            world.admin.add_tag(f"{world.path}:v0", HOLD)
            await silent(world)
            assert any(f"{world.path}:v0 must not serve" in note for note in await events(world))


async def test_a_hold_acts_on_orphans(world: World) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)
        await orphan_all(world)
        world.admin.add_tag(f"{world.path}:v0", HOLD)
        await silent(world)
        assert any(f"{world.path}:v0 must not serve" in note for note in await events(world))


async def test_the_garbage_collector_can_orphan_everything(world: World) -> None:
    """As `kubectl delete --cascade=orphan` does. A record whose bytes are not the API server's own would stop it."""
    async with world.operator(), world.kubelet():
        await serving(world)
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"}
        world.api.call("DELETE", kinds.MODEL_DEPLOYMENT.path(world.namespace, "chat"), body)

        async def gone() -> bool:
            return await world.cluster.find(kinds.MODEL_DEPLOYMENT, world.namespace, "chat") is None

        # The garbage collector looks for new kinds twice a minute.
        await until("the ModelDeployment is gone", gone, seconds=90)
        assert not [name for name, obj in (await world.objects()).items() if kinds.controller_of(obj) is not None]
        assert (await world.weights())["v0"] == 100


async def test_a_hold_acts_on_orphans_without_a_record_after_a_restart(world: World) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)
    await orphan_all(world)
    for record in await world.cluster.list_all(kinds.CONTROLLER_REVISION, world.namespace, labels=names.NAME_LABEL):
        await world.cluster.delete(kinds.CONTROLLER_REVISION, world.namespace, record["metadata"]["name"])
    world.admin.add_tag(f"{world.path}:v0", HOLD)
    async with world.operator(), world.kubelet():
        await silent(world)


async def test_orphans_are_adopted_and_go_on_serving_while_the_alias_names_another_version(world: World) -> None:
    async with world.operator(), world.kubelet(silent="v1"):
        await serving(world)
        before = {pod["metadata"]["uid"] for pod in await world.pods()}
        await orphan_all(world)
        world.point(world.log("second"))
        made = await world.deploy()
        status = await world.until_status("v1 is being started", lambda found: found.get("canary"))
        assert [each.partition("-")[0] for each in status["promoted"]] == ["v0"]
        assert await world.weights() == {"v0": 100}
        assert before == {pod["metadata"]["uid"] for pod in await world.pods("v0")}, "no pod was restarted"
        owned = {name: kinds.controller_uid(obj) for name, obj in (await world.objects()).items()}
        assert {owner for name, owner in owned.items() if "chat" in name and "ModelDeployment" not in name} == {
            made["metadata"]["uid"]
        }
        world.admin.add_tag(f"{world.path}:v0", HOLD)
        await world.until_status("the hold", lambda found: found.get("holds"))

        async def blocked() -> bool:
            return "v0" not in await world.weights() and not await world.pods("v0")

        await until("v0 does not serve", blocked)


async def test_an_orphan_that_does_not_verify_is_left_alone_but_a_hold_acts_on_it(world: World) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)
    await orphan_all(world)
    (deployment,) = await world.cluster.list_all(kinds.DEPLOYMENT, world.namespace, labels=names.NAME_LABEL)
    name = deployment["metadata"]["name"]
    container = {
        "name": deployment["spec"]["template"]["spec"]["containers"][0]["name"],
        "env": [{"name": "LOGNAME", "value": "edited"}],
    }
    world.api.call(
        "PATCH",
        kinds.DEPLOYMENT.path(world.namespace, name),
        {"spec": {"template": {"spec": {"containers": [container]}}}},
        content_type="application/strategic-merge-patch+json",
    )
    world.point(world.log("second"))
    async with world.operator(), world.kubelet():
        await world.deploy()
        await world.until_message("Ready", f"Deployment {world.namespace}/{name} already exists and is not owned by")
        assert (await world.weights())["v0"] == 100, "it goes on serving until a person decides"
        kept = await world.cluster.get(kinds.DEPLOYMENT, world.namespace, name)
        assert kinds.controller_of(kept) is None
        world.admin.add_tag(f"{world.path}:v0", HOLD)

        async def scaled_down() -> bool:
            found = await world.cluster.get(kinds.DEPLOYMENT, world.namespace, name)
            gone = not await world.pods("v0") and "v0" not in await world.weights()
            return gone and found["spec"]["replicas"] == 0

        await until("the orphan does not run", scaled_down)


async def test_a_hold_acts_when_planning_raises(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a defect")

    with structlog.testing.capture_logs() as lines:
        async with world.operator(), world.kubelet():
            await serving(world)
            monkeypatch.setattr("modelsync.controller.reconciler.gather", broken)
            world.admin.add_tag(f"{world.path}:v0", HOLD)
            await silent(world)
            monkeypatch.undo()
    assert "reconcile.failed" in {line["event"] for line in lines}


def own_registry(world: World, **parts: Any) -> dict[str, Any]:
    auth = {"secretKeyRef": {"name": "operators", "key": "WANDB_API_KEY"}}
    return {"baseURL": world.standin.url, "auth": auth, **parts}


async def test_the_operators_own_credential_sees_a_hold_that_no_other_credential_can(world: World) -> None:
    own = world.secret()
    own["metadata"]["name"] = "operators"
    await world.cluster.apply(kinds.SECRET, world.namespace, own)
    async with world.operator(registries=(OwnRegistry.model_validate(own_registry(world)),)), world.kubelet():
        await serving(world)
        await world.cluster.delete(kinds.SECRET, world.namespace, "wandb")
        await world.until_message("ModelResolved", "wandb")
        world.admin.add_tag(f"{world.path}:v0", HOLD)
        await world.until_status("the hold", lambda status: status.get("holds"))


async def test_the_operators_own_credential_resolves_what_is_listed_for_the_namespace(world: World) -> None:
    own = world.secret()
    own["metadata"]["name"] = "operators"
    await world.cluster.apply(kinds.SECRET, world.namespace, own)
    default = Registry.model_validate(
        {"baseURL": world.standin.url, "auth": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}}}
    )
    rule = {"namespaces": [world.namespace], "projects": [f"acme/{world.namespace}"]}
    listed = OwnRegistry.model_validate(own_registry(world, pollInterval="1s", resolveFor=[rule]))
    world.point(world.log())
    body = world.model_deployment()
    del body["spec"]["registry"]
    async with world.operator(registry=default, registries=(listed,)), world.kubelet():
        await world.cluster.create(kinds.MODEL_DEPLOYMENT, world.namespace, body)
        await world.until_phase("Healthy")
        await world.cluster.merge(
            kinds.MODEL_DEPLOYMENT, world.namespace, "chat", {"spec": {"modelRef": "acme/elsewhere/chat:production"}}
        )
        await world.until_message("ModelResolved", "wandb")


async def test_a_spec_cannot_make_the_watch_slower_than_the_administrator_wants(world: World) -> None:
    hold = world.settings.hold.model_copy(update={"poll_interval": timedelta(seconds=1)})
    async with world.operator(hold=hold), world.kubelet():
        world.point(world.log())
        await world.give_credential()
        await world.deploy(registry=world.model_deployment()["spec"]["registry"] | {"pollInterval": "1h"})
        await world.until_phase("Healthy")
        world.admin.add_tag(f"{world.path}:v0", HOLD)
        await world.until_status("the hold", lambda status: status.get("holds"))
