"""A ModelDeployment without a registry of its own goes by the administrator's default, and by a later one."""

from typing import Any

from integration.controller.conftest import World
from modelsync.api import kinds
from modelsync.api.registry import Registry
from wandb_standin import StandIn


async def deploy_without_registry(world: World) -> Registry:
    """Returns the registry that the spec would have named."""
    wanted = world.model_deployment()
    registry = Registry.model_validate(wanted["spec"].pop("registry"))
    await world.cluster.create(kinds.MODEL_DEPLOYMENT, world.namespace, wanted)
    return registry


async def records(world: World) -> list[dict[str, Any]]:
    return [each for each in (await world.objects()).values() if each["kind"] == "ControllerRevision"]


async def test_without_a_registry_it_is_told_until_the_administrator_sets_a_default(world: World) -> None:
    world.point(world.log())
    await world.give_credential()
    default = await deploy_without_registry(world)
    async with world.operator():
        said = await world.until_said("Ready", "spec.registry: is left out")
        assert (said["status"], said["reason"]) == ("False", "InvalidSpec")
        assert "setting `registry`" in said["message"]
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


async def test_another_default_rolls_nothing_out_and_loses_no_hold(world: World) -> None:
    world.point(world.log())
    await world.give_credential()
    default = await deploy_without_registry(world)
    async with world.operator(registry=default), world.kubelet():
        await world.until_phase("Healthy")
        world.admin.add_tag(f"{world.path}:v0", "regulatory-hold")
        await world.until_phase("Blocked")
    with StandIn(api_key=world.standin.api_key) as other:
        # The new server has other ids; the same content stands under the same name, and nobody has moved the tag.
        other.admin.log_artifact("acme", world.namespace, "another", {"a": b"shifts the ids"})
        content = {"model.safetensors": f"{world.namespace} first".encode()}
        other.admin.log_artifact("acme", world.namespace, "chat", content)
        other.admin.set_alias(f"{world.path}:v0", "production")
        moved = default.model_copy(update={"base_url": other.url})
        async with world.operator(registry=moved), world.kubelet():
            said = await world.until_said("Ready", f"set on {world.standin.url}, which is no longer queried")
            assert said["reason"] == "RegulatoryHold"
            await world.until_said("ModelResolved", "the alias names v0")
            (hold,) = (await world.status())["holds"]
            assert hold["server"] == world.standin.url
            assert await world.weights() == {"blocked": 1}

            other.admin.add_tag(f"{world.path}:v0", "regulatory-hold")
            await world.until_status("it is seen there", lambda status: status["holds"][0]["server"] == other.url)
            other.admin.remove_tag(f"{world.path}:v0", "regulatory-hold")
            await world.until_phase("Healthy")
            assert await world.weights() == {"v0": 100}
    assert len(await records(world)) == 1, "it is the same revision all along"
