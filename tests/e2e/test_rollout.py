"""A new version takes over in steps, or does not, without a lost request."""

from collections.abc import Mapping
from typing import Any

import pytest

from e2e.conftest import Scene
from plugin import plugin
from stage.stage import condition, stable_version, weight_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_new_version_takes_over_by_steps_and_no_request_is_lost(scene: Scene) -> None:
    deployment = await scene.serving()
    scene.log("I am the second version")
    async with deployment.traffic() as traffic:
        scene.point("v1")
        await deployment.until_weight("v1", 20)
        await deployment.until_weight("v1", 50)
        status = await deployment.until_serving("v1")
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    assert weight_of(status, "v1") == 100
    assert [revision.partition("-")[0] for revision in status["promoted"]] == ["v0", "v1"]
    assert {revision.partition("-")[0] for revision in traffic.by_revision()} == {"v0", "v1"}
    assert condition(status, "ModelVerified")["status"] == "True"


async def test_the_alias_back_in_mid_canary_takes_the_canary_away_and_no_request_is_lost(scene: Scene) -> None:
    deployment = await scene.serving()
    scene.log("I am the second version")
    async with deployment.traffic() as traffic:
        scene.point("v1")
        await deployment.until_weight("v1", 20)
        await traffic.until(lambda t: any(r.startswith("v1-") for r in t.by_revision()))
        scene.point("v0")
        await deployment.until("the canary has no weight", lambda status: weight_of(status, "v1") == 0)
        status = await deployment.until_serving("v0")
        canary = next(r for r in traffic.by_revision() if r.startswith("v1-"))
        await traffic.until(lambda t: len(t.answers) >= 400)
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    assert stable_version(status) == "v0"
    assert [revision.partition("-")[0] for revision in status["promoted"]] == ["v0"]
    await deployment.until_gone(canary)


async def test_a_third_version_supersedes_the_canary(scene: Scene) -> None:
    deployment = await scene.serving()
    scene.log("I am the second version")
    scene.log("I am the third version")
    async with deployment.traffic() as traffic:
        scene.point("v1")
        await deployment.until_weight("v1", 20)
        scene.point("v2")
        status = await deployment.until_serving("v2")
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    assert [revision.partition("-")[0] for revision in status["promoted"]] == ["v0", "v2"]


async def test_a_person_promotes_and_aborts_by_the_kubectl_plugin(scene: Scene) -> None:
    deployment = await scene.serving(steps=[{"setWeight": 20}, {"pause": {}}])
    scene.log("I am the second version")
    async with deployment.traffic() as traffic:
        scene.point("v1")
        status = await deployment.until("it waits to be promoted", waits_for_a_person)
        assert weight_of(status, "v1") == 20
        chat = ("chat", "-n", scene.namespace)
        assert "a manual promotion" in (await plugin("status", *chat, "--watch=false")).out
        await plugin("promote", *chat)
        assert "v1" in (await plugin("status", *chat, "--timeout=90s")).out.splitlines()[-1]
        await deployment.until_serving("v1")
        scene.log("I am the third version")
        scene.point("v2")
        await deployment.until("it waits to be promoted", waits_for_a_person)
        assert "v1" in (await plugin("abort", *chat)).out
        assert "aborted by " in (await plugin("status", *chat, code=3)).err
    assert not traffic.unserved(), traffic.explain(traffic.unserved())


def waits_for_a_person(status: Mapping[str, Any]) -> bool:
    return (status.get("waiting") or {}).get("who") == "person" and bool(status.get("canary"))


async def test_a_change_of_the_spec_is_rolled_out_like_a_version(scene: Scene) -> None:
    deployment = await scene.serving()
    before = (await deployment.status())["promoted"][-1]
    async with deployment.traffic() as traffic:
        await deployment.change(serving={"args": ["--max-model-len=2048"]})
        status = await deployment.until(
            "a revision of the same version serves",
            lambda status: status["promoted"][-1] != before and condition(status, "Ready").get("status") == "True",
            90,
        )
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    assert stable_version(status) == "v0"
