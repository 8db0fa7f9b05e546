"""What may not stop a hold (docs/design/README.md, "Holds"), each tried on a real node while clients send requests."""

import time
from typing import Any

import pytest

from e2e.conftest import Scene
from e2e.test_hold import LAST_BYTE_SECONDS, answers_of, last_byte_after
from modelsync.api import kinds, names
from stage import Deployment, model_deployment
from stage.stage import condition
from traffic import Traffic

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEPT = "modelsync.test/kept"
POLLED_SECONDS = 2.0 + LAST_BYTE_SECONDS
"""The poll interval of these ModelDeployments, and the usual bound: no webhook may be needed."""
CHILDREN = (
    kinds.CONTROLLER_REVISION,
    kinds.DEPLOYMENT,
    kinds.SERVICE,
    kinds.HTTP_ROUTE,
    kinds.POD_DISRUPTION_BUDGET,
    kinds.SECRET,
)


async def held(scene: Scene, deployment: Deployment, traffic: Traffic, *, within: float) -> None:
    """Set the hold on v0, and see that it answers nothing `within` seconds later and has no pod in the end."""
    await traffic.until(lambda t: len(t.answers) >= 40)
    held_at = time.monotonic()
    scene.hold("v0")
    await traffic.until(lambda t: len(t.since(held_at + within)) >= 40)
    assert last_byte_after(traffic, "v0", held_at) <= within
    assert answers_of(traffic, "v0", held_at + within) == []
    revisions = {pod["metadata"]["labels"][names.REVISION_LABEL] for pod in await deployment.pods()}
    for revision in revisions:
        await deployment.until_gone(revision)


@pytest.mark.parametrize(
    "spec",
    [
        {"modelRef": "acme/wandb-registry-/chat:production"},
        {"registry": {"auth": {"secretKeyRef": {"name": "nowhere", "key": "WANDB_API_KEY"}}}},
    ],
    ids=["a reference that is none", "a key that does not exist"],
)
async def test_a_spec_that_can_no_longer_be_queried(scene: Scene, spec: dict[str, Any]) -> None:
    deployment = await scene.serving()
    await deployment.change(**spec)
    await deployment.until("the spec was read", lambda status: "Stalled" in str(status.get("conditions")))
    async with deployment.traffic() as traffic:
        await held(scene, deployment, traffic, within=POLLED_SECONDS)


async def test_a_model_deployment_that_is_being_deleted(scene: Scene) -> None:
    deployment = await scene.serving()
    kube, place = scene.stage.kube, (kinds.MODEL_DEPLOYMENT, scene.namespace, "chat")
    await kube.merge(*place, {"metadata": {"finalizers": [KEPT]}})
    await kube.delete(*place)
    async with deployment.traffic() as traffic:
        await held(scene, deployment, traffic, within=POLLED_SECONDS)
    await kube.merge(*place, {"metadata": {"finalizers": None}})


async def orphan_all(scene: Scene) -> None:
    """What `kubectl delete --cascade=orphan` does, without the garbage collector's delay."""
    kube, place = scene.stage.kube, (kinds.MODEL_DEPLOYMENT, scene.namespace, "chat")
    await kube.merge(*place, {"metadata": {"finalizers": [KEPT]}})
    await kube.delete(*place)
    for kind in CHILDREN:
        for child in await kube.list_all(kind, scene.namespace, labels=names.NAME_LABEL):
            await kube.merge(kind, scene.namespace, kinds.name_of(child), {"metadata": {"ownerReferences": None}})
    await kube.merge(*place, {"metadata": {"finalizers": None}})


async def test_orphans(scene: Scene) -> None:
    deployment = await scene.serving()
    before = {pod["metadata"]["uid"] for pod in await deployment.pods()}
    async with deployment.traffic() as traffic:
        await orphan_all(scene)
        deployment = await scene.deploy()
        await deployment.until_serving("v0")
        await traffic.until(lambda t: len(t.answers) >= 40)
    assert traffic.lost() == [], traffic.explain()
    assert before == {pod["metadata"]["uid"] for pod in await deployment.pods()}, "they were adopted as they were"
    await orphan_all(scene)
    async with deployment.traffic() as traffic:
        await held(scene, deployment, traffic, within=POLLED_SECONDS)


async def test_the_same_bytes_held_under_another_name(scene: Scene) -> None:
    deployment = await scene.serving()
    twin = f"{scene.collection} twin"
    scene.stage.log_version(twin, "I am the first version", name=scene.collection)
    path = scene.path.replace(scene.collection, twin)
    scene.stage.registry.set_alias(f"{path}:v0", "production")
    server = scene.stage.servers.registry_url
    manifest = model_deployment(scene.namespace, "twin", server=server, model_ref=f"{path}:production")
    other = await scene.stage.deploy(manifest)
    await other.until_serving("v0")
    async with deployment.traffic() as traffic:
        await traffic.until(lambda t: len(t.answers) >= 40)
        held_at = time.monotonic()
        scene.stage.registry.add_tag(f"{path}:v0", "regulatory-hold")
        await deployment.until("chat is blocked too", lambda status: status.get("phase") == "Blocked")
        await traffic.until(lambda t: len(t.since(held_at + POLLED_SECONDS)) >= 40)
    assert last_byte_after(traffic, "v0", held_at) <= POLLED_SECONDS


async def test_a_record_that_is_gone(scene: Scene) -> None:
    deployment = await scene.serving()
    for record in await scene.stage.kube.list_all(kinds.CONTROLLER_REVISION, scene.namespace, labels=names.NAME_LABEL):
        await scene.stage.kube.delete(kinds.CONTROLLER_REVISION, scene.namespace, kinds.name_of(record))
    async with deployment.traffic() as traffic:
        await held(scene, deployment, traffic, within=POLLED_SECONDS)


async def test_a_registry_that_falls_silent(scene: Scene) -> None:
    """It cannot show a mark. That is reported and stops forward moves; what serves goes on (`hold.onStale`)."""
    deployment = await scene.serving(hold={"maxStaleness": "1m"})
    async with deployment.traffic() as traffic:
        with scene.stage.registry.fault("reset"):
            status = await deployment.until(
                "marks are not known",
                lambda status: condition(status, "HoldsKnown").get("status") == "False",
                timeout=120,
            )
        assert condition(status, "HoldsKnown")["reason"] == "Stale"
        assert condition(status, "Available")["status"] == "True"
        await deployment.until(
            "marks are known again", lambda status: condition(status, "HoldsKnown").get("status") == "True"
        )
    assert traffic.lost() == [], traffic.explain()
