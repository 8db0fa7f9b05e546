"""A ModelDeployment without a registry uses the administrator's default, also after the default has changed."""

from typing import Any

from integration.controller.conftest import World
from modelsync.api import kinds
from modelsync.api.registry import Registry
from wandb_standin import StandIn


async def deploy_without_registry(world: World) -> Registry:
    """Return the registry that was left out of the spec."""
    wanted = world.model_deployment()
    registry = Registry.model_validate(wanted["spec"].pop("registry"))
    await world.cluster.create(kinds.MODEL_DEPLOYMENT, world.namespace, wanted)
    return registry


async def records(world: World) -> list[dict[str, Any]]:
    return [each for each in (await world.objects()).values() if each["kind"] == "ControllerRevision"]


async def test_a_missing_registry_is_reported_until_the_administrator_sets_a_default(world: World) -> None:
    world.point(world.log())
    await world.give_credential()
    default = await deploy_without_registry(world)
    async with world.operator():
        condition = await world.until_message("Ready", "spec.registry: is not set")
        assert (condition["status"], condition["reason"]) == ("False", "InvalidSpec")
        assert "setting `registry`" in condition["message"]
        assert not (await world.status()).get("registry")
    async with world.operator(allowed_registries=(), registry=default), world.kubelet():
        status = await world.until_phase("Healthy")
    assert status["registry"] == {
        "baseURL": world.standin.url,
        "secretName": "wandb",
        "secretKey": "WANDB_API_KEY",
    }
    (record,) = await records(world)
    (pull,) = record["data"]["deployment"]["spec"]["template"]["spec"]["initContainers"]
    assert {each["name"]: each.get("value") for each in pull["env"]}["WANDB_BASE_URL"] == world.standin.url


async def test_a_new_default_starts_no_rollout_and_drops_no_hold(world: World) -> None:
    world.point(world.log())
    await world.give_credential()
    default = await deploy_without_registry(world)
    async with world.operator(registry=default), world.kubelet():
        await world.until_phase("Healthy")
        world.admin.add_tag(f"{world.path}:v0", "regulatory-hold")
        await world.until_phase("Blocked")
    with StandIn(api_key=world.standin.api_key) as other:
        # The new server has other ids and the same content under the same name, but not the tag.
        other.admin.log_artifact("acme", world.namespace, "another", {"a": b"shifts the ids"})
        content = {"model.safetensors": f"{world.namespace} first".encode()}
        other.admin.log_artifact("acme", world.namespace, "chat", content)
        other.admin.set_alias(f"{world.path}:v0", "production")
        moved = default.model_copy(update={"base_url": other.url})
        # The old server is no longer allowed, so that it is not queried for holds on what serves either.
        async with world.operator(registry=moved, allowed_registries=()), world.kubelet():
            condition = await world.until_message("Ready", f"set on {world.standin.url}, which is no longer queried")
            assert condition["reason"] == "RegulatoryHold"
            await world.until_message("ModelResolved", "the alias names v0")
            (hold,) = (await world.status())["holds"]
            assert hold["server"] == world.standin.url
            assert await world.weights() == {"blocked": 1}

            other.admin.add_tag(f"{world.path}:v0", "regulatory-hold")
            await world.until_status("it is seen there", lambda status: status["holds"][0]["server"] == other.url)
            other.admin.remove_tag(f"{world.path}:v0", "regulatory-hold")
            await world.until_phase("Healthy")
            assert await world.weights() == {"v0": 100}
    assert len(await records(world)) == 1, "the revision must not change"
