"""The scenarios of the golden logs: what people, pods and the registry do, one function each.

A scenario ends in rest; its end must not depend on the order in which things of one moment happen.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from golden.simulator import POLICY, Behaviour, World
from modelsync.api.hold import HoldAction
from modelsync.api.routing import HeaderMatch
from modelsync.rollout.model import ExamOutcome, Pause, Policy, SetMatch, SetWeight

OPEN_PAUSE = replace(POLICY, steps=(SetWeight(10), Pause(), SetWeight(50), Pause()))
BLOCK = replace(POLICY, hold_action=HoldAction.BLOCK)
COLD = replace(POLICY, keep_previous_replicas=0)
NO_GATEWAY = replace(POLICY, gateway=False)
SEGMENT = replace(
    POLICY,
    steps=(SetMatch((HeaderMatch("x-user-group", "internal"),)), Pause(timedelta(minutes=5)), *POLICY.steps),
    replicas=4,
)
FOUR = replace(POLICY, replicas=4)


def rollout_by_steps(world: World) -> None:
    """v1 to v2: 5 %, 50 %, all; v1 stays warm for an hour."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=100)


def rollout_of_four_pods(world: World) -> None:
    """The canary is sized to its share."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=30)


def segment_before_the_shares(world: World) -> None:
    """Internal users first, then shares beside them; the segment ends when v2 has everything."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=40)


def hold_on_a_canary_that_has_only_a_segment(world: World) -> None:
    """Its rule goes with the write that sees the hold; who is in the segment is served by the stable."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=3)
    world.hold("v2")
    world.run(minutes=3)


def test_header(world: World) -> None:
    """A canary can be named before it has a share, and what is kept warm for as long as it is."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=30)
    world.hold("v1")
    world.run(minutes=3)


def alias_back_in_mid_canary(world: World) -> None:
    """One route write ends the canary's exposure; its pods go when the data plane knows."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=20)
    world.move_alias("v1")
    world.run(minutes=5)


def canary_crashes_under_traffic(world: World) -> None:
    """A crash after loading fails the version at once; it is not tried again until the alias has left it."""
    serving(world, "v1")
    world.behaviours["v2"] = Behaviour(crashes_after=60)
    world.move_alias("v2")
    world.run(minutes=20)
    world.move_alias("v1")
    world.run(minutes=5)


def canary_crashes_while_loading(world: World) -> None:
    """Three restarts before it was ever ready: the model is to blame."""
    serving(world, "v1")
    world.behaviours["v2"] = Behaviour(crashes_loading=True)
    world.move_alias("v2")
    world.run(minutes=20)


def canary_fails_its_own_exam(world: World) -> None:
    """It never gets traffic, and is not tried again; the version after it passes its own and goes by the steps."""
    serving(world, "v1")
    world.behaviours["v2"] = Behaviour(exam=ExamOutcome.FAILED)
    world.behaviours["v3"] = Behaviour(exam=ExamOutcome.PASSED)
    world.move_alias("v2")
    world.run(minutes=20)
    world.move_alias("v3")
    world.run(minutes=30)


def first_version_fails_its_own_exam(world: World) -> None:
    """Nothing else can serve: it stays, calls for a person, and makes room for the next."""
    world.behaviours["v1"] = Behaviour(exam=ExamOutcome.FAILED)
    world.move_alias("v1")
    world.run(minutes=5)
    world.move_alias("v2")
    world.run(minutes=5)


def canary_misses_its_deadline(world: World) -> None:
    """Pods that load for ever."""
    serving(world, "v1")
    world.behaviours["v2"] = Behaviour(never_ready=True)
    world.move_alias("v2")
    world.run(minutes=45)


def canary_finds_no_node(world: World) -> None:
    """Infrastructure is never the model's fault: it waits, and calls for a person after half an hour."""
    serving(world, "v1")
    world.behaviours["v2"] = Behaviour(unschedulable=True)
    world.move_alias("v2")
    world.run(minutes=60)


def back_to_a_warm_version(world: World) -> None:
    """v2 is the stable and v1 still warm when the alias goes back."""
    serving(world, "v1", "v2")
    world.move_alias("v1")
    world.run(minutes=5)


