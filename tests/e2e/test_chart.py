"""The operator as users install it: by Helm, in pods, with exactly the chart's permissions."""

import asyncio
import json
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from prometheus_client.parser import text_string_to_metric_families

from localcluster.foreign import NAME as EXISTING
from modelsync.api import names
from modelsync.api.requests import PROMOTE
from plugin import plugin
from stage import Deployment, Stage
from stage.manifests import model_deployment, namespace
from stage.release import Release
from stage.servers import REPOSITORY, SYSTEM_NAMESPACE, WEBHOOK_TOKEN, webhook_secret
from stage.stage import ENTITY, REGISTRY, weight_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

# The canary stays at its first step until it is promoted, so that everything in between happens during a canary.
STEPS: Sequence[dict[str, Any]] = ({"setWeight": 20}, {"pause": {}}, {"setWeight": 50}, {"pause": {"duration": "2s"}})
CERTIFICATE = "webhook-tls"


class Installed:
    """A release that replaces the stage's operator, and a ModelDeployment that serves."""

    def __init__(self, stage: Stage, release: Release, where: str, certificate: Path) -> None:
        self.stage = stage
        self.release = release
        self.collection = where
        self.deployment: Deployment  # as soon as it is applied
        self._trust = ssl.create_default_context(cafile=certificate)
        self._numbers = count()

    @property
    def only_there(self) -> dict[str, Any]:
        """Values of a release that may access only the ModelDeployment's namespace, with one process."""
        return {"watchNamespaces": [self.deployment.namespace], "rbac": {"aggregate": False}, "replicas": 1}

    async def upgrade(self, tag: str = "dev", **values: Any) -> None:
        """Install or upgrade, with the operator's image of this tag."""
        image = self.stage.load_puller(tag)
        base = self.stage.servers.chart_values(image, self.stage.servers.settings(image))
        base["webhook"] |= {"tls": {"secretName": CERTIFICATE}}
        await asyncio.to_thread(self.release.install, base | values)

    def move(self) -> str:
        """Log the next version and move the alias to it; returns its name."""
        version = self.stage.log_version(self.collection, f"I am number {next(self._numbers)}").version
        self.stage.registry.set_alias(f"{ENTITY}/{REGISTRY}/{self.collection}:{version}", "production")
        return version

    async def canary(self) -> dict[str, Any]:
        """Ensure that there is a canary at its first step; returns the status."""
        if not (await self.deployment.status()).get("canary"):
            self.move()
        return await self.deployment.until(
            "a canary waits at 20 %",
            lambda status: (
                (status.get("waiting") or {}).get("who") == "person"
                and (status.get("canary") or {}).get("weight") == 20
                and weight_of(status, status["canary"]["revision"].partition("-")[0]) == 20
            ),
        )

    async def webhook(self, url: str) -> int | str:
        """Post a webhook as a client that trusts the certificate; returns the answer's status, or the error."""
        headers = {"Authorization": f"Bearer {WEBHOOK_TOKEN}"}
        options: dict[str, Any] = (
            {"ssl": self._trust, "server_hostname": server_name(self.release)} if "https:" in url else {}
        )
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(url, json={}, headers=headers, **options) as answer,
            ):
                return answer.status
        except aiohttp.ClientError as error:
            return str(error)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def installed(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installed]:
    """Installed once for all tests here; in any case, the stage's own operator takes over again afterwards."""
    where = f"e2e-chart-{int(time.time()):x}"
    models = f"{where}-models"
    release = Release(stage.cluster, name="charted", namespace=where)
    chain, secret = certificate(tmp_path_factory.mktemp("certificate"), server_name(release), where)
    stage.servers.forget_operator()  # with its admission policy, which no other operator passes
    stage.cluster.apply(namespace(where), webhook_secret(where), secret)
    await stage.namespace(models)
    found = Installed(stage, release, where, chain)
    try:
        await found.upgrade()
        version = found.move()
        manifest = model_deployment(
            models,
            "chat",
            f"{ENTITY}/{REGISTRY}/{where}:production",
            server=stage.servers.registry_url,
            steps=STEPS,
            replicas=1,
        )
        found.deployment = await stage.deploy(manifest)
        await found.deployment.until_serving(version)
        yield found
    finally:
        release.uninstall()
        stage.cluster.kubectl("delete", "namespace", where, models, "--wait=false")
        stage.define()
        stage.start_operator()


