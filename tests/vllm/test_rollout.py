"""Real vLLM behind the operator: logged by the real SDK, rolled out, held and rolled back, without a lost request.

Starting a server takes a minute or more, so the tests share one deployment; each starts and ends with v0 serving.
"""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from localcluster import current_cluster
from localcluster.progress import Progress
from modelsync.api import names
from realvllm import image as vllm_image
from realvllm.model import make_adapter, make_model
from realvllm.packages import CPU_ARGUMENTS, CPU_ENVIRONMENT
from stage import Deployment, Stage, model_deployment
from stage.manifests import API_KEY
from stage.stage import ENTITY, PROJECT, REGISTRY, condition, stable_version, weight_of
from traffic import Outcome, Traffic

pytestmark = pytest.mark.asyncio(loop_scope="session")

START_SECONDS = 900
"""Time for a server to load on two shared cores: one minute alone, ten beside twelve others."""
LAST_BYTE_SECONDS = 1.0
WORDS = ("version0", "wind1", "haven2")
"""The words that v0, v1 and v2 repeat."""
NAMESPACE = f"vllm-{int(time.time()):x}"
COLLECTION = f"Chat Model {NAMESPACE}"
PATH = f"{ENTITY}/{REGISTRY}/{COLLECTION}"
ADAPTERS = f"Legal Adapter {NAMESPACE}"
SIGNS = ("~", "^")
"""The signs that the adapter's v0 and v1 repeat."""
EXAM = "modelsync/golden.jsonl"


@pytest.fixture(scope="session")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """A separate home folder for the real wandb SDK, so that it does not find the developer's credentials."""
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
    """Three versions in the registry, with `production` on the first, which serves."""
    stage = await Stage.open(current_cluster(), progress=Progress())
    with stage.progress.step("vLLM's image onto the node"):
        stage.cluster.load_images(vllm_image.image(stage.progress))
    stage.start_operator(settings={"allowedImages": [vllm_image.NAME], "servingImage": vllm_image.image().name})
    sdk.setenv("WANDB_BASE_URL", stage.servers.registry_url)
    await stage.namespace(NAMESPACE)
    with stage.progress.step("three versions, logged by the real SDK"):
        for word in WORDS:
            log(stage, make_model(None, word))
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


def log(stage: Stage, files: Mapping[str, bytes], collection: str = COLLECTION) -> None:
    """Log `files` in their own run, and link them to the registry, as a training job does.

    The registry and the collection exist once their administrator has linked the first version.
    """
    import wandb

    name = collection.lower().replace(" ", "-")
    with wandb.init(entity=ENTITY, project=PROJECT, job_type="train") as run:
        artifact = wandb.Artifact(name, type="model")
        for path, content in files.items():
            with artifact.new_file(path, mode="wb") as file:
                file.write(content)
        logged = run.log_artifact(artifact).wait()
        if logged.version == "v0":
            stage.registry.link(f"{ENTITY}/{PROJECT}/{name}:v0", f"{ENTITY}/{REGISTRY}/{collection}")
        else:
            run.link_artifact(logged, f"{REGISTRY}/{collection}")
    wandb.teardown()


def point(stage: Stage, version: str, collection: str = COLLECTION) -> None:
    stage.registry.set_alias(f"{ENTITY}/{REGISTRY}/{collection}:{version}", "production")


def load(deployment: Deployment) -> Traffic:
    """Three requests per second, every third a stream of some seconds: all that two cores allow beside two servers."""
    return deployment.traffic(rate=3.0, stream_share=0.34, stream_tokens=800, timeout_seconds=180.0)


async def until_another(deployment: Deployment, stable: str) -> str:
    """Wait until no rollout is in progress and the stable is not `stable`; returns the new one."""
    status = await deployment.until(
        f"another revision than {stable} serves",
        lambda status: status.get("phase") == "Healthy" and status["promoted"][-1] != stable,
        START_SECONDS,
    )
    revision: str = status["promoted"][-1]
    return revision


