"""`kubectl modelsync` with a real kubectl, a real API server and the running operator."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import policy
from apiserver import ApiServer
from integration.controller.conftest import World
from modelsync.api import names
from plugin import kubectl, plugin, watching

RBAC = "/apis/rbac.authorization.k8s.io/v1"
USER = "alice@example.com"


async def in_canary(world: World) -> None:
    """v0 serves; v1 waits at 20 % to be promoted."""
    world.point(world.log())
    await world.give_credential()
    await world.deploy(rollout={"steps": [{"setWeight": 20}, {"pause": {}}]})
    await world.until_phase("Healthy")
    world.point(world.log("second"))
    await world.until_status("it waits to be promoted", waits_for_a_person)


def waits_for_a_person(status: dict[str, object]) -> bool:
    waiting = status.get("waiting")
    return isinstance(waiting, dict) and waiting["who"] == "person"


def grant(world: World, rules: list[dict[str, object]]) -> None:
    """Grant USER these rules in the world's namespace."""
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


@contextmanager
def charted(api: ApiServer, namespace: str) -> Iterator[str]:
    """The chart's policy in force, and users with its roles; yields the release's name."""
    with policy.installed(api) as release, policy.in_force(api, release, namespace):
        yield release


async def test_a_rollout_is_seen_and_steered_by_people_with_the_charts_roles(world: World) -> None:
    here = ("-n", world.namespace)
    approver, responder, viewer = ((*here, "--as", role) for role in ("approver", "responder", "viewer"))
    async with world.operator(), world.kubelet():
        await in_canary(world)
        canary = (await world.status())["canary"]["revision"]

        tree = (await plugin("get", "chat", *here)).out
        assert f"\n{canary}" in tree
        assert f"kubectl modelsync promote chat -n {world.namespace}\n" in tree
        changes = json.loads((await plugin("diff", "chat", *here, "-o", "json")).out)
        assert [change["what"] for change in changes["changes"]] == ["model"]
        own = {"WANDB_BASE_URL": world.standin.url, "WANDB_API_KEY": world.standin.api_key}
        traced = json.loads((await plugin("trace", f"chat@{canary}", *here, "-o", "json", env=own)).out)
        assert traced["parts"]["model"]["ref"] == f"{world.path}:v1"
        assert traced["weight"] == 20
        entity, project, run = traced["loggedBy"]["run"].split("/")
        assert (entity, project) == ("acme", world.namespace)
        assert traced["loggedBy"]["url"] == f"{world.standin.url}/{entity}/{project}/runs/{run}"

        with ExitStack() as stack:
            release = await asyncio.to_thread(stack.enter_context, charted(world.api, world.namespace))
            await refused_without_the_right(world, viewer, responder, release)
            async with watching("get", "-w", *viewer) as watched:
                await watched.until("chat", f"{canary} 20 %")
                late = await plugin("status", "chat", *viewer, "--timeout=1s", code=5)
                assert "a person's promote: kubectl modelsync promote chat" in late.out
                assert canary in (await plugin("promote", "chat", *approver)).out
                assert "v1" in (await plugin("status", "chat", *viewer, "--timeout=40s")).out.splitlines()[-1]
                assert (await world.status())["handled"]["promote"].endswith("/approver")
                await watched.until("Healthy", canary)
                assert "nothing to promote: " in (await plugin("promote", "chat", *approver, code=1)).err

                await watched.cut()
                world.point(world.log("third"))
                await world.until_status("it waits to be promoted", waits_for_a_person)
                await watched.until("v2-", "20 %")
            assert "aborted: v2-" in (await plugin("abort", "chat", *responder)).out
            assert "responder said abort" in (await plugin("status", "chat", *viewer, "--watch=false", code=3)).err
            refused = (await plugin("retry", "chat", *responder, code=1)).err
            assert f"--clusterrole={release}-approver" in refused
            assert "retried: v2-" in (await plugin("retry", "chat", *approver)).out

            assert "paused" in (await plugin("pause", "chat", *responder)).out
            assert (await world.read())["spec"]["suspend"] is True
            assert "the right to resume " in (await plugin("resume", "chat", *responder, code=1)).err
            world.admin.add_tag(f"{world.path}:v1", "regulatory-hold")
            await plugin("refresh", "chat", *responder)
            await world.until_status("the hold is seen", lambda status: status.get("holds"))
            shown = (await plugin("hold", "chat", *viewer)).out
            assert f"'regulatory-hold', a tag on the version {world.path}:v1" in shown
            assert f"Revisions   {canary}\n" in shown
            assert "resumed" in (await plugin("resume", "chat", *approver)).out


async def refused_without_the_right(
    world: World, viewer: tuple[str, ...], responder: tuple[str, ...], release: str
) -> None:
    """Nobody may control a rollout without the right to, and each error says in one line how to get it."""
    before = await world.read()
    attempts = [(verb, viewer) for verb in ("promote", "abort", "pause", "refresh")] + [("promote", responder)]
    errors = [(await plugin(verb, "chat", *who, code=1)).err for verb, who in attempts]
    *rbac, by_policy = errors
    for line in rbac:
        assert line.startswith('error: modeldeployments.modelsync.dev "chat" is forbidden: User "viewer" cannot patch')
        assert "kubectl create rolebinding NAME --clusterrole=modelsync-" in line
    assert by_policy.startswith("error: responder may not end the pause of a canary: the right to promote ")
    assert f"--clusterrole={release}-approver --namespace={world.namespace} --user=responder" in by_policy
    assert all(len(line.splitlines()) == 1 for line in errors)
    assert (await world.read())["metadata"].get("annotations") == before["metadata"].get("annotations")


async def test_a_refusal_is_reported_with_the_api_servers_message(world: World) -> None:
    here = ("-n", world.namespace, "--as", USER)
    await world.deploy()
    refused = await plugin("get", *here, code=1)
    assert refused.err.startswith(f'error: modeldeployments.modelsync.dev is forbidden: User "{USER}" cannot list')
    assert len(refused.err.splitlines()) == 1
    grant(world, [{"apiGroups": [names.GROUP], "resources": [names.PLURAL], "verbs": ["get"]}])
    late = await plugin("status", "chat", *here, "--timeout=1s", code=5)
    assert "not finished within --timeout=1s: Waiting for chat: the operator has not reported on it yet" in late.err
    assert "cannot patch" in (await plugin("pause", "chat", *here, code=1)).err
    assert 'modeldeployments.modelsync.dev "nope" not found' in (await plugin("get", "nope", *here, code=1)).err
    meant = (await plugin("get", "chatt", "-n", world.namespace, code=1)).err
    assert meant == (
        f'error: modeldeployments.modelsync.dev "chatt" not found in namespace {world.namespace}; did you mean chat?\n'
    )
    elsewhere = (await plugin("hold", "chat", "-n", "default", code=1)).err
    assert 'modeldeployments.modelsync.dev "chat" not found in namespace default; it exists in ' in elsewhere


async def test_kubectl_completes_commands_and_names(world: World) -> None:
    await world.deploy()
    found = (await kubectl("__complete", "modelsync", "pro")).out.splitlines()
    assert found[0].startswith("promote\t")
    assert found[-1] == ":4"
    found = (await kubectl("__complete", "modelsync", "abort", "-n", world.namespace, "")).out.splitlines()
    assert found == ["chat", ":4"]
