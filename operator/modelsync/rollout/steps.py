"""Advances a canary through its steps: segments, weights, pauses, flaps, and finally the promotion.

The steps are a snapshot taken when the canary started (docs/design/README.md, "Rolling out"). This module must never
decide on the route: the canary's `weight` and `match` are intent, and `traffic` turns them into a route.
"""

from dataclasses import replace
from datetime import datetime

from modelsync.api.reasons import Reason
from modelsync.api.routing import HeaderMatch
from modelsync.rollout.facts import READY_AGAIN, Facts
from modelsync.rollout.model import Canary, Pause, Revision, SetMatch, SetWeight, State, Weight
from modelsync.rollout.plan_builder import PlanBuilder
from modelsync.rollout.promotion import promote


def new_canary(facts: Facts, revision: Revision) -> Canary:
    """A canary at its first step.

    Without a gateway traffic cannot be split, so there are no steps: the Service is switched when all pods are ready.
    """
    steps = facts.policy.steps if facts.policy.gateway else ()
    return Canary(revision, step=0, weight=0, steps=steps, started_at=facts.now, look_after=facts.now)


def advance(facts: Facts, state: State, canary: Canary, builder: PlanBuilder) -> State:
    """Advance the canary as far as possible now."""
    if canary.steps and not facts.policy.gateway:
        # The gateway was removed from the spec: traffic cannot be split, so a step's weight would never settle.
        canary = replace(canary, step=0, weight=0, steps=(), step_started_at=None, look_after=facts.now)
    while True:
        further = (
            _flap(facts, canary, builder)
            or _stop_clock(facts, canary)
            or _start_clock(facts, canary)
            or _step(facts, state, canary, builder)
        )
        if further is None:
            return replace(state, canary=canary) if canary is not state.canary else state
        if isinstance(further, State):
            return further
        canary = further


def _flap(facts: Facts, canary: Canary, builder: PlanBuilder) -> Canary | None:
    """A canary that lost all its pods under traffic gets no share until it has been ready for `READY_AGAIN`."""
    view = facts.view(canary.revision)
    if facts.ready(canary.revision) == 0:
        served = facts.live_weight(canary.revision) > 0 or bool(facts.live_match(canary.revision))
        if not canary.flapped and (served or canary.step_started_at is not None):
            builder.warning(Reason.FLAPPED, "Step", f"{canary.revision} lost all its pods", canary.revision)
            return replace(canary, flapped=True, step_started_at=None)
        return None
    if canary.flapped and view.ready_since is not None and view.ready_since + READY_AGAIN <= facts.now:
        # It gets its share back only after a registry answer that shows no new hold.
        return replace(canary, flapped=False, look_after=view.ready_since + READY_AGAIN)
    return None


def _stop_clock(facts: Facts, canary: Canary) -> Canary | None:
    """Stop the step's clock while the canary is kept from serving: a pause measures time with traffic."""
    if canary.step_started_at is None or not _is_barred(facts, canary):
        return None
    return replace(canary, step_started_at=None)


def _is_barred(facts: Facts, canary: Canary) -> bool:
    stable = facts.observed.state.stable
    return facts.barred(canary.revision) or (stable is not None and facts.barred(stable))


def _start_clock(facts: Facts, canary: Canary) -> Canary | None:
    """Start the step's clock once its weight and segment are in the live route, accepted and settled."""
    if canary.step_started_at is not None or canary.flapped or not facts.settled or _is_barred(facts, canary):
        return None
    if (canary.weight, canary.match) != (step_weight(canary), step_match(canary)):
        return None
    listed = facts.referenced(canary.revision) or not facts.policy.gateway
    if not listed or facts.ready(canary.revision) == 0 or not _is_live(facts, canary):
        return None
    return replace(canary, step_started_at=facts.now)


def _is_live(facts: Facts, canary: Canary) -> bool:
    """Whether the live route has the intended weight and segment."""
    if not facts.policy.gateway:
        return facts.live_weight(canary.revision) == canary.weight
    return facts.live_weight(canary.revision) == canary.weight and facts.live_match(canary.revision) == segment(canary)


