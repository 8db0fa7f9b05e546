"""The operator may crash, be upgraded, or lose its registry, without any effect on serving."""

import time
from collections.abc import Mapping
from typing import Any

import pytest

from e2e.conftest import Scene
from stage.stage import condition, stable_version, weight_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_killed_operator_resumes_the_canary_where_it_was(scene: Scene) -> None:
    deployment = await scene.serving()
    scene.log("I am the second version")
    async with deployment.traffic() as traffic:
        scene.point("v1")
        await deployment.until_weight("v1", 20)
        scene.stage.servers.kill_operator()
        asked = len(traffic.answers)
        await traffic.until(lambda t: len(t.answers) >= asked + 40)
        scene.stage.start_operator()
        await deployment.until_serving("v1", timeout=120)
    assert not traffic.unserved(), traffic.explain(traffic.unserved())


async def test_an_operator_with_another_puller_image_restarts_no_model_pod(scene: Scene) -> None:
    deployment = await scene.serving()
    scene.log("I am the second version")
    async with deployment.traffic() as traffic:
        scene.point("v1")
        status = await deployment.until_weight("v1", 20)
        before = {pod["metadata"]["uid"]: restarts(pod) for pod in await deployment.pods()}
        scene.stage.servers.end_operator()
        scene.stage.start_operator(tag="next")
        try:
            revisions = {status["promoted"][-1], status["canary"]["revision"]}
            status = await deployment.until_serving("v1", timeout=120)
            after = {pod["metadata"]["uid"]: restarts(pod) for pod in await deployment.pods(status["promoted"][-1])}
        finally:
            scene.stage.servers.end_operator()
            scene.stage.start_operator()
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    assert set(status["promoted"]) == revisions, "no revision was made by the new operator"
    assert {uid: after[uid] for uid in before if uid in after} == {uid: n for uid, n in before.items() if uid in after}
    assert set(before) & set(after), "the canary's pods are the ones that the old operator started"


async def test_a_registry_that_is_down_for_a_minute_in_mid_canary_stops_only_forward_moves(scene: Scene) -> None:
    deployment = await scene.serving()
    scene.log("I am the second version")
    async with deployment.traffic() as traffic:
        scene.point("v1")
        await deployment.until_weight("v1", 20)
        down_at = time.monotonic()
        scene.stage.registry.down("refused", seconds=60)
        status = await deployment.until(
            "it reports that the registry does not answer",
            lambda status: condition(status, "ModelResolved").get("status") == "Unknown",
            40,
        )
        weight = weight_of(status, "v1")
        await traffic.until(lambda t: time.monotonic() - down_at >= 55, timeout=90)
        status = await deployment.status()
        assert weight_of(status, "v1") == weight, "no weight grows without an answer from the registry"
        assert stable_version(status) == "v0"
        await deployment.until_serving("v1", timeout=120)
    assert not traffic.unserved(), traffic.explain(traffic.unserved())


def restarts(pod: Mapping[str, Any]) -> int:
    """Restarts of a pod's model server."""
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses") or ())
