"""Models on a claim: one transfer for all pods; a pod that restarts needs neither a transfer nor the registry."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from e2e.conftest import Scene
from modelsync.api.pod_contract import ALREADY_PUBLISHED, PULLED
from modelsync.resources.pod import VLLM_USER
from stage.stage import condition, stable_version, weight_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

WEIGHTS = "*model.safetensors*"


def outcomes(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """The last message of each pod's puller."""
    return sorted(
        json.loads(pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["message"])["outcome"]
        for pod in pods
    )


async def test_on_a_claim_pods_share_a_transfer_and_a_hold_is_kept_while_the_registry_is_away(scene: Scene) -> None:
    registry, claim = scene.stage.registry, {"type": "PersistentVolumeClaim", "claimName": "models"}
    folder = scene.stage.claim(scene.namespace, "models")
    before = registry.last_request()
    deployment = await scene.serving(
        replicas=3, serving={"storage": claim | {"compileCache": True}}, keep_previous={"replicas": 0, "duration": "0s"}
    )
    first = (await deployment.status())["promoted"][-1]
    assert outcomes(await deployment.pods(first)) == [ALREADY_PUBLISHED, ALREADY_PUBLISHED, PULLED]
    assert len(registry.requests(since=before, operation="download", ref=WEIGHTS)) == 1, "one transfer for all pods"
    if folder is not None:
        (cache,) = (folder / ".modelsync-compile-cache").iterdir()
        assert cache.stat().st_uid == VLLM_USER, "vLLM can write to it"

    scene.log("I am the second version")
    scene.point("v1")
    await deployment.until_serving("v1")
    await deployment.until_gone(first)

    # No pod can pull any more: the hold's fallback must start from the claim alone.
    registry.add_fault("reset", operation="ModelsyncPull*")
    registry.add_fault("reset", operation="download")
    scene.hold("v1")
    await deployment.until("v0 has it all", lambda status: weight_of(status, "v0") == 100)
    assert outcomes(await deployment.pods(first))[0] == ALREADY_PUBLISHED

    # Now the whole registry is down, and a pod is lost.
    registry.add_fault("reset")
    await deployment.until(
        "all of v0 is ready", lambda status: status.get("readyReplicas") == 3 and weight_of(status, "v0") == 100
    )
    (lost, *_) = await deployment.pods(first)
    name = lost["metadata"]["name"]
    scene.stage.cluster.kubectl("delete", "pod", name, "-n", scene.namespace, "--wait=false")
    status = await deployment.until(
        "another pod is ready in its place, and the outage is detected",
        lambda status: (
            sum(pod["state"] == "Ready" and pod["name"] != name for pod in status["pods"]) == 3
            and condition(status, "ModelResolved").get("status") == "Unknown"
        ),
    )
    assert stable_version(status) == "v0"
    assert condition(status, "OnHold")["status"] == "True"
    assert weight_of(status, "v1") == 0
