"""Traffic shifts in difficult cases: a data plane that learns of endpoints late, and clients of the plain Service."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from e2e.conftest import Scene
from localcluster import Cluster
from modelsync.api import names
from stage.slow_apiserver import SlowApiServer
from stage.stage import Deployment, Stage, stable_version, weight_of
from traffic import Traffic, Way

pytestmark = pytest.mark.asyncio(loop_scope="session")

LAG = timedelta(seconds=2)
STEPS = [{"setWeight": 50}, {"pause": {"duration": "1s"}}]


@pytest_asyncio.fixture(loop_scope="session")
async def slow_gateway(stage: Stage) -> AsyncIterator[SlowApiServer]:
    """The gateway sees every endpoint change two seconds late."""
    cluster = stage.cluster
    if not isinstance(cluster, Cluster):
        pytest.skip("the gateway of a foreign cluster cannot be slowed down")
    async with SlowApiServer(cluster.gateway_kubeconfig, LAG) as slow:
        cluster.restart_gateway(kubeconfig=slow.kubeconfig)
        try:
            yield slow
        finally:
            cluster.restart_gateway()


async def test_a_data_plane_that_learns_of_endpoints_late_loses_no_request(
    scene: Scene, slow_gateway: SlowApiServer
) -> None:
    """Steps, promotion, rollback to the warm version, and a held canary: `settle` is longer than the lag."""
    deployment = await scene.serving(steps=STEPS, traffic={"settle": "3s"})
    scene.log("I am the second version")
    scene.log("I am the third version")
    async with deployment.traffic() as traffic:
        scene.point("v1")
        await deployment.until_serving("v1", 120)
        scene.point("v0")
        await deployment.until_serving("v0", 120)
        scene.point("v2")
        await deployment.until_weight("v2", 50)
        scene.point("v0")
        status = await deployment.until("the canary is gone", lambda status: not status.get("canary"))
        canary = next((each for each in traffic.by_revision() if each.startswith("v2-")), None)
        if canary is not None:
            await deployment.until_gone(canary)
    assert slow_gateway.told_late > 0
    assert stable_version(status) == "v0"
    assert not traffic.unserved(), traffic.explain(traffic.unserved())


def service_traffic(deployment: Deployment, *ways: Way) -> Traffic:
    """A client inside the cluster that uses no gateway."""
    address = deployment.stage.cluster.kubectl(
        "get", "service", deployment.name, "-n", deployment.namespace, "-o", "jsonpath={.spec.clusterIP}"
    )
    return Traffic(url=f"http://{address}:{names.PORT}/v1", host=deployment.name, ways=ways)


async def test_without_a_gateway_the_service_switches_back_and_forth_and_no_request_is_lost(scene: Scene) -> None:
    deployment = await scene.serving(gateway=False)
    scene.log("I am the second version")
    async with service_traffic(deployment, Way.NEW) as traffic:
        await traffic.until(lambda t: len(t.answers) >= 20)
        scene.point("v1")
        await deployment.until_serving("v1")
        scene.point("v0")
        status = await deployment.until_serving("v0")
        await traffic.until(lambda t: t.by_revision(t.answers[-40:]).keys() == {status["promoted"][-1]})
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    assert weight_of(status, "v0") == 100


async def test_clients_that_go_round_the_gateway_lose_no_request_in_a_rollout(scene: Scene) -> None:
    deployment = await scene.serving(steps=STEPS)
    scene.log("I am the second version")
    async with service_traffic(deployment, Way.NEW) as traffic:
        scene.point("v1")
        status = await deployment.until_serving("v1")
        # The plain Service follows the stable, and the node's rules follow the Service.
        stable = status["promoted"][-1]
        await traffic.until(lambda t: t.by_revision(t.answers[-40:]).keys() == {stable})
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