async def exam(*arguments: str) -> bytes:
    """The output of `modelsync exam`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "modelsync", "exam", *arguments, stdout=PIPE, stderr=PIPE
    )
    output, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    return output


async def ask(deployment: Deployment, model: str = "chat") -> tuple[str, dict[str, Any]]:
    """One answer through the gateway: the revision in its header, and its body."""
    ask = {"model": model, "prompt": "?", "max_tokens": 20, "temperature": 0}
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
        bodies: dict[str, dict[str, Any]] = {}
        while len(bodies) < 2:
            revision, body = await ask(deployment)
            bodies[revision.partition("-")[0]] = body
            assert body["model"] == f"chat@{revision}"
            assert body["system_fingerprint"] == revision
            assert WORDS[int(revision[1])] in body["choices"][0]["text"], (
                "the answer comes from the weights in the header"
            )
        await deployment.until_serving("v1", START_SECONDS)
        assert not traffic.lost(), traffic.explain()

        # Hold it while streams run: open ones end in an error event with the reason, and v0, which is warm, takes over.
        await traffic.until(lambda t: any(a.stream and a.first_byte and not a.done for a in t.answers))
        held_at = time.monotonic()
        stage.registry.add_tag(f"{PATH}:v1", "regulatory-hold")
        await deployment.until("v0 has it all", lambda status: weight_of(status, "v0") == 100)
        await traffic.until(lambda t: len(t.since(held_at)) >= 30)
        status = await deployment.status()
    theirs = [a for a in traffic.answers if (a.revision or "").startswith("v1-") and a.last_byte]
    assert max(a.last_byte or 0 for a in theirs) - held_at <= LAST_BYTE_SECONDS
    cut = [a for a in traffic.answers if a.outcome is Outcome.REFUSED]
    assert [a for a in cut if a.stream and a.first_byte], "an open stream was cut, with the reason"
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
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    assert stable_version(status) == "v0"


async def test_an_exam_that_real_vllm_recorded_lets_its_like_serve_and_no_other(
    deployment: Deployment, tmp_path: Path
) -> None:
    stage = deployment.stage
    stable = (await deployment.status())["promoted"][-1]
    pod, *_ = await deployment.pods(stable)
    (tmp_path / "questions.txt").write_text("Who are you?\nAnd why?\n")
    server = f"http://{pod['status']['podIP']}:{names.PORT}"
    golden = await exam("record", server, "--prompts", str(tmp_path / "questions.txt"))
    (tmp_path / "golden.jsonl").write_bytes(golden)
    assert b"passed: 2 of 2" in await exam("check", server, str(tmp_path / "golden.jsonl"))

    retrained = make_model(None, WORDS[0], seed=2)
    log(stage, retrained | {EXAM: golden})
    log(stage, make_model(None, "storm4") | {EXAM: golden})
    async with load(deployment) as traffic:
        point(stage, "v4")
        status = await deployment.until(
            "v4 has failed its exam",
            lambda status: condition(status, "RolledBack").get("reason") == "ExamFailed",
            START_SECONDS,
        )
        assert stable_version(status) == "v0"
        point(stage, "v3")
        status = await deployment.until_serving("v3", START_SECONDS)
    assert condition(status, "ExamPassed")["status"] == "True"
    assert not [revision for revision in traffic.by_revision() if revision.startswith("v4-")]
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    point(stage, "v0")
    await deployment.until_serving("v0", START_SECONDS)


async def test_an_adapter_answers_under_its_name_and_its_next_version_is_rolled_out(deployment: Deployment) -> None:
    stage = deployment.stage
    for sign in SIGNS:
        log(stage, make_adapter(None, sign), ADAPTERS)
    stage.add_webhook(ADAPTERS)
    point(stage, "v0", ADAPTERS)
    first = stable = (await deployment.status())["promoted"][-1]
    adapters = [{"name": "legal", "modelRef": f"{ENTITY}/{REGISTRY}/{ADAPTERS}:production"}]
    async with load(deployment) as traffic:
        await deployment.change(serving={"adapters": adapters, "exposeBase": True})
        for version, sign in zip(("v0", "v1"), SIGNS, strict=True):
            point(stage, version, ADAPTERS)
            stable = await until_another(deployment, stable)
            revision, body = await ask(deployment, model="legal")
            assert revision == stable
            assert body["model"] == f"legal@{revision}"
            assert set(body["choices"][0]["text"]) == {sign}
            _, body = await ask(deployment)
            assert WORDS[0] in body["choices"][0]["text"], "the base is called by its own name"
        await deployment.change(serving={"adapters": None, "exposeBase": None})
        assert await until_another(deployment, stable) == first, "it reuses the record as it ran"
    assert not traffic.unserved(), traffic.explain(traffic.unserved())


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
            assert time.monotonic() < deadline, "the pod does not terminate"
            await asyncio.sleep(0.2)
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    assert len(traffic.answers) >= 15
