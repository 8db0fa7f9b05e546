"""Bad input sets a condition with the field and the next step, and does not affect serving; no traceback is logged."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from e2e.conftest import MakeScene, Scene
from stage import Deployment, Stage, model_deployment
from stage.stage import condition, stable_version, weight_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

OTHER_KEY = "wrong-" + "f" * 40


@pytest.fixture(autouse=True)
def no_traceback(stage: Stage) -> Iterator[None]:
    """No test here may cause a traceback in the operator's log."""
    before = stage.servers.operator_log.stat().st_size
    yield
    with stage.servers.operator_log.open(errors="replace") as log:
        log.seek(before)
        assert "Traceback" not in log.read()


async def message_with(
    deployment: Deployment, kind: str, *words: str, status: Sequence[str] = ("False", "Unknown")
) -> str:
    """The condition's message, once it contains all the words."""

    def ready(now: Mapping[str, Any]) -> bool:
        found = condition(now, kind)
        return found.get("status") in status and all(word in found.get("message", "") for word in words)

    now = await deployment.until(f"the message of {kind} contains {words}", ready, 30)
    message: str = condition(now, kind)["message"]
    return message


async def test_an_unknown_alias_is_named(scene: Scene) -> None:
    scene.log("I am here")
    deployment = await scene.deploy(model_ref=f"{scene.path}:prodution")
    await message_with(deployment, "ModelResolved", "prodution")
    await message_with(deployment, "Ready", "prodution")


async def test_a_wrong_key_names_the_secret(make_scene: MakeScene) -> None:
    scene = await make_scene(key=OTHER_KEY)
    scene.log("I am here")
    scene.point("v0")
    deployment = await scene.deploy()
    message = await message_with(deployment, "Ready", "wandb")
    assert OTHER_KEY not in message


async def test_a_secret_without_the_label_is_not_read_and_the_label_is_named(make_scene: MakeScene) -> None:
    scene = await make_scene(labelled=False)
    scene.log("I am here")
    scene.point("v0")
    deployment = await scene.deploy()
    await message_with(deployment, "Ready", "modelsync.dev/wandb-credential")


async def test_a_server_that_the_administrator_does_not_allow_is_never_asked(scene: Scene) -> None:
    deployment = await scene.deploy(server="http://192.0.2.7:9")
    await message_with(deployment, "Ready", "spec.registry.baseURL", scene.stage.servers.registry_url)


async def test_an_unreachable_server_does_not_affect_serving(scene: Scene) -> None:
    deployment = await scene.serving(server=None)  # with the administrator's default registry
    with scene.stage.registry.fault("reset"):
        await message_with(deployment, "ModelResolved", scene.stage.servers.registry_url, status=("Unknown",))
        status = await deployment.status()
        assert condition(status, "Available")["status"] == "True"
        assert condition(status, "Ready")["status"] == "True"
        assert weight_of(status, "v0") == 100


async def test_corrupt_bytes_are_never_served(scene: Scene) -> None:
    deployment = await scene.serving()
    version = scene.log("I am the second version")
    with scene.stage.registry.fault("corrupt", file="*safetensors*"):
        async with deployment.traffic() as traffic:
            scene.point(version)
            await message_with(deployment, "ModelVerified", "safetensors", status=("False",))
            status = await deployment.status()
    assert stable_version(status) == "v0"
    assert not traffic.unserved(), traffic.explain(traffic.unserved())


async def test_a_refused_argument_is_named_with_a_fix_and_serving_continues(scene: Scene) -> None:
    deployment = await scene.serving()
    await deployment.change(serving={"args": ["--max-modle-len=2048"]})
    await message_with(deployment, "Ready", "spec.serving.args[0]", "--max-model-len", status=("False",))
    status = await deployment.status()
    assert condition(status, "Stalled")["status"] == "True"
    assert condition(status, "SpecApplied")["status"] == "False"
    assert weight_of(status, "v0") == 100
    await deployment.change(serving={"args": []})
    await deployment.until_serving("v0")


async def test_an_image_that_is_not_allowed_is_named(scene: Scene) -> None:
    scene.log("I am here")
    scene.point("v0")
    deployment = await scene.deploy(serving={"image": "docker.io/library/evil:v1"})
    await message_with(deployment, "Ready", "spec.serving.image", "vllm-standin")


async def test_an_invalid_spec_is_refused_by_the_apiserver(scene: Scene) -> None:
    bad = model_deployment(scene.namespace, "chat", "no-alias", server=scene.stage.servers.registry_url)
    with pytest.raises(Exception, match="has no alias"):
        await scene.stage.deploy(bad)