def back_to_a_cold_version(world: World) -> None:
    """v1 has no pods: v2 serves until v1 has started."""
    serving(world, "v1", "v2")
    world.move_alias("v1")
    world.run(minutes=5)


def hold_on_the_canary(world: World) -> None:
    """The canary is cut off, whatever the hold's action; when the hold is lifted it starts again by the steps."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=20)
    world.hold("v2")
    world.run(minutes=5)
    world.lift("v2")
    world.run(minutes=5)


def hold_on_the_stable_with_a_warm_fallback(world: World) -> None:
    """The version before takes all in the same pass."""
    serving(world, "v1", "v2")
    world.hold("v2")
    world.run(minutes=5)


def hold_on_the_stable_with_a_cold_fallback(world: World) -> None:
    """Blocked until the version before has started."""
    serving(world, "v1", "v2")
    world.hold("v2")
    world.run(minutes=5)


def hold_on_the_stable_without_a_fallback(world: World) -> None:
    """Blocked; lifted, it serves again without steps."""
    serving(world, "v1")
    world.hold("v1")
    world.run(minutes=5)
    world.lift("v1")
    world.run(minutes=5)


def hold_that_blocks(world: World) -> None:
    """`hold.action: Block` although a version before is warm; another version then starts by rule 5."""
    serving(world, "v1", "v2")
    world.hold("v2")
    world.run(minutes=5)
    world.move_alias("v3")
    world.run(minutes=5)


def hold_lifted_while_a_fallback_serves(world: World) -> None:
    """What was held comes back by the steps."""
    serving(world, "v1", "v2")
    world.hold("v2")
    world.run(minutes=5)
    world.lift("v2")
    world.run(minutes=30)


def hold_lifted_while_blocked(world: World) -> None:
    """The fallback is still starting when the hold is lifted: the stable serves again without steps."""
    serving(world, "v1", "v2")
    world.hold("v2")
    world.run(seconds=15)
    world.lift("v2")
    world.run(minutes=5)


def hold_on_the_stable_after_the_alias_moved_on(world: World) -> None:
    """v2 is held while v3 is its canary: v1 takes over, and v3 begins its steps again."""
    serving(world, "v1", "v2")
    world.move_alias("v3")
    world.run(minutes=20)
    world.hold("v2")
    world.run(minutes=5)


def hold_on_the_stable_while_the_alias_names_a_failed_version(world: World) -> None:
    """v3 crashed and is still named when v2 is held: v1 serves because of the hold, and that is told before the
    failure until the hold is lifted, which brings nothing back by itself."""
    serving(world, "v1", "v2")
    world.behaviours["v3"] = Behaviour(crashes_after=60)
    world.move_alias("v3")
    world.run(minutes=20)
    world.hold("v2")
    world.run(minutes=5)
    world.lift("v2")
    world.run(minutes=5)


def hold_on_the_previous(world: World) -> None:
    """Nothing but its warm pods is touched."""
    serving(world, "v1", "v2")
    world.hold("v1")
    world.run(minutes=5)


def superseded(world: World) -> None:
    """A third version in mid-canary takes the canary's place; the stable stays the stable."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=20)
    world.move_alias("v3")
    world.run(minutes=5)


def suspended(world: World) -> None:
    """No forward move while suspended; going back acts."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=5)
    world.change_spec(suspend=True)
    world.run(minutes=20)
    world.change_spec(suspend=False)
    world.run(minutes=5)
    world.change_spec(suspend=True)
    world.move_alias("v1")
    world.run(minutes=5)


def registry_down_in_mid_canary(world: World) -> None:
    """Nothing moves forward without the registry, and nothing is taken back for its silence."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=5)
    world.registry(reachable=False)
    world.run(minutes=20)
    world.registry(reachable=True)
    world.run(minutes=5)


def stable_loses_its_pods(world: World) -> None:
    """A flap moves nothing; when the node is gone the canary takes over."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=5)
    world.lose_pods("v1")
    world.run(minutes=2)
    world.kill_node("v1")
    world.run(minutes=5)


def canary_flaps(world: World) -> None:
    """No weight without pods, and none again until it was ready for a while."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=5)
    world.lose_pods("v2")
    world.run(minutes=5)