def server_name(release: Release) -> str:
    return f"{release.fullname}-webhook.{release.namespace}.svc"


def certificate(folder: Path, name: str, where: str) -> tuple[Path, dict[str, Any]]:
    """A self-signed certificate, and the Secret from which the chart takes it."""
    chain, key = folder / "tls.crt", folder / "tls.key"
    command: list[str | Path] = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=modelsync", "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", chain]
    subprocess.run(command, check=True, capture_output=True)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": CERTIFICATE, "namespace": where},
        "type": "kubernetes.io/tls",
        "stringData": {file.name: file.read_text() for file in (chain, key)},
    }
    return chain, secret


def restarts(pods: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Restarts by pod."""
    return {
        pod["metadata"]["uid"]: sum(each["restartCount"] for each in pod["status"].get("containerStatuses") or ())
        for pod in pods
    }


def uids(pods: Iterable[Mapping[str, Any]]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


async def scraped(pod: Mapping[str, Any]) -> dict[tuple[str, str | None], float]:
    """The metrics of a pod, at the address in the chart: (name, result or None) -> value."""
    (operator,) = pod["spec"]["containers"]
    (port,) = [each["containerPort"] for each in operator["ports"] if each["name"] == "metrics"]
    url = f"http://{pod['status']['podIP']}:{port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        families = text_string_to_metric_families(await answer.text())
    return {(sample.name, sample.labels.get("result")): sample.value for each in families for sample in each.samples}


async def test_an_upgrade_and_the_way_back_in_mid_canary_restart_no_model_and_lose_no_request(
    installed: Installed,
) -> None:
    deployment, release = installed.deployment, installed.release
    installed.stage.load_puller("next")
    first = release.pods()
    async with deployment.traffic() as traffic:
        canary = await installed.canary()
        before = restarts(await deployment.pods())
        await installed.upgrade("next", log={"level": "debug"})
        second = release.pods()
        assert not uids(first) & uids(second)
        await asyncio.to_thread(release.rollback, 1)
        third = {pod["metadata"]["name"]: pod for pod in release.pods()}
        assert not uids(second) & uids(third.values())
        await installed.stage.until("one of them leads", lambda: release.leader() in third)
        after = await deployment.status()
    assert restarts(await deployment.pods()) == before
    assert after["canary"]["revision"] == canary["canary"]["revision"], "no other operator made a revision of its own"
    assert after["traffic"] == canary["traffic"]
    assert not traffic.lost(), traffic.explain()


async def test_a_leader_that_is_killed_in_mid_canary_costs_nothing(installed: Installed) -> None:
    deployment, release = installed.deployment, installed.release
    async with deployment.traffic() as traffic:
        canary = (await installed.canary())["canary"]["revision"]
        leader = release.leader()
        release.kill(leader)
        await deployment.annotate(PROMOTE.annotation, f"{canary}/1")
        await deployment.until_serving(canary.partition("-")[0], timeout=90)
        assert release.leader() not in ("", leader)
    assert not traffic.lost(), traffic.explain()


async def test_both_processes_take_webhooks_by_tls_and_answer_prometheus(installed: Installed) -> None:
    release = installed.release
    pods = release.pods()

    async def answers(scheme: str = "https") -> list[int | str]:
        return [await installed.webhook(f"{scheme}://{pod['status'].get('podIP')}:9443/webhook") for pod in pods]

    deadline = time.monotonic() + 20
    while (found := await answers()) != [202, 202]:  # the waiting one polls the lease
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.2)
    assert 202 not in await answers("http"), "plain HTTP is refused"
    service = release.webhook_url(tls=True)
    assert [await installed.webhook(service) for _ in range(6)] == [202] * 6
    metrics = {pod["metadata"]["name"]: await scraped(pod) for pod in pods}
    leads = {name: each["leader_election_master_status", None] for name, each in metrics.items()}
    assert leads == {name: float(name == release.leader()) for name in leads}
    assert sorted(leads.values()) == [0, 1]
    # Each counts the webhooks it received: the waiting one has forwarded them to the leader.
    assert all(each["modelsync_webhooks_total", "Accepted"] > 0 for each in metrics.values())


async def test_the_plugin_finds_all_well_and_the_charts_role_lets_a_person_do_so_much(installed: Installed) -> None:
    release, here = installed.release, ("-n", installed.deployment.namespace)
    responder = f"--clusterrole={release.fullname}-responder"
    installed.stage.cluster.kubectl("create", "rolebinding", "on-call", *here, responder, "--user=carol")
    found = json.loads((await plugin("doctor", "chat", *here, "-o", "json")).out)
    assert {each["verdict"] for each in found} == {"ok"}, found
    results = " ".join(each["says"] for each in found)
    assert f"{release.leader()}_" in results
    account = f"system:serviceaccount:{release.namespace}:{release.fullname}"
    assert f"{account} has the permissions it needs in {here[1]}" in results

    carol = (*here, "--as=carol")
    few = json.loads((await plugin("doctor", "chat", *carol, "-o", "json")).out)
    assert {each["verdict"] for each in few if each["check"] == "your rights"} == {"ok", "warning"}
    assert "refreshed" in (await plugin("refresh", "chat", *carol)).out
    assert "paused" in (await plugin("pause", "chat", *carol)).out
    refused = (await plugin("resume", "chat", *carol, code=1)).err
    assert refused.startswith("error: carol may not resume rollouts")
    assert "modelsync-approver --namespace=" in refused
    assert "resumed" in (await plugin("resume", "chat", *here)).out


async def test_models_serve_on_when_the_operator_is_uninstalled_and_one_for_their_namespace_takes_over(
    installed: Installed,
) -> None:
    deployment = installed.deployment
    stable = (await deployment.status())["promoted"][-1]
    before = restarts(await deployment.pods(stable))
    async with deployment.traffic() as traffic:
        await asyncio.to_thread(installed.release.uninstall)
        assert not installed.release.leases(), "the next leader need not wait for one that has ended"
        await installed.stage.until("the operator is gone", lambda: not installed.release.pods())
        version = installed.move()
        asked = len(traffic.answers)
        await traffic.until(lambda t: len(t.answers) >= asked + 40)
        await installed.upgrade(**installed.only_there)
        status = await deployment.until_weight(version, 20)
    assert not traffic.lost(), traffic.explain()
    assert restarts(await deployment.pods(stable)) == before, "the stable serves beside the canary"
    assert weight_of(status, version) >= 20


async def test_an_uninstallation_takes_every_model_along_if_the_values_say_so(installed: Installed) -> None:
    if installed.stage.cluster.name == EXISTING:
        pytest.skip("in a foreign cluster it would delete their models, too")
    deployment = installed.deployment
    await installed.upgrade(**installed.only_there, crds={"keep": False})
    await asyncio.to_thread(installed.release.uninstall)
    await deployment.until_gone("")
    assert not installed.stage.cluster.kubectl("get", "crd", names.CRD_NAME, "--ignore-not-found")


async def test_the_kustomize_base_runs_with_the_image_of_ones_own(installed: Installed, tmp_path: Path) -> None:
    stage = installed.stage
    if stage.cluster.name == EXISTING:
        pytest.skip(f"{SYSTEM_NAMESPACE} is not ours to delete")
    shutil.copytree(REPOSITORY / "deploy", tmp_path / "base")
    image = stage.load_puller("dev")
    repository, _, tag = image.rpartition(":")
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "modelsync-settings", "namespace": SYSTEM_NAMESPACE},
        "data": {"settings.yaml": yaml.safe_dump(stage.servers.settings(image))},
    }
    kustomization = {
        "resources": ["../base"],
        "images": [{"name": "modelsync", "newName": repository, "newTag": tag}],
        "patches": [{"patch": yaml.safe_dump(settings)}],
        "replicas": [{"name": "modelsync", "count": 1}],
    }
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    stage.servers.forget_operator()
    kubectl = stage.cluster.kubectl
    try:
        kubectl("apply", "--server-side", "--force-conflicts", "--warnings-as-errors", "-k", tmp_path / "mine")
        here = f"--namespace={SYSTEM_NAMESPACE}"
        kubectl("rollout", "status", "deployment/modelsync", here, "--timeout=60s")
        pods = kubectl("get", "pods", here, "-o", "name")
        await stage.until(
            "its pod leads",
            lambda: (
                bool(holder := kubectl("get", "lease", "modelsync", here, "-o", "jsonpath={.spec.holderIdentity}"))
                and holder.rpartition("_")[0] in pods
            ),
        )
    finally:
        await asyncio.to_thread(kubectl, "delete", "-k", tmp_path / "mine", "--ignore-not-found")
