"""Rollbacks: the alias on an earlier version, warm or cold, and bad versions that are rolled back automatically."""

import pytest

from e2e.conftest import Scene
from stage.stage import condition, stable_version, weight_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_back_to_a_warm_earlier_version_loses_no_request(scene: Scene) -> None:
    deployment = await scene.serving(keep_previous={"replicas": 1, "duration": "1h"})
    scene.log("I am the second version")
    scene.point("v1")
    await deployment.until_serving("v1")
    async with deployment.traffic() as traffic:
        scene.point("v0")
        status = await deployment.until_serving("v0")
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    assert [revision.partition("-")[0] for revision in status["promoted"]] == ["v0"]


async def test_back_to_a_cold_earlier_version_starts_it_first_and_loses_no_request(scene: Scene) -> None:
    deployment = await scene.serving(keep_previous={"replicas": 0, "duration": "0s"})
    first = (await deployment.status())["promoted"][-1]
    scene.log("I am the second version")
    scene.point("v1")
    await deployment.until_serving("v1")
    async with deployment.traffic() as traffic:
        await deployment.until_gone(first)
        scene.point("v0")
        status = await deployment.until_serving("v0")
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    assert status["promoted"] == [first], "it reuses the record as it ran"


async def test_a_version_that_cannot_be_loaded_is_rolled_back(scene: Scene) -> None:
    deployment = await scene.serving()
    scene.log("I break while loading", faults={"crash_on_load": True})
    async with deployment.traffic() as traffic:
        scene.point("v1")
        status = await deployment.until(
            "v1 has failed", lambda status: condition(status, "RolledBack").get("status") == "True", 120
        )
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    assert stable_version(status) == "v0"
    assert weight_of(status, "v1") == 0
    assert condition(status, "Ready")["status"] == "False"
    assert condition(status, "Stalled")["status"] == "True"
    assert condition(status, "Available")["status"] == "True"
    assert status["failed"][-1]["revision"].startswith("v1-")


async def test_a_version_that_crashes_soon_after_loading_is_rolled_back_before_it_loses_a_request(scene: Scene) -> None:
    deployment = await scene.serving()
    scene.log("I die soon", faults={"crash_after_seconds": 1.5})
    await deployment.change(traffic={"settle": "4s"})
    async with deployment.traffic() as traffic:
        scene.point("v1")
        status = await deployment.until(
            "v1 has failed", lambda status: condition(status, "RolledBack").get("status") == "True", 120
        )
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    assert stable_version(status) == "v0"
    assert not [revision for revision in traffic.by_revision() if revision.startswith("v1-")]


async def test_a_version_that_never_becomes_ready_is_rolled_back_at_its_deadline(scene: Scene) -> None:
    deployment = await scene.serving(rollout={"progressDeadline": "12s"})
    scene.log("I never load", faults={"never_ready": True})
    async with deployment.traffic() as traffic:
        scene.point("v1")
        status = await deployment.until(
            "v1 has failed", lambda status: condition(status, "RolledBack").get("status") == "True", 120
        )
        scene.log("I am whole again")
        scene.point("v2")
        await deployment.until_serving("v2")
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    assert status["failed"][-1]["reason"] == "ProgressDeadlineExceeded"
