"""The running operator: what it writes and does not write, how it starts and stops."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
import structlog

from integration.controller.conftest import World, until
from modelsync.api import kinds, names
from modelsync.cluster.client import Cluster
from modelsync.cluster.errors import ClusterError, ConflictError, InvalidError
from modelsync.controller.run import run_until


async def serving(world: World, version: str | None = None) -> dict[str, Any]:
    """Deploy a first version, and wait until it serves."""
    if version is None:
        version = world.log()
        world.point(version)
    await world.give_credential()
    await world.deploy()
    return await world.until_phase("Healthy")


async def test_a_first_version_is_created_and_gets_all_traffic(world: World) -> None:
    async with world.operator(), world.kubelet():
        status = await serving(world)
        revision = status["promoted"][-1]
        assert revision.startswith("v0-")
        assert await world.weights() == {"v0": 100}
        wanted = {
            f"ControllerRevision/chat-{revision}",
            f"Deployment/chat-{revision}",
            f"Service/chat-{revision}",
            f"Secret/chat-{revision}-fuse",
            "Service/chat",
            "Service/chat-blocked",
            "HTTPRoute/chat",
            "PodDisruptionBudget/chat",
        }

        async def whole() -> bool:
            return wanted <= (await world.objects()).keys()

        await until("all children", whole)
        objects = await world.objects()
        assert objects["Service/chat"]["spec"]["selector"][names.REVISION_LABEL] == revision
        assert await world.condition("Ready")


async def test_without_changes_nothing_is_written(world: World) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)

        await until_quiet(world)
        assert await stays(world, await versions(world))


async def test_a_restart_without_changes_writes_nothing(world: World) -> None:
    async with world.kubelet():
        async with world.operator():
            await serving(world)
            await until_quiet(world)
        before = await versions(world)
        async with world.operator():
            assert await stays(world, before)


async def versions(world: World) -> dict[str, str]:
    return {name: obj["metadata"]["resourceVersion"] for name, obj in (await world.objects()).items()}


async def stays(world: World, before: dict[str, str]) -> bool:
    """Whether nothing is written during three registry requests about our project."""
    after = world.admin.last_request()
    await asyncio.to_thread(world.admin.wait_for_requests, 3, since=after, ref=f"*{world.namespace}*", seconds=30)
    return await versions(world) == before


async def until_quiet(world: World) -> None:
    async def quiet() -> bool:
        return await stays(world, await versions(world))

    await until("nothing is written any more", quiet)


async def test_a_hold_removes_traffic_and_pods_and_is_shown_on_the_route(world: World) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)
        world.admin.add_tag(f"{world.path}:v0", "regulatory-hold")
        await world.until_status("the hold in the status", lambda status: status.get("holds"))

        async def blocked() -> bool:
            return await world.weights() == {"blocked": 1} and not await world.pods("v0")

        await until("the held version gets no traffic", blocked)
        there = await world.objects()
        assert "regulatory-hold" in there["HTTPRoute/chat"]["metadata"]["annotations"][names.HOLD_ANNOTATION]
        assert there["Service/chat"]["spec"]["selector"][names.REVISION_LABEL] == "blocked"

        world.admin.remove_tag(f"{world.path}:v0", "regulatory-hold")
        await world.until_phase("Healthy")
        assert await world.weights() == {"v0": 100}


async def test_pods_that_do_not_respond_to_their_fuse_are_waited_for_without_a_busy_loop(world: World) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)
        with structlog.testing.capture_logs() as lines:
            world.admin.add_tag(f"{world.path}:v0", "regulatory-hold")

            async def gone() -> bool:
                return not await world.pods("v0")

            await until("the pods of the held version are gone", gone)
        passes = [line for line in lines if line["event"] == "reconciled"]
        assert any("CutOff" in action for line in passes for action in line["actions"])
        assert {line["stable"].partition("-")[0] for line in passes} == {"v0"}
        (held,) = [event for line in passes for event in line["events"] if event.startswith("RegulatoryHold: ")]
        assert "its tag 'regulatory-hold'" in held
        # Every pass has done something, and the cut-off was started once, or once more for changes in the meantime.
        assert all(line["actions"] or line["kept_up"] or line["status"] for line in passes)
        assert sum("CutOff" in action for line in passes for action in line["actions"]) <= 2


@pytest.mark.parametrize("error", [ConflictError("written by another"), InvalidError("refused", reason="refused")])
async def test_a_status_that_cannot_be_written_does_not_stop_a_hold(
    world: World, monkeypatch: pytest.MonkeyPatch, error: ClusterError
) -> None:
    async def refused(*_: Any) -> kinds.Object:
        raise error

    async with world.operator(), world.kubelet():
        await serving(world)
        monkeypatch.setattr(Cluster, "replace_status", refused)
        world.admin.add_tag(f"{world.path}:v0", "regulatory-hold")

        async def blocked() -> bool:
            return await world.weights() == {"blocked": 1} and not await world.pods("v0")

        await until("the held version gets no traffic", blocked)
        assert not (await world.status()).get("holds")
        monkeypatch.undo()
        await world.until_status("the hold, reported late", lambda status: status.get("holds"))


async def test_a_foreign_service_with_our_name_is_not_changed_and_named(world: World) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "chat", "namespace": world.namespace},
        "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80}]},
    }
    await world.cluster.create(kinds.SERVICE, world.namespace, theirs)
    world.point(world.log())
    await world.give_credential()
    async with world.operator(), world.kubelet():
        await world.deploy()
        await world.until_message("Ready", f"Service {world.namespace}/chat already exists")
        found = await world.cluster.get(kinds.SERVICE, world.namespace, "chat")
        assert found["spec"]["selector"] == {"app": "theirs"}

        await world.cluster.delete(kinds.SERVICE, world.namespace, "chat")
        await world.until_phase("Healthy")


async def test_manual_edits_are_reverted(world: World) -> None:
    async with world.operator(), world.kubelet():
        status = await serving(world)
        child = f"chat-{status['promoted'][-1]}"
        await world.cluster.merge(
            kinds.SERVICE, world.namespace, child, {"spec": {"selector": {names.REVISION_LABEL: "mine"}}}
        )
        await world.cluster.delete(kinds.POD_DISRUPTION_BUDGET, world.namespace, "chat")
        route = (await world.objects())["HTTPRoute/chat"]
        route["spec"]["rules"][0]["backendRefs"][0]["weight"] = 7
        await world.cluster.replace(kinds.HTTP_ROUTE, world.namespace, route)

        async def right() -> bool:
            there = await world.objects()
            selector = there[f"Service/{child}"]["spec"]["selector"]
            return (
                selector.get(names.REVISION_LABEL) == status["promoted"][-1]
                and "PodDisruptionBudget/chat" in there
                and await world.weights() == {"v0": 100}
            )

        await until("everything is as it was", right)


async def test_a_service_that_was_deleted_by_hand_is_recreated(world: World) -> None:
    async with world.operator(), world.kubelet():
        status = await serving(world)
        child = f"chat-{status['promoted'][-1]}"
        before = (await world.objects())[f"Service/{child}"]["metadata"]["uid"]
        await world.cluster.delete(kinds.SERVICE, world.namespace, child)

        async def back() -> bool:
            found = await world.cluster.find(kinds.SERVICE, world.namespace, child)
            return found is not None and found["metadata"]["uid"] != before

        await until("the Service is back", back)


async def test_the_children_of_a_deleted_model_deployment_are_deleted(world: World) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)
        await world.cluster.delete(kinds.MODEL_DEPLOYMENT, world.namespace, "chat")

        async def gone() -> bool:
            return not {name for name in await world.objects() if "chat" in name}

        await until("all children are gone", gone)


async def test_a_recreated_model_deployment_has_new_children(world: World) -> None:
    async with world.operator(), world.kubelet():
        first = await serving(world)
        old = (await world.read())["metadata"]["uid"]
        await world.cluster.delete(kinds.MODEL_DEPLOYMENT, world.namespace, "chat")
        await world.deploy()
        again = await world.until_phase("Healthy")
        assert again["promoted"] == first["promoted"]
        for name, obj in (await world.objects()).items():
            if "chat" in name and obj["kind"] != "ModelDeployment":
                (owner,) = obj["metadata"]["ownerReferences"]
                assert owner["uid"] != old, name


async def test_the_fuse_of_a_forgotten_revision_is_deleted_and_a_foreign_secret_of_that_name_is_not(
    world: World,
) -> None:
    rollout = {"steps": [], "keepPrevious": {"replicas": 0, "duration": "0s"}}

    async def promote(text: str) -> str:
        world.point(version := world.log(text))
        await world.until_status(f"{version} serves", lambda status: is_stable(status, version))
        return str((await world.status())["promoted"][-1])

    async def until_forgotten(revision: str) -> None:
        async def forgotten() -> bool:
            return f"ControllerRevision/chat-{revision}" not in await world.objects()

        await until(f"{revision} is forgotten", forgotten)

    async with world.operator(), world.kubelet():
        world.point(world.log())
        await world.give_credential()
        await world.deploy(revisionHistoryLimit=1, rollout=rollout)
        first = (await world.until_phase("Healthy"))["promoted"][-1]
        second = await promote("second")
        fuse = f"chat-{second}-fuse"
        await world.cluster.delete(kinds.SECRET, world.namespace, fuse)
        theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": fuse}, "stringData": {"key": "theirs"}}
        await world.cluster.create(kinds.SECRET, world.namespace, theirs)
        await promote("third")
        await until_forgotten(first)
        await promote("fourth")
        await until_forgotten(second)
        secrets = {name for name in await world.objects() if name.startswith("Secret/chat-")}
        assert f"Secret/chat-{first}-fuse" not in secrets
        assert f"Secret/{fuse}" in secrets


def is_stable(status: dict[str, Any], version: str) -> bool:
    return bool(status.get("promoted")) and status["promoted"][-1].startswith(f"{version}-")


async def test_without_a_gateway_the_service_carries_the_traffic(world: World) -> None:
    world.point(world.log())
    await world.give_credential()
    async with world.operator(), world.kubelet():
        await world.deploy(gateway=False)
        status = await world.until_phase("Healthy")
        assert status["url"] == f"http://chat.{world.namespace}.svc:8000/v1"
        there = await world.objects()
        assert "HTTPRoute/chat" not in there
        assert there["Service/chat"]["spec"]["selector"][names.REVISION_LABEL] == status["promoted"][-1]


async def test_the_lease_is_released_at_shutdown_and_the_next_leader_stamps_what_it_changes(world: World) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)
    (lease,) = await world.cluster.list_all(kinds.LEASE, world.namespace)
    assert lease["spec"]["holderIdentity"] == ""

    world.point(world.log("second"))
    async with world.operator(), world.kubelet():
        await world.until_status("a canary", lambda status: status.get("canary"))
        (lease,) = await world.cluster.list_all(kinds.LEASE, world.namespace)
        assert lease["spec"]["leaseTransitions"] == 1
        epoch = f"{lease['metadata']['uid'][:8]}-1"
        there = await world.objects()
        for name in ("ModelDeployment/chat", "HTTPRoute/chat", "Service/chat"):
            assert there[name]["metadata"]["annotations"][names.LEADER_EPOCH_ANNOTATION] == epoch, name


async def test_a_hold_that_was_set_while_the_operator_was_down_takes_effect_at_its_start(world: World) -> None:
    async with world.kubelet():
        async with world.operator():
            await serving(world)
        world.admin.add_tag(f"{world.path}:v0", "regulatory-hold")
        async with world.operator():

            async def blocked() -> bool:
                return await world.weights() == {"blocked": 1}

            await until("the hold takes effect", blocked)


async def test_an_emptied_route_is_written_again_and_foreign_annotations_stay(world: World) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)
        rules = [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": []}]
        emptied = {"metadata": {"annotations": {"example.com/note": "kept"}}, "spec": {"rules": rules}}
        await world.cluster.merge(kinds.HTTP_ROUTE, world.namespace, "chat", emptied)

        async def whole() -> bool:
            return await world.weights() == {"v0": 100}

        await until("the route sends everything to the version again", whole)
        route = (await world.objects())["HTTPRoute/chat"]
        assert route["metadata"]["annotations"]["example.com/note"] == "kept"
        assert [match["path"]["value"] for match in route["spec"]["rules"][0]["matches"]] == ["/v1"]


async def test_events_report_the_rollout(world: World) -> None:
    async with world.operator(), world.kubelet():
        status = await serving(world)

        async def promoted() -> dict[str, Any] | None:
            found = await world.cluster.list_all(kinds.EVENT, world.namespace, labels=f"{names.NAME_LABEL}=chat")
            return next((each for each in found if each["reason"] == "Promoted"), None)

        event = await until("an event of the promotion", promoted)
    assert event["regarding"]["kind"] == "ModelDeployment"
    assert event["related"]["name"] == f"chat-{status['promoted'][-1]}"
    assert event["reportingController"] == "modelsync.dev/operator"


async def test_two_operators_never_write_at_the_same_time(world: World) -> None:
    async with world.operator(), world.kubelet():
        await serving(world)
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            standby = asyncio.Event()
            second = group.create_task(stand_by(world, standby))
            await until("the second one waits", lambda: lease_is_held(world))
            standby.set()
            await second


async def lease_is_held(world: World) -> bool:
    (lease,) = await world.cluster.list_all(kinds.LEASE, world.namespace)
    return bool(lease["spec"]["holderIdentity"])


async def stand_by(world: World, stop: asyncio.Event) -> None:
    assert await run_until(stop, world.options()) == 0


async def test_an_operator_that_lost_its_lease_exits_at_once_with_code_1(world: World) -> None:
    running = asyncio.create_task(run_until(asyncio.Event(), world.options()))

    async def held() -> bool:
        found = await world.cluster.list_all(kinds.LEASE, world.namespace)
        return bool(found and found[0]["spec"]["holderIdentity"])

    await until("it leads", held)

    async def taken() -> bool:
        (lease,) = await world.cluster.list_all(kinds.LEASE, world.namespace)
        lease["spec"]["holderIdentity"] = "thief"
        with suppress(ConflictError):  # it was renewed just then
            await world.cluster.replace(kinds.LEASE, world.namespace, lease)
        return running.done()

    await until("it has ended", taken)
    assert await running == 1
