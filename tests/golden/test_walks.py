"""Random walks through a larger world than the model check can search: four pods, spec changes, deadlines, suspend,
user requests, crashing versions.

The simulator asserts the invariants on every pass. Once nothing happens any more, the version that the alias names must
serve, or the one that may serve in its place.
"""

import random
from dataclasses import replace

import pytest

from golden.simulator import POLICY, Behaviour, World
from modelsync.api.hold import HoldAction
from modelsync.rollout.model import BLOCKED
from modelsync.rollout.state import load

VERSIONS = ("v1", "v2", "v3", "v4", "v5")
HOPELESS = ("v4", "v5")  # these may crash or never become ready

WALKS = range(25)


@pytest.mark.parametrize("seed", WALKS)
def test_after_any_walk_a_quiet_world_comes_to_its_goal(seed: int) -> None:
    choice = random.Random(seed)
    policy = replace(
        POLICY,
        replicas=choice.choice([1, 2, 4]),
        gateway=choice.random() < 0.8,
        hold_action=choice.choice(list(HoldAction)),
        keep_previous_replicas=choice.choice([0, 1]),
    )
    world = World(policy, seed)
    for version in HOPELESS:
        world.behaviours[version] = choice.choice(
            [Behaviour(), Behaviour(crashes_loading=True), Behaviour(crashes_after=90), Behaviour(never_ready=True)]
        )
    world.move_alias("v1")
    world.run(minutes=5)
    for _ in range(25):
        step(world, choice)
        world.run(seconds=choice.choice([0, 1, 4, 20, 40, 200, 900]))
    quieten(world)
    assert wrong_with(world) is None, f"{wrong_with(world)}\n" + "\n".join(world.log[-60:])
    writes = world.writes
    world.run(minutes=30)
    assert world.writes == writes, "there are writes although nothing happened\n" + "\n".join(world.log[-20:])


def step(world: World, choice: random.Random) -> None:
    """One random event."""
    version = choice.choice(VERSIONS)
    event = choice.randrange(13)
    if event <= 3:
        if world.alias != version:
            world.move_alias(version)
    elif event == 4:
        if version in world.marks:
            world.lift(version)
        else:
            world.hold(version)
    elif event == 5:
        if world.name_of(version) in world.revisions:
            world.lose_pods(version)
    elif event == 6:
        world.registry(reachable=not world.reachable)
    elif event == 7:
        world.change_spec(suspend=not world.policy.suspend)
    elif event == 8:
        world.change_spec(choice.choice(["b", "c"]))
    elif event == 9:
        world.restart()
    elif event == 10:
        world.change_spec(replicas=choice.choice([0, 1, 2, 4]))
    else:
        request = choice.choice(["promote", "promote_full", "abort", "retry"])
        known = [revision for revision in world.revisions if revision.startswith(version)]
        if known:
            world.request(**{request: f"{choice.choice(known)}/{choice.random()}"})


def quieten(world: World) -> None:
    """Make the registry reachable, resume and scale up if necessary, then let 3 hours pass."""
    if not world.reachable:
        world.registry(reachable=True)
    if world.policy.suspend:
        world.change_spec(suspend=False)
    if not world.policy.replicas:
        world.change_spec(replicas=2)
    world.run(minutes=180)


def wrong_with(world: World) -> str | None:
    """Why the world is not in its goal state; None if it is."""
    state = load(world.status)
    assert world.alias is not None
    if {hold.mark.version for hold in state.holds} - set(world.marks):
        return "a lifted hold is still latched"
    stable = state.stable
    held = stable is not None and stable.partition("-")[0] in world.marks
    failed = {failure.revision.partition("-")[0] for failure in state.failed}
    if failed - {world.alias}:
        return f"{failed} failed, and the alias names {world.alias}"
    named = world.alias not in {*world.marks, *failed}
    if named and world.behaviour(world.alias) == Behaviour():
        if stable is None or stable.partition("-")[0] != world.alias:
            return f"{world.alias} is named, and {stable} is the stable"
        return serving(world, stable)
    if stable is None or held:
        return None if world.service == BLOCKED or state.target is not None else "a held version is exposed"
    return serving(world, stable) if state.target is None and world.behaviour(stable[:2]) == Behaviour() else None


def serving(world: World, stable: str) -> str | None:
    """Why the stable does not have all pods and all traffic; None if it does."""
    if world.service != stable:
        return f"the Service selects {world.service}"
    if world.policy.gateway and (world.route is None or world.route.weights != ((stable, 100),)):
        return f"the route is {world.route}"
    revision = world.revisions[stable]
    if revision.ready != world.policy.replicas:
        return f"{revision.ready} of {world.policy.replicas} pods are ready"
    return None
