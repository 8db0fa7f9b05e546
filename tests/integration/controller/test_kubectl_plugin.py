"""`kubectl modelsync` by a real kubectl against a real apiserver, answered by the running operator."""

import json

from integration.controller.conftest import World
from modelsync.api import names
from plugin import kubectl, plugin

RBAC = "/apis/rbac.authorization.k8s.io/v1"
USER = "alice@example.com"


async def in_canary(world: World) -> None:
    """v0 serves; v1 waits at 20 % for a person."""
    world.point(world.log())
    await world.give_credential()
    await world.deploy(rollout={"steps": [{"setWeight": 20}, {"pause": {}}]})
    await world.until_phase("Healthy")
    world.point(world.log("second"))
    await world.until_status("it waits for a person", waits_for_a_person)


def waits_for_a_person(status: dict[str, object]) -> bool:
    waiting = status.get("waiting")
    return isinstance(waiting, dict) and waiting["who"] == "person"


def grant(world: World, rules: list[dict[str, object]]) -> None:
    """Let USER do so much in the world's namespace."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "alice"}, "rules": rules}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "alice"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "alice"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}],
    }
    world.api.call("POST", f"{RBAC}/namespaces/{world.namespace}/roles", role)
    world.api.call("POST", f"{RBAC}/namespaces/{world.namespace}/rolebindings", binding)


async def test_a_rollout_is_seen_and_steered_from_the_command_line(world: World) -> None:
    here = ("-n", world.namespace)
    ours = [{"apiGroups": [names.GROUP], "resources": [names.PLURAL], "verbs": ["get", "list", "watch", "patch"]}]
    grant(world, ours)
    alice = (*here, "--as", USER)
    async with world.operator(), world.kubelet():
        await in_canary(world)
        canary = (await world.status())["canary"]["revision"]

        tree = (await plugin("get", "chat", *here)).out
        assert f"\n{canary}" in tree
        assert f"kubectl modelsync promote chat -n {world.namespace}\n" in tree
        changes = json.loads((await plugin("diff", "chat", *here, "-o", "json")).out)
        assert [change["what"] for change in changes["changes"]] == ["model"]
        traced = json.loads((await plugin("trace", f"chat@{canary}", *here, "-o", "json")).out)
        assert traced["parts"]["model"]["ref"] == f"{world.path}:v1"
        assert traced["weight"] == 20

        late = await plugin("status", "chat", *alice, "--timeout=1s", code=5)
        assert "a person's promote: kubectl modelsync promote chat" in late.out
        assert canary in (await plugin("promote", "chat", *alice)).out
        assert "v1" in (await plugin("status", "chat", *alice, "--timeout=40s")).out.splitlines()[-1]
        assert (await world.status())["handled"]["promote"].endswith(f"/{USER}")
        assert "nothing to promote: " in (await plugin("promote", "chat", *alice, code=1)).err

        world.point(world.log("third"))
        await world.until_status("it waits for a person", waits_for_a_person)
        assert "aborted: v2-" in (await plugin("abort", "chat", *alice)).out
        assert f"{USER} said abort" in (await plugin("status", "chat", *alice, "--watch=false", code=3)).err

        assert "paused" in (await plugin("pause", "chat", *alice)).out
        assert (await world.read())["spec"]["suspend"] is True
        world.admin.add_tag(f"{world.path}:v1", "regulatory-hold")
        await plugin("refresh", "chat", *alice)
        await world.until_status("the hold is seen", lambda status: status.get("holds"))
        told = (await plugin("hold", "chat", *alice)).out
        assert f"'regulatory-hold', tag on the version {world.path}:v1" in told
        assert f"Revisions      {canary}\n" in told


async def test_whoever_may_not_is_told_what_the_api_server_says(world: World) -> None:
    here = ("-n", world.namespace, "--as", USER)
    await world.deploy()
    refused = await plugin("get", *here, code=1)
    assert refused.err.startswith(f'error: modeldeployments.modelsync.dev is forbidden: User "{USER}" cannot list')
    assert len(refused.err.splitlines()) == 1
    grant(world, [{"apiGroups": [names.GROUP], "resources": [names.PLURAL], "verbs": ["get"]}])
    late = await plugin("status", "chat", *here, "--timeout=1s", code=5)
    assert "not within --timeout=1s: Waiting for chat: the operator has not said anything of it yet" in late.err
    assert "cannot patch" in (await plugin("pause", "chat", *here, code=1)).err
    assert 'modeldeployments.modelsync.dev "nope" not found' in (await plugin("get", "nope", *here, code=1)).err


async def test_kubectl_completes_commands_and_names(world: World) -> None:
    await world.deploy()
    found = (await kubectl("__complete", "modelsync", "pro")).out.splitlines()
    assert found[0].startswith("promote\t")
    assert found[-1] == ":4"
    found = (await kubectl("__complete", "modelsync", "abort", "-n", world.namespace, "")).out.splitlines()
    assert found == ["chat", ":4"]
