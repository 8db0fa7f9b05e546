"""The scenarios of the golden logs: actions of users, pods and the registry, one function each.

A scenario ends when nothing is left to do. Its end state must not depend on the order of simultaneous events.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from golden.simulator import POLICY, Behaviour, World
from modelsync.api.hold import HoldAction, OnStale
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
BLIND = replace(POLICY, on_stale=OnStale.BLOCK)


def rollout_by_steps(world: World) -> None:
    """From v1 to v2 by 5 % and 50 % to 100 %; v1 stays warm for an hour."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=100)


def rollout_of_four_pods(world: World) -> None:
    """The canary's number of pods follows its share."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=30)


def segment_before_the_shares(world: World) -> None:
    """Internal users first, then shares in addition; the segment ends when v2 has all traffic."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=40)


def hold_on_a_canary_that_has_only_a_segment(world: World) -> None:
    """The first write after the hold removes the rule; clients in the segment are served by the stable."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=3)
    world.hold("v2")
    world.run(minutes=3)


def test_header(world: World) -> None:
    """The test header can name a canary before it has a share, and the previous version while it is warm."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=30)
    world.hold("v1")
    world.run(minutes=3)


def alias_back_in_mid_canary(world: World) -> None:
    """One route write ends the canary's exposure; its pods are removed once that route has settled."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=20)
    world.move_alias("v1")
    world.run(minutes=5)


def canary_crashes_under_traffic(world: World) -> None:
    """A crash after loading fails the version at once; it is not retried until the alias moves away."""
    serving(world, "v1")
    world.behaviours["v2"] = Behaviour(crashes_after=60)
    world.move_alias("v2")
    world.run(minutes=20)
    world.move_alias("v1")
    world.run(minutes=5)


def canary_crashes_while_loading(world: World) -> None:
    """Three restarts before it was ever ready: the model is at fault."""
    serving(world, "v1")
    world.behaviours["v2"] = Behaviour(crashes_loading=True)
    world.move_alias("v2")
    world.run(minutes=20)


def canary_fails_its_own_exam(world: World) -> None:
    """It never gets traffic and is not retried; the next version passes its exam and is rolled out by the steps."""
    serving(world, "v1")
    world.behaviours["v2"] = Behaviour(exam=ExamOutcome.FAILED)
    world.behaviours["v3"] = Behaviour(exam=ExamOutcome.PASSED)
    world.move_alias("v2")
    world.run(minutes=20)
    world.move_alias("v3")
    world.run(minutes=30)


def first_version_fails_its_own_exam(world: World) -> None:
    """Nothing else can serve: it stays, becomes Stalled, and is replaced by the next version."""
    world.behaviours["v1"] = Behaviour(exam=ExamOutcome.FAILED)
    world.move_alias("v1")
    world.run(minutes=5)
    world.move_alias("v2")
    world.run(minutes=5)


def canary_misses_its_deadline(world: World) -> None:
    """The pods never finish loading."""
    serving(world, "v1")
    world.behaviours["v2"] = Behaviour(never_ready=True)
    world.move_alias("v2")
    world.run(minutes=45)


def canary_finds_no_node(world: World) -> None:
    """Infrastructure is never the model's fault: the canary waits, and becomes Stalled after 30 minutes."""
    serving(world, "v1")
    world.behaviours["v2"] = Behaviour(unschedulable=True)
    world.move_alias("v2")
    world.run(minutes=60)


def back_to_a_warm_version(world: World) -> None:
    """v2 is the stable and v1 is still warm when the alias moves back."""
    serving(world, "v1", "v2")
    world.move_alias("v1")
    world.run(minutes=5)


def back_to_a_cold_version(world: World) -> None:
    """v1 has no pods: v2 serves until v1 has started."""
    serving(world, "v1", "v2")
    world.move_alias("v1")
    world.run(minutes=5)


