"""What a person must put right: each is told where it is looked for, with the next step, and mends by itself."""

import re

from integration.controller.conftest import World, until
from modelsync.api import kinds, names

LABEL = names.CREDENTIAL_LABEL


async def test_a_secret_that_is_not_there_is_named_and_found_when_it_comes(world: World) -> None:
    world.point(world.log())
    async with world.operator(), world.kubelet():
        await world.deploy()
        said = await world.until_said("ModelResolved", f"Secret {world.namespace}/wandb does not exist")
        assert (said["status"], said["reason"]) == ("Unknown", "Refused")
        assert said["message"].startswith("spec.registry.auth.secretKeyRef: ")

        async def told() -> list[tuple[str, str]]:
            found = await world.cluster.list_all(kinds.EVENT, world.namespace, labels=f"{names.NAME_LABEL}=chat")
            return [(each["reason"], each["note"]) for each in found if each["action"] == "Stall"]

        ((reason, note),) = await until("an event that a person is needed", told)
        assert (reason, note) == ("Refused", said["message"])
        await world.give_credential()
        await world.until_phase("Healthy")


async def test_a_secret_whose_owner_has_not_consented_is_not_read(world: World) -> None:
    world.point(world.log())
    await world.give_credential(labelled=False)
    async with world.operator(), world.kubelet():
        await world.deploy()
        said = await world.until_said("ModelResolved", f"lacks the label {LABEL}=true")
        assert f"kubectl label secret -n {world.namespace} wandb {LABEL}=true" in said["message"]
        assert not asked(world), "the key must not have been sent"
        await world.give_credential()
        await world.until_phase("Healthy")


async def test_a_secret_without_the_key_names_the_keys_it_has(world: World) -> None:
    secret = world.secret()
    secret["stringData"] = {"OTHER": "x"}
    await world.cluster.apply(kinds.SECRET, world.namespace, secret)
    async with world.operator():
        await world.deploy()
        await world.until_said("ModelResolved", "has no key 'WANDB_API_KEY'; its keys are: OTHER")


async def test_a_key_that_was_cut_off_is_told_and_never_shown(world: World) -> None:
    await world.give_credential(key="a-short-key")
    async with world.operator():
        await world.deploy()
        said = await world.until_said("ModelResolved", "must have 40 characters or more, has 11")
        assert "a-short-key" not in str(await world.read())
        assert said["reason"] == "Refused"


async def test_a_ca_bundle_that_is_none_is_told(world: World) -> None:
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
        said = await world.until_said("ModelResolved", f"ConfigMap {world.namespace}/corp-ca key ca.crt")
        assert "PEM" in said["message"]


async def test_a_server_that_is_not_allowed_never_sees_the_key(world: World) -> None:
    await world.give_credential()
    async with world.operator(allowed_registries=("https://api.wandb.ai",)):
        await world.deploy()
        said = await world.until_said("Ready", "spec.registry.baseURL")
        assert (said["status"], said["reason"]) == ("False", "InvalidSpec")
        assert "allowed: https://api.wandb.ai" in said["message"]
        assert not asked(world)


async def test_what_serves_goes_on_when_the_spec_becomes_wrong_and_a_hold_still_acts(world: World) -> None:
    world.point(world.log())
    await world.give_credential()
    async with world.operator(), world.kubelet():
        await world.deploy()
        await world.until_phase("Healthy")
        wrong = {"spec": {"serving": {"args": ["--trust-remote-code=true"]}}}
        await world.cluster.merge(kinds.MODEL_DEPLOYMENT, world.namespace, "chat", wrong)
        said = await world.until_said("Ready", "spec.serving.args[0]")
        assert said["status"] == "False"
        assert await world.weights() == {"v0": 100}

        world.admin.add_tag(f"{world.path}:v0", "regulatory-hold")
        await world.until_status("the hold", lambda status: status.get("holds"))
        await world.until_status(
            "no traffic for it", lambda status: [part["revision"] for part in status["traffic"]] == ["blocked"]
        )


async def test_the_younger_of_two_on_one_host_writes_no_route_until_the_older_goes(world: World) -> None:
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
        said = await world.until_said("RouteReady", f"HTTPRoute {world.namespace}/theirs is older")
        assert (said["status"], said["reason"]) == ("False", "Conflict")
        assert "HTTPRoute/chat" not in await world.objects()

        await world.cluster.delete(kinds.HTTP_ROUTE, world.namespace, "theirs")
        await world.until_phase("Healthy")


async def test_pods_that_a_quota_refuses_are_told_and_come_when_there_is_room(world: World) -> None:
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
        assert not status.get("failed"), "infrastructure is never the version's fault"
        # ReplicaSets back off: pods come when the Deployment is touched, or some minutes later.
        world.api.call("DELETE", f"{path}/none")
        await world.cluster.merge(kinds.MODEL_DEPLOYMENT, world.namespace, "chat", {"spec": {"replicas": 2}})
        await world.until_status("a pod", lambda status: status.get("pods"))


async def test_a_record_that_was_deleted_by_hand_does_not_stop_what_serves(world: World) -> None:
    world.point(world.log())
    await world.give_credential()
    async with world.operator(), world.kubelet():
        await world.deploy()
        status = await world.until_phase("Healthy")
        child = f"chat-{status['promoted'][-1]}"
        await world.cluster.delete(kinds.CONTROLLER_REVISION, world.namespace, child)

        async def again() -> bool:
            return f"ControllerRevision/{child}" in await world.objects()

        await until("the record is written anew, since the alias still names the version", again)
        assert await world.weights() == {"v0": 100}


def asked(world: World) -> bool:
    """Whether the registry got any question about our project."""
    return bool(world.admin.requests(ref=f"*{world.namespace}*"))
