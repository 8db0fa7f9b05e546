"""A pod that terminates gracefully finishes its requests, even if its server would not."""

import asyncio
import time

import pytest

from e2e.conftest import Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_deleted_pod_of_several_server_processes_loses_no_request(scene: Scene) -> None:
    """Such a vLLM drops all running requests at SIGTERM, so the kubelet must not send it before the pod is idle."""
    deployment = await scene.serving(serving={"args": ["--api-server-count=2"]})
    stable = (await deployment.status())["promoted"][-1]
    async with deployment.traffic() as traffic:
        await traffic.until(lambda t: sum(a.stream and a.status == 200 and not a.done for a in t.answers) >= 4)
        name = (await deployment.pods(stable))[0]["metadata"]["name"]
        scene.stage.cluster.kubectl("delete", "pod", name, "-n", scene.namespace, "--wait=false")
        deadline = time.monotonic() + 60
        while name in {pod["metadata"]["name"] for pod in await deployment.pods(stable)}:
            assert time.monotonic() < deadline, "the pod does not terminate"
            await asyncio.sleep(0.1)
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
