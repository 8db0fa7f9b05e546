"""The other parts of a version besides the model are rolled out, held and rolled back with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import pytest

from e2e.conftest import Scene
from modelsync.api import names
from stage import Deployment
from stage.stage import condition
from vllm_standin.adapter import make_adapter
from vllm_standin.artifact import make_model

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEMPLATE = "{{# {} #}}{{% for message in messages %}}{{{{ message.content }}}}{{% endfor %}}"


class Others:
    """A second collection of the scene's registry, with its own alias."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.scene = scene
        self.collection = f"{name} {scene.namespace}"
        self.path = f"{scene.path.rpartition('/')[0]}/{self.collection}"

    @property
    def ref(self) -> str:
        return f"{self.path}:production"

    def log(self, files: Mapping[str, bytes]) -> str:
        version = self.scene.stage.log_files(self.collection, files).version
        if version == "v0":
            self.scene.stage.add_webhook(self.collection)
        return version

    def point(self, version: str) -> None:
        self.scene.stage.registry.set_alias(f"{self.path}:{version}", "production")

    def hold(self, version: str) -> None:
        self.scene.stage.registry.add_tag(f"{self.path}:{version}", "regulatory-hold")


async def ask(deployment: Deployment, **body: Any) -> tuple[int, Any]:
    """Chat through the gateway; returns the status and the parsed answer."""
    body = {"model": "chat", "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 4, **body}
    body = {key: value for key, value in body.items() if value is not None}
    url = f"{deployment.stage.cluster.gateway_url}/v1/chat/completions"
    async with (
        aiohttp.ClientSession(headers={"host": deployment.host}) as session,
        session.post(url, json=body) as answer,
    ):
        return answer.status, await answer.json()


def content(answer: tuple[int, Any]) -> str:
    status, body = answer
    assert status == 200, body
    content: str = body["choices"][0]["message"]["content"]
    return content


def part_of(status: Mapping[str, Any], part: str) -> str:
    """The version of a part that the registry names now."""
    versions: dict[str, str] = {each["part"]: each["version"] for each in status["resolved"]["parts"]}
    return versions[part]


async def until_promoted(deployment: Deployment, count: int, *, not_in: Sequence[str] = ()) -> dict[str, Any]:
    """`count` revisions were promoted, and no rollout is in progress."""
    return await deployment.until(
        f"{count} promoted",
        lambda status: (
            len(status.get("promoted", ())) == count
            and status["promoted"][-1] not in not_in
            and status.get("phase") == "Healthy"
        ),
        120,
    )


async def test_a_chat_template_beside_the_model_is_rolled_out_and_back_like_a_version(scene: Scene) -> None:
    prompts = Others(scene, "Prompts")
    prompts.log({"support.jinja": TEMPLATE.format("Politely:").encode()})
    prompts.point("v0")
    deployment = await scene.serving(
        steps=[{"setWeight": 50}],
        serving={
            "artifacts": [{"name": "prompts", "modelRef": prompts.ref}],
            "args": ["--chat-template=/artifacts/prompts/support.jinja"],
        },
    )
    assert content(await ask(deployment)) == "Politely: I am the"
    first = (await deployment.status())["promoted"][-1]
    prompts.log({"support.jinja": TEMPLATE.format("Rudely:").encode()})
    async with deployment.traffic() as traffic:
        prompts.point("v1")
        status = await until_promoted(deployment, 2)
        assert content(await ask(deployment)) == "Rudely: I am the"
        assert part_of(status, "artifact/prompts") == "v1"
        assert status["history"][-1]["changed"] == "artifact prompts v0 -> v1"
        assert all(revision.startswith("v0-") for revision in status["promoted"]), "the model is the same"
        prompts.point("v0")
        status = await until_promoted(deployment, 1)
        assert status["promoted"] == [first], "it reuses the record as it ran"
        assert content(await ask(deployment)) == "Politely: I am the"
    assert not traffic.unserved(), traffic.explain(traffic.unserved())


async def test_an_adapter_is_rolled_out_held_and_refused_separately(scene: Scene) -> None:
    legal = Others(scene, "Legal")
    legal.log(make_adapter("I am a lawyer"))
    legal.point("v0")
    deployment = await scene.serving(
        steps=[{"setWeight": 50}], serving={"adapters": [{"name": "legal", "modelRef": legal.ref}]}
    )
    first = (await deployment.status())["promoted"][-1]
    code, answer = await ask(deployment, model="legal")
    assert (code, answer["model"]) == (200, f"legal@{first}")
    assert answer["choices"][0]["message"]["content"] == "I am a lawyer"
    assert (await ask(deployment, model="chat"))[0] == 404, "the base has no name unless it is exposed"
    assert (await ask(deployment, model=None))[0] == 400

    legal.log(make_adapter("I cannot be loaded", config={"use_dora": True}))
    legal.log(make_adapter("I am a judge", rank=24))
    async with deployment.traffic(model="legal") as traffic:
        legal.point("v1")
        status = await deployment.until(
            "v1 is refused", lambda status: condition(status, "Ready").get("reason") == "AdapterRefused"
        )
        assert "DoRA" in condition(status, "Ready")["message"]
        assert condition(status, "Available")["status"] == "True"
        assert {pod["metadata"]["labels"][names.REVISION_LABEL] for pod in await deployment.pods()} == {first}
        legal.point("v2")
        status = await until_promoted(deployment, 2)
        assert status["history"][-1]["changed"] == "adapter legal v0 -> v2"
        assert content(await ask(deployment, model="legal")) == "I am a judge"
        await traffic.until(lambda t: len(t.by_revision()) == 2)
    assert not traffic.unserved(), traffic.explain(traffic.unserved())

    legal.hold("v2")
    status = await deployment.until(
        "the revision with the adapter's previous version serves",
        lambda status: [each["revision"] for each in status.get("traffic", ()) if each["weight"] == 100] == [first],
    )
    assert condition(status, "OnHold")["status"] == "True"
    assert content(await ask(deployment, model="legal")) == "I am a lawyer"


async def test_a_model_that_is_an_adapter_is_served_on_its_base(scene: Scene) -> None:
    base = Others(scene, "Base")
    base.log(make_model(None, name="base", version_text="I am the base"))
    base.point("v0")
    scene.stage.log_files(scene.collection, make_adapter("I am fine-tuned"))
    scene.point("v0")
    deployment = await scene.deploy(replicas=1, serving={"baseModelRef": base.ref, "exposeBase": True})
    status = await deployment.until_serving("v0")
    revision = status["promoted"][-1]
    for model, answers_as, says in (
        ("chat", "chat", "I am fine-tuned"),
        ("chat-base", "chat-base", "I am the base"),
        (None, "chat", "I am fine-tuned"),
    ):
        answer = await ask(deployment, model=model)
        assert content(answer) == says
        assert answer[1]["model"] == f"{answers_as}@{revision}"
    assert "2 artifacts" in condition(status, "ModelVerified")["message"]
