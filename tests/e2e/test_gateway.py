"""Which requests reach which version: segments, the test header, sessions, manual edits, gateways that refuse."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import pytest

from e2e.conftest import Scene
from modelsync.api import kinds
from modelsync.api.requests import PROMOTE
from stage.stage import Deployment, StageError, condition, stable_version, weight_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

INTERNAL = {"x-user-group": "internal"}
SEGMENT = {"match": [{"headerName": "x-user-group", "headerValue": {"exact": "internal"}}]}
TEST_HEADER = "X-Model-Revision"


async def ask(session: aiohttp.ClientSession, deployment: Deployment, headers: dict[str, str] | None = None) -> str:
    """The version that answers one request, `v7`; the status if it is not an answer."""
    url = f"{deployment.stage.cluster.gateway_url}/v1/completions"
    body = {"model": "chat", "prompt": "Who are you?", "max_tokens": 1}
    async with session.post(url, json=body, headers={"host": deployment.host, **(headers or {})}) as response:
        await response.read()
        return (response.headers.get("x-model-revision") or str(response.status)).partition("-")[0]


async def until(what: str, ready: Callable[[], Awaitable[bool]], timeout: float = 20.0) -> None:
    """Poll until `await ready()`. Raises StageError on timeout."""
    deadline = time.monotonic() + timeout
    while not await ready():
        if time.monotonic() > deadline:
            raise StageError(f"not within {timeout:g} s: {what}")
        await asyncio.sleep(0.05)


async def answers(deployment: Deployment, headers: dict[str, str], count: int = 10) -> set[str]:
    """The versions that answer requests with these headers."""
    async with aiohttp.ClientSession() as session:
        return set(await asyncio.gather(*(ask(session, deployment, headers) for _ in range(count))))


def rules_of(status: dict[str, Any], version: str) -> Sequence[str]:
    """Descriptions of the requests that reach a version whatever its weight."""
    return [
        rule
        for part in status.get("traffic") or ()
        if part["revision"].startswith(f"{version}-")
        for rule in part.get("rules") or ()
    ]


async def waits_for_a_person(deployment: Deployment, version: str, weight: int) -> str:
    """Wait until the canary is in an open pause with this weight; returns its revision."""
    status = await deployment.until(
        f"{version} is in its pause at {weight} %",
        lambda status: (
            (status.get("waiting") or {}).get("who") == "person"
            and (status.get("canary") or {}).get("weight") == weight
            and (status.get("canary") or {}).get("revision", "").startswith(f"{version}-")
            and weight_of(status, version) == weight
        ),
    )
    return str(status["canary"]["revision"])


async def test_a_segment_comes_before_a_share_and_clients_stay_with_what_answered_them_first(scene: Scene) -> None:
    steps = [SEGMENT, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]
    deployment = await scene.serving(steps=steps, traffic={"sessionAffinity": {"maxAge": "10m"}})
    scene.log("I am the second version")
    async with deployment.traffic() as traffic:
        scene.point("v1")
        canary = await waits_for_a_person(deployment, "v1", 0)
        assert rules_of(await deployment.status(), "v1") == ["requests whose header x-user-group is internal"]
        assert await answers(deployment, INTERNAL) == {"v1"}
        assert await answers(deployment, {"x-user-group": "others"}) == {"v0"}
        assert {revision.partition("-")[0] for revision in traffic.by_revision()} == {"v0"}

        await deployment.annotate(PROMOTE.annotation, canary)
        await waits_for_a_person(deployment, "v1", 50)
        jars = [aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) for _ in range(8)]
        try:
            seen = [{await ask(jar, deployment) for _ in range(8)} for jar in jars]
            assert all(len(versions) == 1 for versions in seen), f"a client has drifted: {seen}"
            assert set.union(*seen) == {"v0", "v1"}, "both get new clients"
            assert all([await ask(jar, deployment, INTERNAL) == "v1" for jar in jars]), "the segment comes first"

            await deployment.annotate(PROMOTE.annotation, f"{canary}/2")
            await deployment.until_serving("v1")
            assert {await ask(jar, deployment) for jar in jars} == {"v1"}, (
                "no session stays on a version that no longer serves"
            )
        finally:
            await asyncio.gather(*(jar.close() for jar in jars))
    assert not traffic.unserved(), traffic.explain(traffic.unserved())


async def test_a_hold_ends_segment_and_test_header_with_one_write(scene: Scene) -> None:
    deployment = await scene.serving(steps=[SEGMENT, {"pause": {}}], traffic={"testHeader": TEST_HEADER})
    scene.log("I am the second version")
    async with deployment.traffic() as traffic:
        scene.point("v1")
        canary = await waits_for_a_person(deployment, "v1", 0)
        assert await answers(deployment, {TEST_HEADER: "v1"}) == {"v1"}
        assert await answers(deployment, {TEST_HEADER: canary}) == {"v1"}
        assert await answers(deployment, INTERNAL) == {"v1"}
        assert await answers(deployment, {TEST_HEADER: "v7"}) == {"v0"}
        scene.hold("v1")
        for headers in (INTERNAL, {TEST_HEADER: "v1"}, {TEST_HEADER: canary}):

            async def stable_answers(headers: dict[str, str] = headers) -> bool:
                return await answers(deployment, headers, 1) == {"v0"}

            await until(f"requests with {headers} reach the stable", stable_answers)
        status = await deployment.until("the canary is gone", lambda status: not status.get("canary"))
        assert rules_of(status, "v1") == []
        assert await answers(deployment, {TEST_HEADER: canary} | INTERNAL) == {"v0"}
    assert not traffic.lost(), traffic.explain()
    assert stable_version(status) == "v0"


async def test_an_edit_of_the_route_is_reverted_and_foreign_annotations_are_kept(scene: Scene) -> None:
    deployment = await scene.serving()
    kube, place = scene.stage.kube, (kinds.HTTP_ROUTE, scene.namespace, deployment.name)
    route = await kube.get(*place)
    strange = [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": []}]
    async with deployment.traffic() as traffic:
        patch = {"metadata": {"annotations": {"example.com/note": "kept"}}, "spec": {"rules": strange}}
        edited = await kube.merge(*place, patch)
        assert edited["spec"] != route["spec"]

        async def is_whole() -> bool:
            return bool((await kube.get(*place))["spec"] == route["spec"])

        async def is_answered() -> bool:
            return await answers(deployment, {}) == {"v0"}

        await until("the route is restored", is_whole)
        await until("the gateway has followed", is_answered)
        await deployment.until_serving("v0")
        first = len(traffic.answers)
        await traffic.until(lambda t: len(t.answers) >= first + 40)
    assert not traffic.lost(traffic.answers[first:]), traffic.explain()
    assert (await kube.get(*place))["metadata"]["annotations"]["example.com/note"] == "kept"


async def test_a_route_that_no_listener_takes_is_never_believed(scene: Scene) -> None:
    """The version is not promoted until the gateway has accepted its route, which only needs the right listener."""
    scene.log("I am the first version")
    scene.point("v0")
    host = f"chat.{scene.namespace}.example.com"
    wrong = {"parentRefs": [{"name": "models", "namespace": "gateways", "sectionName": "nobody"}], "hostnames": [host]}
    deployment = await scene.deploy(traffic={"gateway": wrong})
    status = await deployment.until(
        "the gateway refuses the route", lambda status: condition(status, "RouteReady").get("status") == "False"
    )
    assert not status.get("promoted")
    assert condition(status, "Ready")["status"] != "True"
    right = {"parentRefs": [{"name": "models", "namespace": "gateways", "sectionName": "web", "port": 8000}]}
    await deployment.change(traffic={"gateway": right})
    await deployment.until_serving("v0")
    assert await answers(deployment, {}) == {"v0"}
