"""Errors that a user has to fix are reported with the next step, and go away automatically once they are fixed."""

import re

from integration.controller.conftest import World, until
from modelsync.api import kinds, names

LABEL = names.CREDENTIAL_LABEL


async def test_a_missing_secret_is_named_and_used_once_it_exists(world: World) -> None:
    world.point(world.log())
    async with world.operator(), world.kubelet():
        await world.deploy()
        condition = await world.until_message("ModelResolved", f"Secret {world.namespace}/wandb does not exist")
        assert (condition["status"], condition["reason"]) == ("Unknown", "Refused")
        assert condition["message"].startswith("spec.registry.auth.secretKeyRef: ")

        async def stalled() -> list[tuple[str, str]]:
            found = await world.cluster.list_all(kinds.EVENT, world.namespace, labels=f"{names.NAME_LABEL}=chat")
            return [(each["reason"], each["note"]) for each in found if each["action"] == "Stall"]

        ((reason, note),) = await until("an event that a user has to act", stalled)
        assert (reason, note) == ("Refused", condition["message"])
        await world.give_credential()
        await world.until_phase("Healthy")


async def test_a_secret_whose_owner_has_not_consented_is_not_read(world: World) -> None:
    world.point(world.log())
    await world.give_credential(labelled=False)
    async with world.operator(), world.kubelet():
        await world.deploy()
        condition = await world.until_message("ModelResolved", f"lacks the label {LABEL}=true")
        assert f"kubectl label secret -n {world.namespace} wandb {LABEL}=true" in condition["message"]
        assert not was_queried(world), "the key must not have been sent"
        await world.give_credential()
        await world.until_phase("Healthy")


async def test_a_secret_without_the_key_names_the_keys_it_has(world: World) -> None:
    secret = world.secret()
    secret["stringData"] = {"OTHER": "x"}
    await world.cluster.apply(kinds.SECRET, world.namespace, secret)
    async with world.operator():
        await world.deploy()
        await world.until_message("ModelResolved", "has no key 'WANDB_API_KEY'; its keys are: OTHER")


async def test_a_truncated_key_is_reported_and_never_shown(world: World) -> None:
    await world.give_credential(key="a-short-key")
    async with world.operator():
        await world.deploy()
        condition = await world.until_message("ModelResolved", "must have 40 characters or more, has 11")
        assert "a-short-key" not in str(await world.read())
        assert condition["reason"] == "Refused"


async def test_an_invalid_ca_bundle_is_reported(world: World) -> None:
    await world.give_credential()
    bundle = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "corp-ca", "namespace": world.namespace},
        "data": {"ca.crt": "no certificate"},
    }
    await world.cluster.create(kinds.CONFIG_MAP, world.namespace, bundle)
    registry = world.model_deployment()["spec"]["registry"]
    async with world.operator():
        await world.deploy(registry=registry | {"caBundle": {"configMapKeyRef": {"name": "corp-ca", "key": "ca.crt"}}})
        condition = await world.until_message("ModelResolved", f"ConfigMap {world.namespace}/corp-ca key ca.crt")
        assert "PEM" in condition["message"]


async def test_a_server_that_is_not_allowed_never_sees_the_key(world: World) -> None:
    await world.give_credential()
    async with world.operator(allowed_registries=("https://api.wandb.ai",)):
        await world.deploy()
        condition = await world.until_message("Ready", "spec.registry.baseURL")
        assert (condition["status"], condition["reason"]) == ("False", "InvalidSpec")
        assert "allowed: https://api.wandb.ai" in condition["message"]
        assert not was_queried(world)


async def test_serving_continues_when_the_spec_becomes_invalid_and_a_hold_still_takes_effect(world: World) -> None:
    world.point(world.log())
    await world.give_credential()
    async with world.operator(), world.kubelet():
        await world.deploy()
        await world.until_phase("Healthy")
        wrong = {"spec": {"serving": {"args": ["--trust-remote-code=true"]}}}
        await world.cluster.merge(kinds.MODEL_DEPLOYMENT, world.namespace, "chat", wrong)
        condition = await world.until_message("Ready", "spec.serving.args[0]")
        assert condition["status"] == "False"
        assert await world.weights() == {"v0": 100}

        world.admin.add_tag(f"{world.path}:v0", "regulatory-hold")
        await world.until_status("the hold", lambda status: status.get("holds"))
        await world.until_status(
            "no traffic for it", lambda status: [part["revision"] for part in status["traffic"]] == ["blocked"]
        )


async def test_the_younger_of_two_routes_for_a_host_is_not_written_until_the_older_is_deleted(world: World) -> None:
    world.point(world.log())
    await world.give_credential()
    theirs = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "theirs", "namespace": world.namespace},
        "spec": {
            "parentRefs": [{"name": "models", "namespace": "gateways"}],
            "hostnames": [f"{world.namespace}.example.com"],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}]}],
        },
    }
    await world.cluster.create(kinds.HTTP_ROUTE, world.namespace, theirs)
    async with world.operator(), world.kubelet():
        await world.deploy()
        condition = await world.until_message("RouteReady", f"HTTPRoute {world.namespace}/theirs is older")
        assert (condition["status"], condition["reason"]) == ("False", "Conflict")
        assert "HTTPRoute/chat" not in await world.objects()

        await world.cluster.delete(kinds.HTTP_ROUTE, world.namespace, "theirs")
        await world.until_phase("Healthy")


async def test_pods_refused_by_a_quota_are_reported_and_created_when_the_quota_allows_it(world: World) -> None:
    world.point(world.log())
    await world.give_credential()
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": world.namespace},
        "spec": {"hard": {"pods": "0"}},
    }
    path = f"/api/v1/namespaces/{world.namespace}/resourcequotas"
    world.api.call("POST", path, quota)
    async with world.operator(), world.kubelet():
        await world.deploy()
        status = await world.until_status(
            "the quota in the status", lambda status: re.search(r"exceeded quota", str(status.get("conditions")))
        )
        assert not status.get("failed"), "an infrastructure error must not count as a failure of the version"
        # ReplicaSets back off: pods are created when the Deployment changes, or some minutes later.
        world.api.call("DELETE", f"{path}/none")
        await world.cluster.merge(kinds.MODEL_DEPLOYMENT, world.namespace, "chat", {"spec": {"replicas": 2}})
        await world.until_status("a pod", lambda status: status.get("pods"))


async def test_serving_continues_when_a_record_is_deleted_by_hand(world: World) -> None:
    world.point(world.log())
    await world.give_credential()
    async with world.operator(), world.kubelet():
        await world.deploy()
        status = await world.until_phase("Healthy")
        child = f"chat-{status['promoted'][-1]}"
        await world.cluster.delete(kinds.CONTROLLER_REVISION, world.namespace, child)

        async def again() -> bool:
            return f"ControllerRevision/{child}" in await world.objects()

        await until("the record is written again, since the alias still names the version", again)
        assert await world.weights() == {"v0": 100}


def was_queried(world: World) -> bool:
    """Whether the registry got any request about our project."""
    return bool(world.admin.requests(ref=f"*{world.namespace}*"))
