"""The current move: start it, change its reason, complete it or abandon it.

Steps, failures and promotion are in `steps`, `failing` and `promotion`. Each function here makes one decision on the
state and adds what it waits for. This module must never decide on the route or on numbers of pods: these follow from
the state (`traffic`, `capacity`).
"""

from dataclasses import replace

from modelsync.api.reasons import Reason
from modelsync.rollout.facts import Facts
from modelsync.rollout.goal import Goal, Way
from modelsync.rollout.model import MoveReason, Outcome, Revision, State, Target
from modelsync.rollout.part_names import difference, versions
from modelsync.rollout.plan_builder import PlanBuilder
from modelsync.rollout.promotion import promote
from modelsync.rollout.steps import advance, new_canary


def pursue(facts: Facts, state: State, goal: Goal, builder: PlanBuilder) -> State:
    """Abandon a move that is no longer wanted, start the wanted one, and advance the current one."""
    state = _change_reason(facts, state, goal, builder)
    state = _abandon(facts, state, goal, builder)
    state = _start(facts, state, goal, builder)
    if state.target is not None:
        return _complete(facts, state, state.target, goal, builder)
    if state.canary is not None and goal.way is Way.STEPS and goal.revision == state.canary.revision:
        return advance(facts, state, state.canary, builder)
    return state


def _change_reason(facts: Facts, state: State, goal: Goal, builder: PlanBuilder) -> State:
    """Continue the move to the same revision for another reason, keeping its pods and traffic."""
    if goal.move is MoveReason.FIRST and facts.policy.suspend:
        return state  # a hold on the stable must not give all traffic to a canary that is suspended
    if goal.way is Way.AT_ONCE and goal.revision is not None and goal.move is not None:
        if state.canary is not None and state.canary.revision == goal.revision:
            builder.normal(Reason(goal.move), "Move", _MOVE_NOTE[goal.move].format(goal.revision), goal.revision)
            # A first version (rule 5) gets all traffic at once, and so needs a registry answer newer than this.
            started_at = facts.now if goal.move is MoveReason.FIRST else state.canary.started_at
            return replace(state, canary=None, target=Target(goal.revision, goal.move, started_at))
        target = state.target
        if target is not None and target.revision == goal.revision and target.reason is not goal.move:
            return replace(state, target=replace(target, reason=goal.move))
    target = state.target
    if goal.way is not Way.STEPS or target is None or target.revision != goal.revision:
        return state
    # The stable recovered before the takeover was complete: roll the revision out by the steps instead.
    if _may_abandon(facts, state, target.revision, goal) and facts.forward_blocker is None:
        return replace(state, target=None, canary=new_canary(facts, target.revision))
    return state


def _abandon(facts: Facts, state: State, goal: Goal, builder: PlanBuilder) -> State:
    moving = state.canary or state.target
    if moving is None or goal.way is Way.STAY or _is_wanted(state, goal):
        return state
    revision = moving.revision
    if not _may_abandon(facts, state, revision, goal):
        builder.wait(Reason.STABLE_NOT_READY, revision)
        return state
    outcome, why = _outcome(facts, state, revision, goal)
    if state.canary is None and outcome is Outcome.TAKEN_BACK:
        builder.normal(Reason.TAKEN_BACK, "Abort", f"move to {revision} cancelled: {why}", revision)
    elif outcome is not Outcome.FAILED or not builder.has_event(Reason.FAILED):
        builder.warning(_OUTCOME_REASON[outcome], "Abort", f"traffic removed from {revision}: {why}", revision)
    builder.finish(revision, outcome, _reason_of_end(state, revision, outcome), moving.started_at)
    return replace(state, canary=None, target=None)


def _is_wanted(state: State, goal: Goal) -> bool:
    if state.canary is not None:
        return goal.way is Way.STEPS and goal.revision == state.canary.revision
    target = state.target
    return target is not None and goal.way in (Way.STEPS, Way.AT_ONCE) and goal.revision == target.revision


def _may_abandon(facts: Facts, state: State, revision: Revision, goal: Goal) -> bool:
    """Whether the move may be abandoned: only if something else can serve, except for a hold or when going idle."""
    if goal.way is Way.IDLE or facts.held(revision) or not facts.serving(revision) or facts.ready(revision) == 0:
        return True
    stable = state.stable
    if stable is not None and not facts.held(stable):
        return facts.ready(stable) > 0 or _can_take_over(facts, goal)
    # With no stable to go back to, a target that serves is promoted first. A canary is not: the hold takes effect.
    target = state.target
    return target is None or target.reason is MoveReason.RECOVERY or _can_take_over(facts, goal)


def _can_take_over(facts: Facts, goal: Goal) -> bool:
    if goal.way is not Way.AT_ONCE or goal.revision is None or goal.move is MoveReason.FIRST:
        return False
    return facts.ready(goal.revision) > 0 and facts.known_unheld(goal.revision) and not facts.barred(goal.revision)


