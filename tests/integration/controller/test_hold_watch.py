"""A hold on what serves acts although the spec's registry can no longer be queried, or is another one."""

from typing import Any

import pytest

from integration.controller.conftest import World, until
from modelsync.api import kinds
from wandb_standin import StandIn


async def serving(world: World) -> None:
    world.point(world.log())
    await world.give_credential()
    await world.deploy()
    await world.until_phase("Healthy")


async def edit(world: World, **spec: Any) -> None:
    await world.cluster.merge(kinds.MODEL_DEPLOYMENT, world.namespace, "chat", {"spec": spec})


async def held_and_released(world: World) -> None:
    """Set the hold where the version was pulled from, see it act, remove it there, and see it end."""
    world.admin.add_tag(f"{world.path}:v0", "regulatory-hold")
    await world.until_status("the hold", lambda status: status.get("holds"))
    await world.until_status(
        "no traffic for it", lambda status: [part["revision"] for part in status["traffic"]] == ["blocked"]
    )
    world.admin.remove_tag(f"{world.path}:v0", "regulatory-hold")
    await world.until_status("the hold is lifted", lambda status: not status.get("holds"))


async def test_with_a_key_that_the_server_does_not_accept(world: World) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)
        dead = world.secret(key="d" * 40)
        dead["metadata"]["name"] = "dead"
        await world.cluster.apply(kinds.SECRET, world.namespace, dead)
        await edit(world, registry={"auth": {"secretKeyRef": {"name": "dead", "key": "WANDB_API_KEY"}}})
        await world.until_message("ModelResolved", "Secret dead")
        await held_and_released(world)


async def test_with_a_secret_that_does_not_exist_and_a_long_poll_interval(world: World) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)
        auth = {"secretKeyRef": {"name": "nowhere", "key": "WANDB_API_KEY"}}
        await edit(world, registry={"auth": auth, "pollInterval": "2s"})
        await world.until_message("ModelResolved", "nowhere does not exist")
        await held_and_released(world)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"modelRef": "acme/wandb-registry-/chat:production"}, "spec.modelRef"),
        ({"registry": {"baseURL": "https://not-allowed.example.com"}}, "spec.registry.baseURL"),
        ({"registry": {"baseURL": "http://[1]"}}, "spec.registry.baseURL"),
    ],
    ids=["a reference that is none", "a server that is not allowed", "no server"],
)
async def test_with_a_spec_of_which_no_registry_may_be_queried(
    world: World, spec: dict[str, Any], message: str
) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)
        await edit(world, **spec)
        await world.until_message("Ready", message)
        await held_and_released(world)


async def test_with_another_allowed_server_that_has_the_same_bytes_without_the_mark(world: World) -> None:
    with StandIn(api_key=world.standin.api_key) as other:
        other.admin.log_artifact("acme", world.namespace, "another", {"a": b"shifts the ids"})
        content = {"model.safetensors": f"{world.namespace} first".encode()}
        other.admin.log_artifact("acme", world.namespace, "chat", content)
        other.admin.set_alias(f"{world.path}:v0", "production")
        async with world.operator(allowed_registries=(world.standin.url, other.url)), world.kubelet():
            await serving(world)
            await edit(world, registry={"baseURL": other.url})
            await world.until_message("ModelResolved", "the alias names v0")
            await held_and_released(world)


async def test_a_mark_holds_every_model_deployment_that_serves_the_same_bytes(world: World) -> None:
    twin = world.admin.log_artifact(
        "acme", world.namespace, "twin", {"model.safetensors": f"{world.namespace} first".encode()}
    )
    path = f"acme/{world.namespace}/twin:{twin.version}"
    world.admin.set_alias(path, "production")
    body = world.model_deployment(modelRef=f"acme/{world.namespace}/twin:production")
    body["metadata"]["name"] = "twin"
    body["spec"]["traffic"]["gateway"]["hostnames"] = [f"twin.{world.namespace}.example.com"]
    async with world.operator(), world.kubelet():
        await serving(world)
        await world.cluster.create(kinds.MODEL_DEPLOYMENT, world.namespace, body)

        async def twin_is_resolved() -> bool:
            found = await world.cluster.get(kinds.MODEL_DEPLOYMENT, world.namespace, "twin")
            return bool(found.get("status", {}).get("resolved"))

        await until("the twin is resolved", twin_is_resolved)
        world.admin.add_tag(path, "regulatory-hold")
        status = await world.until_status("the hold", lambda found: found.get("holds"))
        assert [hold["collection"] for hold in status["holds"]] == [f"acme/{world.namespace}/twin"]
        await world.until_status(
            "no traffic for it", lambda found: [part["revision"] for part in found["traffic"]] == ["blocked"]
        )
        world.admin.remove_tag(path, "regulatory-hold")
        await world.until_status("the hold is lifted", lambda found: not found.get("holds"))


async def test_after_a_restart_with_a_spec_that_is_invalid_meanwhile(world: World) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)
    await edit(world, modelRef="acme/wandb-registry-/chat:production")
    async with world.operator(), world.kubelet():
        await world.until_message("Ready", "spec.modelRef")
        await held_and_released(world)