def without_a_gateway(world: World) -> None:
    """The plain Service is switched when all pods are ready, and back likewise."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=5)
    world.move_alias("v1")
    world.run(minutes=5)
    world.move_alias("v2")
    world.run(minutes=5)
    world.hold("v2")
    world.run(minutes=5)


def spec_change(world: World) -> None:
    """The same model with other pods is an ordinary rollout, back to the old spec too."""
    serving(world, "v1")
    world.change_spec("b")
    world.run(minutes=30)
    world.change_spec("c")
    world.run(minutes=5)


def promoted_and_aborted_by_annotation(world: World) -> None:
    """Open pauses end with promote; abort fails the version; retry tries it again; others are refused."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=5)
    canary = world.name_of("v2")
    world.request(promote="v9-99999999")
    world.request(promote=canary)
    world.run(minutes=5)
    world.request(promote=f"{canary}/2")
    world.run(minutes=1)
    world.move_alias("v3")
    world.run(minutes=2)
    canary = world.name_of("v3")
    world.request(abort=canary)
    world.run(minutes=2)
    world.request(retry=canary)
    world.run(minutes=2)


def gateway_taken_out_of_the_spec(world: World) -> None:
    """The route goes, and the plain Service carries the traffic."""
    serving(world, "v1")
    world.change_spec(gateway=False)
    world.run(minutes=2)


def gateway_taken_out_in_mid_canary(world: World) -> None:
    """There are no shares any more: the canary goes on as a switch."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=5)
    world.change_spec(gateway=False)
    world.run(minutes=5)


def gateway_added_in_mid_switch(world: World) -> None:
    """What began as a switch ends as one; the next version goes by the steps."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(seconds=10)
    world.change_spec(gateway=True)
    world.run(minutes=5)
    world.move_alias("v3")
    world.run(minutes=5)


def settle_raised_in_mid_canary(world: World) -> None:
    """The longer time counts from the next write of the route on, also for pods that are to go."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=5)
    world.change_spec(settle=timedelta(seconds=30))
    world.move_alias("v1")
    world.run(minutes=5)


def pods_change_in_a_long_pause(world: World) -> None:
    """After hours in a pause a greater total, a lost pod and a suspension do not make the canary miss its deadline."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=90)
    world.change_spec(replicas=8)
    world.run(minutes=90)
    world.lose_pods("v2")
    world.run(minutes=5)
    world.behaviours["v2"] = Behaviour(load=600)
    world.lose_pods("v2")
    world.change_spec(suspend=True)
    world.run(minutes=5)
    world.change_spec(suspend=False)
    world.run(minutes=20)


def idle_and_back(world: World) -> None:
    """No replicas: first the traffic goes, then the pods. From none the stable starts at once; what the alias names
    meanwhile goes by the steps."""
    serving(world, "v1", "v2")
    world.change_spec(replicas=0)
    world.run(minutes=5)
    world.move_alias("v3")
    world.run(minutes=5)
    world.change_spec(replicas=2)
    world.run(minutes=40)


def idle_in_mid_canary(world: World) -> None:
    """What moves ends; from none it begins again."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=20)
    world.change_spec(replicas=0)
    world.run(minutes=5)
    world.change_spec(replicas=1)
    world.run(minutes=5)


def alias_back_while_idle(world: World) -> None:
    """The version that the alias went back to is the one that starts."""
    serving(world, "v1", "v2")
    world.change_spec(replicas=0)
    world.run(minutes=5)
    world.move_alias("v1")
    world.run(minutes=1)
    world.change_spec(replicas=2)
    world.run(minutes=5)


def hold_while_idle(world: World) -> None:
    """A hold is latched while nothing runs; the fallback is what starts."""
    serving(world, "v1", "v2")
    world.change_spec(replicas=0)
    world.run(minutes=5)
    world.hold("v2")
    world.run(minutes=5)
    world.change_spec(replicas=2)
    world.run(minutes=5)


def replicas_change_in_mid_canary(world: World) -> None:
    """Both sides follow the total; no share moves that the pods can carry."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=12)
    world.change_spec(replicas=10)
    world.run(minutes=8)
    world.change_spec(replicas=3)
    world.run(minutes=20)


