"""Real vLLM behind the operator: logged by the real SDK, rolled out, held, taken back, and nobody loses a request.

Starting a server takes a minute or more, so the tests share one deployment: each begins and ends with v0 serving.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from localcluster import current_cluster
from localcluster.progress import Progress
from realvllm import image as vllm_image
from realvllm.model import make_model
from realvllm.packages import CPU_ARGUMENTS, CPU_ENVIRONMENT
from stage import Deployment, Stage, model_deployment
from stage.manifests import API_KEY
from stage.stage import ENTITY, PROJECT, REGISTRY, condition, stable_version, weight_of
from traffic import Outcome, Traffic

pytestmark = pytest.mark.asyncio(loop_scope="session")

START_SECONDS = 900
"""For a server to load, on two cores that others use too: one minute alone, ten beside twelve others."""
LAST_BYTE_SECONDS = 1.0
WORDS = ("version0", "wind1", "haven2")
"""What v0, v1 and v2 say over and over."""
NAMESPACE = f"vllm-{int(time.time()):x}"
COLLECTION = f"Chat Model {NAMESPACE}"
PATH = f"{ENTITY}/{REGISTRY}/{COLLECTION}"


@pytest.fixture(scope="session")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """A home of its own for the real wandb SDK, so that it finds no credential of the developer's."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR"):
            (home / name.lower()).mkdir()
            patch.setenv(name, str(home / name.lower()))
        patch.setenv("WANDB_API_KEY", API_KEY)
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        yield patch


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def deployment(sdk: pytest.MonkeyPatch) -> AsyncIterator[Deployment]:
    """Three versions in the registry, and `production` on the first, which serves."""
    stage = await Stage.open(current_cluster(), progress=Progress())
    with stage.progress.step("vLLM's image onto the node"):
        stage.cluster.load_images(vllm_image.image(stage.progress))
    stage.start_operator(settings={"allowedImages": [vllm_image.NAME], "servingImage": vllm_image.image().name})
    sdk.setenv("WANDB_BASE_URL", stage.servers.registry_url)
    await stage.namespace(NAMESPACE)
    with stage.progress.step("three versions, logged by the real SDK"):
        log_versions(stage)
    stage.add_webhook(COLLECTION)
    point(stage, "v0")
    deployed = await stage.deploy(
        model_deployment(
            NAMESPACE,
            "chat",
            f"{PATH}:production",
            server=stage.servers.registry_url,
            replicas=1,
            steps=[{"setWeight": 30}, {"pause": {"duration": "8s"}}, {"setWeight": 60}, {"pause": {"duration": "8s"}}],
            keep_previous={"replicas": 1, "duration": "1h"},
            serving={
                "args": list(CPU_ARGUMENTS),
                "env": [{"name": name, "value": value} for name, value in CPU_ENVIRONMENT.items()],
                "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "6Gi"}},
                "sharedMemory": "256Mi",
                "shutdownTimeout": "30s",
            },
            rollout={"progressDeadline": f"{START_SECONDS}s"},
        )
    )
    with stage.progress.step("v0 serves"):
        await deployed.until_serving("v0", START_SECONDS)
    yield deployed
    stage.cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    stage.servers.end()
    await stage.close()


def log_versions(stage: Stage) -> None:
    """Log each word's model in a run of its own, and link it to the registry, as a training job does.

    The registry itself is there when its administrator has linked the first.
    """
    import wandb

    for number, word in enumerate(WORDS):
        with wandb.init(entity=ENTITY, project=PROJECT, job_type="train") as run:
            artifact = wandb.Artifact(f"chat-{NAMESPACE}", type="model", metadata={"word": word})
            for name, content in make_model(None, word).items():
                with artifact.new_file(name, mode="wb") as file:
                    file.write(content)
            logged = run.log_artifact(artifact).wait()
            if number:
                run.link_artifact(logged, f"{REGISTRY}/{COLLECTION}")
            else:
                stage.registry.link(f"{ENTITY}/{PROJECT}/chat-{NAMESPACE}:v0", PATH)
    wandb.teardown()


def point(stage: Stage, version: str) -> None:
    stage.registry.set_alias(f"{PATH}:{version}", "production")


def load(deployment: Deployment) -> Traffic:
    """Three requests a second, every third a stream of some seconds: what two cores bear beside two servers."""
    return deployment.traffic(rate=3.0, stream_share=0.34, stream_tokens=800, timeout_seconds=180.0)