def _step(facts: Facts, state: State, canary: Canary, builder: PlanBuilder) -> Canary | State | None:
    revision = canary.revision
    if canary.flapped:
        ready_since = facts.view(revision).ready_since
        until = ready_since + READY_AGAIN if ready_since is not None and facts.ready(revision) else None
        builder.wait(Reason.FLAPPED, revision, until)
        return None
    if (stop := facts.forward_blocker) is not None:
        builder.wait(stop, revision)
        return None
    step = canary.steps[canary.step] if canary.step < len(canary.steps) else None
    if isinstance(step, Pause):
        return _pause(facts, canary, step, builder)
    weight, match = step_weight(canary), step_match(canary)
    if (weight, match) != (canary.weight, canary.match):
        return _weigh(facts, state, replace(canary, weight=weight, match=match), canary, builder)
    if canary.step_started_at is None or not _is_live(facts, canary) or not facts.settled:
        if facts.ready(revision) < facts.needed(sizing_weight(canary)):
            builder.wait(facts.pods_reason(revision), revision)
        return None  # `traffic` adds what the route waits for
    if step is not None:
        return _next(facts, canary, facts.now, builder)
    if facts.ready(revision) < facts.full_replicas:
        builder.wait(facts.pods_reason(revision), revision)
        return None
    return promote(facts, state, revision, canary.started_at, Reason.CANARY, builder)


def _pause(facts: Facts, canary: Canary, step: Pause, builder: PlanBuilder) -> Canary | None:
    started = canary.step_started_at
    if started is None:
        if facts.ready(canary.revision) < facts.needed(sizing_weight(canary)):
            builder.wait(facts.pods_reason(canary.revision), canary.revision)
        return None
    if step.duration is None:
        builder.wait(Reason.AWAITING_PROMOTION, canary.revision)
        return None
    if facts.now < started + step.duration:
        builder.wait(Reason.PAUSED, canary.revision, started + step.duration)
        return None
    return _next(facts, canary, started + step.duration, builder)


def _next(facts: Facts, canary: Canary, ended: datetime, builder: PlanBuilder) -> Canary:
    segment_too = " and its segment" if segment(canary) else ""
    done = f"step {canary.step + 1} of {len(canary.steps)} completed at {canary.weight} %{segment_too}"
    builder.normal(Reason.STEP, "Step", f"{canary.revision}: {done}", canary.revision)
    # A pause that follows a weight is counted from when the weight had settled.
    return replace(canary, step=canary.step + 1, look_after=ended)


def _weigh(facts: Facts, state: State, wished: Canary, canary: Canary, builder: PlanBuilder) -> Canary | None:
    """Change the share or the segment.

    An increase needs enough ready pods, a stable to go back to, and a registry answer that is newer than the last wait
    and shows no hold.
    """
    revision = canary.revision
    if wished.weight > canary.weight or (segment(wished) and wished.match != canary.match):
        ready = facts.ready(revision)
        if ready < facts.needed(sizing_weight(wished)):
            builder.wait(facts.pods_reason(revision), revision)
            return None
        if state.stable is None or facts.ready(state.stable) == 0:
            builder.wait(Reason.STABLE_NOT_READY, revision)
            return None
        after = canary.look_after
        ready_since = facts.view(revision).ready_since
        first = canary.weight == 0 and not canary.match
        if first and ready_since is not None and (after is None or ready_since > after):
            after = ready_since  # waiting for the first pod counts as a wait, too
        if not facts.fresh(revision, after):
            builder.wait(Reason.FRESH_LOOK, revision)
            builder.look = True
            return None
        if not facts.known_unheld(revision):
            builder.wait(Reason.HOLD_STATE_UNKNOWN, revision)
            builder.look = True
            return None
    return replace(wished, step_started_at=None)


def step_weight(canary: Canary) -> Weight:
    """The share that the current step asks for; 100 after the last step."""
    if canary.step >= len(canary.steps):
        return 100
    step = canary.steps[canary.step]
    return step.weight if isinstance(step, SetWeight) else canary.weight


def step_match(canary: Canary) -> tuple[HeaderMatch, ...]:
    """The segment that the current step asks for; none after the last step."""
    if canary.step >= len(canary.steps):
        return ()
    step = canary.steps[canary.step]
    return step.match if isinstance(step, SetMatch) else canary.match


def segment(canary: Canary) -> tuple[HeaderMatch, ...]:
    """The segment that needs a rule in the route: none if the canary has all the traffic anyway."""
    return canary.match if canary.weight < 100 else ()


def sizing_weight(canary: Canary) -> Weight:
    """The share that its pods must be able to carry.

    The size of a segment is unknown. While one is in force, the pods are sized for the next share, which the segment
    prepares.
    """
    weight = max(canary.weight, step_weight(canary))
    if not step_match(canary):
        return weight
    coming = (step.weight for step in canary.steps[canary.step + 1 :] if isinstance(step, SetWeight))
    return max(weight, next(coming, 100))
