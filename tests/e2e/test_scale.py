"""The number of pods changes under load, by the cluster's HPA controller or by hand, without a lost request."""

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from e2e.conftest import Scene
from localcluster import ClusterError
from modelsync.api import kinds, names
from modelsync.api.requests import PROMOTE
from stage import Deployment
from stage.custom_metrics import CustomMetrics
from stage.stage import condition, weight_of
from traffic import Outcome

pytestmark = pytest.mark.asyncio(loop_scope="session")


def autoscaler(namespace: str, target: int) -> dict[str, Any]:
    """An HPA on the running requests of vLLM, `target` per pod, that acts at once in both directions."""
    at_once = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 1}]}
    metric = {
        "metric": {"name": "vllm_num_requests_running"},
        "target": {"type": "AverageValue", "averageValue": str(target)},
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "chat", "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": "chat"},
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [{"type": "Pods", "pods": metric}],
            "behavior": {"scaleUp": at_once, "scaleDown": at_once},
        },
    }


def ready(status: Mapping[str, Any], version: str) -> int:
    """Ready pods of a version."""
    pods = status.get("pods") or ()
    return sum(pod["state"] == "Ready" and pod["revision"].partition("-")[0] == version for pod in pods)


async def test_an_autoscaler_on_vllms_metrics_scales_up_and_down_in_mid_canary_too(scene: Scene) -> None:
    deployment = await scene.serving(replicas=1, steps=[{"setWeight": 50}, {"pause": {}}])
    scene.log("I am the second version")
    cluster = scene.stage.cluster
    async with CustomMetrics(cluster, scene.stage.kube) as metrics, deployment.traffic(rate=2) as few:
        cluster.apply(autoscaler(scene.namespace, target=4))
        async with deployment.traffic(rate=10) as many:
            await deployment.until("three pods serve", lambda status: ready(status, "v0") == 3, 90)
            scene.point("v1")
            status = await deployment.until_weight("v1", 50, 90)
            assert ready(status, "v1") == 2, "half of three, rounded up"
            path = f"/apis/{names.API_VERSION}/namespaces/{scene.namespace}/{names.PLURAL}/chat/scale"
            scale = json.loads(cluster.kubectl("get", "--raw", path))
            assert scale["spec"]["replicas"] == 3
            assert scale["status"]["replicas"] == 5
            selector = scale["status"]["selector"]
            assert len(await scene.stage.kube.list_all(kinds.POD, scene.namespace, labels=selector)) == 5
        status = await deployment.until(
            "both shrink", lambda status: (ready(status, "v0"), ready(status, "v1")) == (1, 1)
        )
        assert weight_of(status, "v1") == 50
        await deployment.annotate(PROMOTE.annotation, status["canary"]["revision"])
        await deployment.until_serving("v1")
        assert metrics.answered
        cluster.kubectl("delete", "hpa", "chat", "--namespace", scene.namespace)
    for traffic in (few, many):
        assert not traffic.unserved(), traffic.explain(traffic.unserved())


async def test_zero_replicas_are_idle_and_scaling_up_starts_the_stable_first(scene: Scene) -> None:
    deployment = await scene.serving(replicas=2, steps=[{"setWeight": 50}, {"pause": {}}])
    stable = (await deployment.status())["promoted"][-1]
    await a_drain_takes_one_pod_at_a_time(scene, deployment)
    scene.log("I am the second version")
    scale = ("scale", f"{names.PLURAL}/chat", "--namespace", scene.namespace)
    async with deployment.traffic() as traffic:
        scene.stage.cluster.kubectl(*scale, "--replicas=0")
        status = await deployment.until("it is idle", lambda status: condition(status, "Ready").get("reason") == "Idle")
        status = await deployment.until(
            "idle is as requested", lambda status: condition(status, "Ready")["status"] == "True"
        )
        assert (status["phase"], condition(status, "Available")["reason"], status["replicas"]) == ("Idle", "Idle", 0)
        await deployment.until_gone(stable)
        await traffic.until(lambda t: t.answers[-1].outcome is Outcome.BLOCKED)
        scene.point("v1")
        await deployment.until("the alias is seen", lambda status: status["resolved"]["version"] == "v1")
        assert not await deployment.pods()
        woken = time.monotonic()
        scene.stage.cluster.kubectl(*scale, "--replicas=1")
        await deployment.until("the stable has all traffic", lambda status: weight_of(status, "v0") == 100, 90)
        await deployment.until_weight("v1", 50, 90)
        await traffic.until(lambda t: any(name.startswith("v1-") for name in t.by_revision()))
    assert not traffic.lost(), traffic.explain()
    assert next(answer.revision for answer in traffic.since(woken) if answer.outcome is Outcome.OK) == stable


async def a_drain_takes_one_pod_at_a_time(scene: Scene, deployment: Deployment) -> None:
    """The PodDisruptionBudget allows the eviction of one of two pods, and of the other only once the first is back."""
    one, other = await deployment.pods()

    def evict(pod: Mapping[str, Any]) -> None:
        name = pod["metadata"]["name"]
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": scene.namespace}}
        path = f"/api/v1/namespaces/{scene.namespace}/pods/{name}/eviction"
        scene.stage.cluster.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(body))

    async with deployment.traffic() as traffic:
        evict(one)
        with pytest.raises(ClusterError, match="disruption budget"):
            evict(other)
        await deployment.until("the pod is back", lambda status: ready(status, "v0") == 2, 90)
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
