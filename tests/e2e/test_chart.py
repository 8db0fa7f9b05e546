"""The operator as its users have it: installed by Helm, in pods, with the chart's rights and no others."""

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import count

import aiohttp
import pytest
import pytest_asyncio

from localcluster.foreign import NAME as EXISTING
from modelsync.api import names
from stage.manifests import model_deployment, namespace
from stage.release import Release
from stage.servers import WEBHOOK_TOKEN, webhook_secret
from stage.stage import ENTITY, REGISTRY, weight_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

STEPS = ({"setWeight": 20}, {"pause": {"duration": "8s"}}, {"setWeight": 50}, {"pause": {"duration": "2s"}})


class Installed:
    """A release in the place of the stage's operator, and a ModelDeployment that serves."""

    def __init__(self, stage, release, where):
        self.stage = stage
        self.release = release
        self.collection = where
        self.deployment = None
        self._numbers = count()

    @property
    def only_there(self):
        """Values of a release that may see the ModelDeployment's namespace and no other."""
        return {"watchNamespaces": [self.deployment.namespace], "rbac": {"aggregate": False}}

    async def upgrade(self, tag="dev", **values):
        """Install or upgrade, with the operator's image of this tag."""
        image = self.stage.load_puller(tag)
        base = self.stage.servers.chart_values(image, self.stage.servers.settings(image))
        await asyncio.to_thread(self.release.install, base | values)

    def move(self):
        """Log the next version and move the alias to it; returns its name."""
        version = self.stage.log_version(self.collection, f"I am number {next(self._numbers)}").version
        self.stage.registry.set_alias(f"{ENTITY}/{REGISTRY}/{self.collection}:{version}", "production")
        return version

    async def webhook(self, pod):
        """Post a webhook to one of the pods; returns the status of the answer, or what went wrong."""
        url = f"http://{pod['status'].get('podIP')}:9443/webhook"
        headers = {"Authorization": f"Bearer {WEBHOOK_TOKEN}"}
        try:
            async with aiohttp.ClientSession() as session, session.post(url, json={}, headers=headers) as answer:
                return answer.status
        except aiohttp.ClientError as error:
            return str(error)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def installed(stage) -> AsyncIterator[Installed]:
    """Installed once for all tests here; whatever became of it, the stage's own operator works on afterwards."""
    where = f"e2e-chart-{int(time.time()):x}"
    models = f"{where}-models"
    release = Release(stage.cluster, name="charted", namespace=where)
    stage.servers.end_operator()
    stage.cluster.apply(namespace(where), webhook_secret(where))
    await stage.namespace(models)
    found = Installed(stage, release, where)
    try:
        await found.upgrade()
        version = found.move()
        manifest = model_deployment(
            models,
            "chat",
            f"{ENTITY}/{REGISTRY}/{where}:production",
            server=stage.servers.registry_url,
            steps=STEPS,
        )
        found.deployment = await stage.deploy(manifest)
        await found.deployment.until_serving(version)
        yield found
    finally:
        release.uninstall()
        stage.cluster.kubectl("delete", "namespace", where, models, "--wait=false")
        stage.define()
        stage.start_operator()


def restarts(pods):
    """Restarts by pod."""
    return {
        pod["metadata"]["uid"]: sum(each["restartCount"] for each in pod["status"].get("containerStatuses") or ())
        for pod in pods
    }


def uids(pods):
    return {pod["metadata"]["uid"] for pod in pods}


async def test_an_upgrade_and_the_way_back_in_mid_canary_restart_no_model_and_lose_no_request(installed):
    deployment, release = installed.deployment, installed.release
    installed.stage.load_puller("next")
    first = release.pods()
    async with deployment.traffic() as traffic:
        version = installed.move()
        status = await deployment.until_weight(version, 20)
        revisions = {status["promoted"][-1], status["canary"]["revision"]}
        before = restarts(await deployment.pods())
        await installed.upgrade("next", log={"level": "debug"})
        second = release.pods()
        assert not uids(first) & uids(second)
        await asyncio.to_thread(release.rollback, 1)
        assert not uids(second) & uids(release.pods())
        status = await deployment.until_serving(version, timeout=90)
    after = restarts(await deployment.pods())
    assert revisions <= set(status["promoted"]), "no other operator made a revision of its own"
    assert before.items() >= {uid: after[uid] for uid in before if uid in after}.items()
    assert before.keys() & after.keys(), "the canary's pods are those that it began with"
    assert not traffic.lost(), traffic.explain()


async def test_a_leader_that_is_killed_in_mid_canary_costs_nothing(installed):
    deployment, release = installed.deployment, installed.release
    async with deployment.traffic() as traffic:
        version = installed.move()
        await deployment.until_weight(version, 20)
        leader = release.leader()
        release.kill(leader)
        await deployment.until_serving(version, timeout=90)
        assert release.leader() not in ("", leader)
    assert not traffic.lost(), traffic.explain()


async def test_both_processes_take_webhooks(installed):
    async def answers():
        return [await installed.webhook(pod) for pod in installed.release.pods()]

    deadline = time.monotonic() + 20
    while (found := await answers()) != [202, 202]:  # the one that waits looks at the lease now and then
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.2)


async def test_models_serve_on_when_the_operator_is_uninstalled_and_one_for_their_namespace_takes_over(installed):
    deployment = installed.deployment
    stable = (await deployment.status())["promoted"][-1]
    before = restarts(await deployment.pods(stable))
    async with deployment.traffic() as traffic:
        await asyncio.to_thread(installed.release.uninstall)
        await installed.stage.until("the operator is gone", lambda: not installed.release.pods())
        asked = len(traffic.answers)
        await traffic.until(lambda t: len(t.answers) >= asked + 40)
        await installed.upgrade(**installed.only_there)
        version = installed.move()
        status = await deployment.until_weight(version, 20)
    assert not traffic.lost(), traffic.explain()
    assert restarts(await deployment.pods(stable)) == before, "what served before serves beside the canary"
    assert weight_of(status, version) >= 20


async def test_an_uninstallation_takes_every_model_along_if_the_values_say_so(installed):
    if installed.stage.cluster.name == EXISTING:
        pytest.skip("in a cluster of somebody else it would take their models too")
    deployment = installed.deployment
    await installed.upgrade(**installed.only_there, crds={"keep": False})
    await asyncio.to_thread(installed.release.uninstall)
    await deployment.until_gone("")
    assert not installed.stage.cluster.kubectl("get", "crd", names.CRD_NAME, "--ignore-not-found")