def _outcome(facts: Facts, state: State, revision: Revision, goal: Goal) -> tuple[Outcome, str]:
    if facts.held(revision):
        return Outcome.HELD, "it is on hold"
    for failure in state.failed:
        if failure.revision == revision:
            return Outcome.FAILED, failure.message
    if goal.way is Way.IDLE:
        return Outcome.TAKEN_BACK, "spec.replicas is 0"
    if goal.why is Reason.REGULATORY_HOLD and goal.way is not Way.KEEP:
        return Outcome.TAKEN_BACK, "the stable revision is on hold"
    if goal.way is Way.STEPS:
        return Outcome.SUPERSEDED, f"superseded by {goal.revision}"
    if facts.named is None:
        return Outcome.TAKEN_BACK, "the alias names no version"
    named = facts.view(facts.named)
    return Outcome.TAKEN_BACK, f"the alias names {versions(named.version, named.parts)}"


def _reason_of_end(state: State, revision: Revision, outcome: Outcome) -> str:
    if outcome is Outcome.FAILED:
        return next(failure.reason for failure in state.failed if failure.revision == revision)
    return _OUTCOME_REASON[outcome]


_OUTCOME_REASON = {
    Outcome.HELD: Reason.REGULATORY_HOLD,
    Outcome.FAILED: Reason.FAILED,
    Outcome.SUPERSEDED: Reason.SUPERSEDED,
    Outcome.TAKEN_BACK: Reason.TAKEN_BACK,
}

_MOVE_NOTE = {
    MoveReason.FIRST: "{} starts: nothing else serves",
    MoveReason.ROLLBACK: "rolling back to {}: the alias names its version again",
    MoveReason.FALLBACK: "{} takes over: the stable revision is on hold",
    MoveReason.RECOVERY: "{} takes over: the stable revision has no ready pod",
}


def _start(facts: Facts, state: State, goal: Goal, builder: PlanBuilder) -> State:
    if state.canary is not None or state.target is not None or goal.revision is None:
        return state
    revision = goal.revision
    if goal.way not in (Way.STEPS, Way.AT_ONCE):
        return state
    if goal.move is MoveReason.ROLLBACK and _stable_is_idle(facts, state):
        return promote(facts, state, revision, facts.now, str(goal.move), builder)
    if goal.way is Way.STEPS and _stable_is_waking(facts, state):
        builder.wait(facts.pods_reason(state.stable or revision), state.stable)
        return state
    forward = goal.way is Way.STEPS or goal.move is MoveReason.FIRST
    if forward and (stop := facts.forward_blocker) is not None:
        builder.wait(stop)
        return state
    if not facts.known_unheld(revision) or facts.barred(revision):
        builder.wait(Reason.HOLDS_STALE if facts.barred(revision) else Reason.HOLD_STATE_UNKNOWN, revision)
        builder.look = True
        return state
    if goal.move is None:
        builder.normal(
            Reason.STARTED, "Start", f"canary {revision} started{_changed(facts, state, revision)}", revision
        )
        return replace(state, canary=new_canary(facts, revision))
    note = _MOVE_NOTE[goal.move].format(revision) + _changed(facts, state, revision)
    builder.normal(Reason(goal.move), "Move", note, revision)
    return replace(state, target=Target(revision, goal.move, facts.now))


def _stable_is_idle(facts: Facts, state: State) -> bool:
    """Whether the stable is scaled to 0 and traffic is blocked.

    A rollback is then promoted at once, because it only selects which revision of the stack starts. Starting the
    current stable first would use pods for nothing.
    """
    stable = state.stable
    if stable is None or facts.held(stable):
        return False
    return facts.blocked and not facts.exposed(stable) and facts.view(stable).replicas == 0


def _stable_is_waking(facts: Facts, state: State) -> bool:
    """Whether the stable is starting again from 0 pods.

    A canary beside it could be ready first and would take over unproven, so it has to wait. If the stable is in trouble
    it does not wait, so that moving the alias can end the outage.
    """
    stable = state.stable
    if stable is None or facts.ready(stable) or facts.view(stable).trouble is not None:
        return False
    return facts.blocked


def _changed(facts: Facts, state: State, revision: Revision) -> str:
    """Changed parts compared with the stable. The revision's name contains only the model's version."""
    if state.stable is None:
        return ""
    changed = difference(facts.view(state.stable).parts, facts.view(revision).parts)
    return f" ({changed})" if changed else ""


def _complete(facts: Facts, state: State, target: Target, goal: Goal, builder: PlanBuilder) -> State:
    """Promote a target that has all traffic, settled.

    If nothing else serves, one ready pod is enough: it gets its remaining pods as the stable, and the next version need
    not wait for them.
    """
    revision, stable = target.revision, state.stable
    if goal.way is Way.KEEP and target.reason in (MoveReason.ROLLBACK, MoveReason.RECOVERY):
        return state  # no longer wanted, kept only until the stable serves again
    if facts.barred(revision) or (target.reason is MoveReason.FIRST and facts.stale(revision)):
        builder.wait(Reason.HOLDS_STALE, revision)
        return state
    ready = facts.ready(revision)
    alone = stable is None or facts.held(stable) or facts.ready(stable) == 0
    needed = 1 if alone else facts.full_replicas
    if ready < needed:
        builder.wait(facts.pods_reason(revision), revision)
        return state
    if facts.live_weight(revision) < 100 or not facts.settled:
        return state  # `traffic` adds what the route waits for
    return promote(facts, state, revision, target.started_at, str(target.reason), builder)