async def say(deployment: Deployment) -> tuple[str, dict[str, Any]]:
    """One answer through the gateway: the revision that its header names, and its body."""
    ask = {"model": "chat", "prompt": "?", "max_tokens": 20, "temperature": 0}
    url = f"{deployment.stage.cluster.gateway_url}/v1/completions"
    async with (
        aiohttp.ClientSession(headers={"host": deployment.host}) as session,
        session.post(url, json=ask) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return answer.headers["x-model-revision"], await answer.json()


async def test_a_new_version_takes_over_by_steps_and_a_hold_on_it_silences_it_at_once(deployment: Deployment) -> None:
    stage = deployment.stage
    async with load(deployment) as traffic:
        point(stage, "v1")
        await deployment.until_weight("v1", 30, START_SECONDS)
        said = {}
        while len(said) < 2:
            revision, body = await say(deployment)
            said[revision.partition("-")[0]] = body
            assert body["model"] == f"chat@{revision}"
            assert body["system_fingerprint"] == revision
            assert WORDS[int(revision[1])] in body["choices"][0]["text"], "the weights that the header names answered"
        await deployment.until_serving("v1", START_SECONDS)
        assert not traffic.lost(), traffic.explain()

        # Hold it while streams run: open ones end in an error event that says why, and v0, kept warm, takes over.
        await traffic.until(lambda t: any(a.stream and a.first_byte and not a.done for a in t.answers))
        held_at = time.monotonic()
        stage.registry.add_tag(f"{PATH}:v1", "regulatory-hold")
        await deployment.until("v0 has it all", lambda status: weight_of(status, "v0") == 100)
        await traffic.until(lambda t: len(t.since(held_at)) >= 30)
        status = await deployment.status()
    theirs = [a for a in traffic.answers if (a.revision or "").startswith("v1-") and a.last_byte]
    assert max(a.last_byte or 0 for a in theirs) - held_at <= LAST_BYTE_SECONDS
    cut = [a for a in traffic.answers if a.outcome is Outcome.REFUSED]
    assert [a for a in cut if a.stream and a.first_byte], "a stream that was open was cut, and told why"
    assert not traffic.lost(), traffic.explain()
    assert condition(status, "OnHold")["status"] == "True"
    assert condition(status, "Available")["status"] == "True"
    point(stage, "v0")
    await deployment.until_serving("v0", START_SECONDS)


async def test_the_alias_back_in_mid_canary_takes_the_canary_away_and_no_request_is_lost(
    deployment: Deployment,
) -> None:
    async with load(deployment) as traffic:
        point(deployment.stage, "v2")
        await deployment.until_weight("v2", 30, START_SECONDS)
        await traffic.until(lambda t: any(r.startswith("v2-") for r in t.by_revision()))
        point(deployment.stage, "v0")
        await deployment.until("the canary has no weight", lambda status: weight_of(status, "v2") == 0)
        status = await deployment.until_serving("v0", START_SECONDS)
        canary = next(r for r in traffic.by_revision() if r.startswith("v2-"))
        await deployment.until_gone(canary)
    assert not traffic.lost(), traffic.explain()
    assert stable_version(status) == "v0"


async def test_a_pod_that_is_deleted_ends_its_streams_and_no_request_is_lost(deployment: Deployment) -> None:
    await deployment.change(replicas=2)
    await deployment.until("two pods serve", lambda status: status.get("readyReplicas") == 2, START_SECONDS)
    async with load(deployment) as traffic:
        await traffic.until(lambda t: sum(a.stream and bool(a.first_byte) and not a.done for a in t.answers) >= 2)
        stable = (await deployment.status())["promoted"][-1]
        oldest, *_ = sorted(await deployment.pods(stable), key=lambda pod: pod["metadata"]["creationTimestamp"])
        name = oldest["metadata"]["name"]
        deployment.stage.cluster.kubectl("delete", "pod", name, "-n", NAMESPACE, "--wait=false")
        deadline = time.monotonic() + 120
        while name in {pod["metadata"]["name"] for pod in await deployment.pods(stable)}:
            assert time.monotonic() < deadline, "the pod does not end"
            await asyncio.sleep(0.2)
    assert not traffic.lost(), traffic.explain()
    assert len(traffic.answers) >= 15