def adapter_alias_moves(world: World) -> None:
    """A new version of an adapter goes by the steps as a new version of the model does: a revision of the same v1."""
    serving(world, "v1+v1")
    world.move_alias("v1+v2")
    world.run(minutes=30)


def hold_on_an_adapter(world: World) -> None:
    """The revision that contains it is cut off, and the one with the adapter before takes all."""
    serving(world, "v1+v1", "v1+v2")
    world.hold("adapter-v2")
    world.run(minutes=5)


def adapter_alias_back(world: World) -> None:
    """All that is resolved equals a revision further down the stack: back to it, as it ran."""
    serving(world, "v1+v1", "v1+v2")
    world.move_alias("v1+v1")
    world.run(minutes=5)


def serving(world: World, *versions: str) -> None:
    """Each version in turn is rolled out to its end; a person skips the steps."""
    for version in versions:
        world.move_alias(version)
        world.run(seconds=1)
        skips = world.status.canary is not None
        if world.status.canary is not None:
            world.request(promote_full=world.status.canary.revision)
        world.run(minutes=5)
        assert world.status.promoted[-1] == world.name_of(version), "\n".join(world.log[-30:])
        if skips:
            world.request(promote_full=None)


@dataclass(frozen=True)
class Scenario:
    """A story, under the spec that it is told with."""

    tell: Callable[[World], None]
    policy: Policy = POLICY

    @property
    def name(self) -> str:
        return self.tell.__name__.replace("_", "-")


SCENARIOS = (
    Scenario(rollout_by_steps),
    Scenario(rollout_of_four_pods, FOUR),
    Scenario(segment_before_the_shares, SEGMENT),
    Scenario(hold_on_a_canary_that_has_only_a_segment, SEGMENT),
    Scenario(test_header, replace(POLICY, test_header=True)),
    Scenario(alias_back_in_mid_canary),
    Scenario(canary_crashes_under_traffic),
    Scenario(canary_crashes_while_loading),
    Scenario(canary_fails_its_own_exam),
    Scenario(first_version_fails_its_own_exam),
    Scenario(canary_misses_its_deadline),
    Scenario(canary_finds_no_node),
    Scenario(back_to_a_warm_version),
    Scenario(back_to_a_cold_version, COLD),
    Scenario(adapter_alias_moves),
    Scenario(adapter_alias_back),
    Scenario(hold_on_an_adapter),
    Scenario(hold_on_the_canary),
    Scenario(hold_on_the_stable_with_a_warm_fallback),
    Scenario(hold_on_the_stable_with_a_cold_fallback, COLD),
    Scenario(hold_on_the_stable_without_a_fallback),
    Scenario(hold_that_blocks, BLOCK),
    Scenario(hold_lifted_while_a_fallback_serves),
    Scenario(hold_lifted_while_blocked, COLD),
    Scenario(hold_on_the_stable_after_the_alias_moved_on),
    Scenario(hold_on_the_stable_while_the_alias_names_a_failed_version),
    Scenario(hold_on_the_previous),
    Scenario(superseded),
    Scenario(suspended),
    Scenario(registry_down_in_mid_canary),
    Scenario(stable_loses_its_pods),
    Scenario(canary_flaps),
    Scenario(without_a_gateway, NO_GATEWAY),
    Scenario(spec_change),
    Scenario(promoted_and_aborted_by_annotation, OPEN_PAUSE),
    Scenario(gateway_taken_out_of_the_spec),
    Scenario(gateway_taken_out_in_mid_canary),
    Scenario(gateway_added_in_mid_switch, NO_GATEWAY),
    Scenario(settle_raised_in_mid_canary),
    Scenario(pods_change_in_a_long_pause, replace(FOUR, steps=(SetWeight(50), Pause()))),
    Scenario(idle_and_back),
    Scenario(idle_in_mid_canary),
    Scenario(alias_back_while_idle),
    Scenario(hold_while_idle),
    Scenario(replicas_change_in_mid_canary, FOUR),
)