def hold_on_the_canary(world: World) -> None:
    """The canary is cut off, whatever `hold.action` is; after the hold is lifted it starts its steps again."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=20)
    world.hold("v2")
    world.run(minutes=5)
    world.lift("v2")
    world.run(minutes=5)


def hold_on_the_stable_with_a_warm_fallback(world: World) -> None:
    """The previous version gets all traffic in the same pass."""
    serving(world, "v1", "v2")
    world.hold("v2")
    world.run(minutes=5)


def hold_on_the_stable_with_a_cold_fallback(world: World) -> None:
    """Blocked until the previous version has started."""
    serving(world, "v1", "v2")
    world.hold("v2")
    world.run(minutes=5)


def hold_on_the_stable_without_a_fallback(world: World) -> None:
    """Blocked; after the hold is lifted it serves again without steps."""
    serving(world, "v1")
    world.hold("v1")
    world.run(minutes=5)
    world.lift("v1")
    world.run(minutes=5)


def hold_that_blocks(world: World) -> None:
    """`hold.action: Block` although the previous version is warm; then another version starts by rule 5."""
    serving(world, "v1", "v2")
    world.hold("v2")
    world.run(minutes=5)
    world.move_alias("v3")
    world.run(minutes=5)


def hold_lifted_while_a_fallback_serves(world: World) -> None:
    """The version that was held is rolled out again by the steps."""
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
    """v2 is held while v3 is the canary: v1 takes over, and v3 starts its steps again."""
    serving(world, "v1", "v2")
    world.move_alias("v3")
    world.run(minutes=20)
    world.hold("v2")
    world.run(minutes=5)


def hold_on_the_stable_while_the_alias_names_a_failed_version(world: World) -> None:
    """v3 crashed and the alias still names it when v2 is held: v1 serves because of the hold, which is reported before
    the failure until the hold is lifted. Lifting it does not bring v2 back."""
    serving(world, "v1", "v2")
    world.behaviours["v3"] = Behaviour(crashes_after=60)
    world.move_alias("v3")
    world.run(minutes=20)
    world.hold("v2")
    world.run(minutes=5)
    world.lift("v2")
    world.run(minutes=5)


def hold_on_the_previous(world: World) -> None:
    """Only its warm pods are affected."""
    serving(world, "v1", "v2")
    world.hold("v1")
    world.run(minutes=5)


def superseded(world: World) -> None:
    """A third version replaces the canary during its rollout; the stable does not change."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=20)
    world.move_alias("v3")
    world.run(minutes=5)


def suspended(world: World) -> None:
    """No forward move while suspended; a rollback still happens."""
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
    """While the registry is unreachable nothing moves forward, and nothing is rolled back."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=5)
    world.registry(reachable=False)
    world.run(minutes=20)
    world.registry(reachable=True)
    world.run(minutes=5)


def registry_silent_and_the_operator_restarts(world: World) -> None:
    """What serves goes on serving; HoldsKnown tells when the marks became too old, also after a restart."""
    serving(world, "v1")
    world.registry(reachable=False)
    world.run(minutes=4)
    world.restart()
    world.run(minutes=10)
    world.registry(reachable=True)
    world.run(minutes=5)


def registry_silent_where_nothing_may_serve_unseen(world: World) -> None:
    """With onStale Block, clients get 503 from the fifth minute on, pods stay, and traffic returns with the answer."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=5)
    world.registry(reachable=False)
    world.run(minutes=4)
    world.restart()
    world.run(minutes=10)
    world.restart()
    world.run(minutes=1)
    world.registry(reachable=True)
    world.run(minutes=60)


def stable_loses_its_pods(world: World) -> None:
    """A flap changes nothing; when the node is lost the canary takes over."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=5)
    world.lose_pods("v1")
    world.run(minutes=2)
    world.kill_node("v1")
    world.run(minutes=5)


def canary_flaps(world: World) -> None:
    """No weight without ready pods, and no weight again until it has been ready for a while."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=5)
    world.lose_pods("v2")
    world.run(minutes=5)


def without_a_gateway(world: World) -> None:
    """The plain Service is switched when all pods are ready, in both directions."""
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
    """The same model with another pod spec is an ordinary rollout, also back to the old spec."""
    serving(world, "v1")
    world.change_spec("b")
    world.run(minutes=30)
    world.change_spec("c")
    world.run(minutes=5)


def promoted_and_aborted_by_annotation(world: World) -> None:
    """promote ends an open pause, abort fails the version, retry starts it again; other requests are ignored."""
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
    """The route is deleted, and the plain Service carries the traffic."""
    serving(world, "v1")
    world.change_spec(gateway=False)
    world.run(minutes=2)


def gateway_taken_out_in_mid_canary(world: World) -> None:
    """Traffic can no longer be split: the canary continues as a switch."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=5)
    world.change_spec(gateway=False)
    world.run(minutes=5)


def gateway_added_in_mid_switch(world: World) -> None:
    """A rollout that started as a switch ends as one; the next version is rolled out by the steps."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(seconds=10)
    world.change_spec(gateway=True)
    world.run(minutes=5)
    world.move_alias("v3")
    world.run(minutes=5)


def settle_raised_in_mid_canary(world: World) -> None:
    """The longer settle time applies from the next route write on, also to pods that are about to be removed."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=5)
    world.change_spec(settle=timedelta(seconds=30))
    world.move_alias("v1")
    world.run(minutes=5)


def pods_change_in_a_long_pause(world: World) -> None:
    """After a long pause, neither more replicas, a lost pod nor a suspension makes the canary miss its deadline."""
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
    """At 0 replicas, traffic is removed first, then the pods. When scaled up, the stable starts at once; the version
    that the alias names by then is rolled out by the steps."""
    serving(world, "v1", "v2")
    world.change_spec(replicas=0)
    world.run(minutes=5)
    world.move_alias("v3")
    world.run(minutes=5)
    world.change_spec(replicas=2)
    world.run(minutes=40)


def idle_in_mid_canary(world: World) -> None:
    """The move ends; when scaled up from 0 it starts again."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=20)
    world.change_spec(replicas=0)
    world.run(minutes=5)
    world.change_spec(replicas=1)
    world.run(minutes=5)


def alias_back_while_idle(world: World) -> None:
    """When scaled up, the version that the alias moved back to starts."""
    serving(world, "v1", "v2")
    world.change_spec(replicas=0)
    world.run(minutes=5)
    world.move_alias("v1")
    world.run(minutes=1)
    world.change_spec(replicas=2)
    world.run(minutes=5)


def hold_while_idle(world: World) -> None:
    """A hold is latched while nothing runs; when scaled up, the fallback starts."""
    serving(world, "v1", "v2")
    world.change_spec(replicas=0)
    world.run(minutes=5)
    world.hold("v2")
    world.run(minutes=5)
    world.change_spec(replicas=2)
    world.run(minutes=5)


def replicas_change_in_mid_canary(world: World) -> None:
    """Both revisions follow the total; a share that the pods can carry does not change."""
    serving(world, "v1")
    world.move_alias("v2")
    world.run(minutes=12)
    world.change_spec(replicas=10)
    world.run(minutes=8)
    world.change_spec(replicas=3)
    world.run(minutes=20)


def adapter_alias_moves(world: World) -> None:
    """A new adapter version is rolled out by the steps like a new model version: another revision of the same v1."""
    serving(world, "v1+v1")
    world.move_alias("v1+v2")
    world.run(minutes=30)


def hold_on_an_adapter(world: World) -> None:
    """The revision that contains it is cut off, and the one with the previous adapter version gets all traffic."""
    serving(world, "v1+v1", "v1+v2")
    world.hold("adapter-v2")
    world.run(minutes=5)


def adapter_alias_back(world: World) -> None:
    """All resolved parts equal an earlier revision of the stack: roll back to it, exactly as it ran."""
    serving(world, "v1+v1", "v1+v2")
    world.move_alias("v1+v1")
    world.run(minutes=5)


def serving(world: World, *versions: str) -> None:
    """Roll out each version in turn, skipping the steps by promote-full."""
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
    """A scenario and the policy that it runs under."""

    script: Callable[[World], None]
    policy: Policy = POLICY

    @property
    def name(self) -> str:
        return self.script.__name__.replace("_", "-")


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
    Scenario(registry_silent_and_the_operator_restarts),
    Scenario(registry_silent_where_nothing_may_serve_unseen, BLIND),
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
