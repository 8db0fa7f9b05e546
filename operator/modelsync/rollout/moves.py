"""What is under way: moves begin, turn, are completed and are left. Steps, failures and promotion have their own rooms.

Each function takes the state on by one decision, and says what it has to wait for. Nothing here speaks of the route or
of numbers of pods: these follow from the state (`traffic`, `capacity`).
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
    """End what is not wanted, begin what is, and take on what is under way."""
    state = _turn(facts, state, goal, builder)
    state = _leave(facts, state, goal, builder)
    state = _begin(facts, state, goal, builder)
    if state.target is not None:
        return _complete(facts, state, state.target, goal, builder)
    if state.canary is not None and goal.way is Way.STEPS and goal.revision == state.canary.revision:
        return advance(facts, state, state.canary, builder)
    return state


def _turn(facts: Facts, state: State, goal: Goal, builder: PlanBuilder) -> State:
    """The same revision goes on for another reason; nothing that runs is given up for it."""
    if goal.move is MoveReason.FIRST and facts.policy.suspend:
        return state  # a hold on the stable must not bring a canary all traffic that somebody has stopped
    if goal.way is Way.AT_ONCE and goal.revision is not None and goal.move is not None:
        if state.canary is not None and state.canary.revision == goal.revision:
            builder.normal(Reason(goal.move), "Move", _AT_ONCE[goal.move].format(goal.revision), goal.revision)
            # A start by rule 5 takes all at once, and so needs a look of its own at the registry.
            started_at = facts.now if goal.move is MoveReason.FIRST else state.canary.started_at
            return replace(state, canary=None, target=Target(goal.revision, goal.move, started_at))
        target = state.target
        if target is not None and target.revision == goal.revision and target.reason is not goal.move:
            return replace(state, target=replace(target, reason=goal.move))
    target = state.target
    if goal.way is not Way.STEPS or target is None or target.revision != goal.revision:
        return state
    # The stable serves again before the takeover was done: what took over has to earn its traffic by the steps.
    if _may_leave(facts, state, target.revision, goal) and facts.not_forward is None:
        return replace(state, target=None, canary=new_canary(facts, target.revision))
    return state


def _leave(facts: Facts, state: State, goal: Goal, builder: PlanBuilder) -> State:
    moving = state.canary or state.target
    if moving is None or goal.way is Way.STAY or _wanted(state, goal):
        return state
    revision = moving.revision
    if not _may_leave(facts, state, revision, goal):
        builder.wait(Reason.STABLE_NOT_READY, revision)
        return state
    outcome, why = _ending(facts, state, revision, goal)
    if state.canary is None and outcome is Outcome.TAKEN_BACK:
        builder.normal(Reason.TAKEN_BACK, "Abort", f"the move to {revision} ends: {why}", revision)
    elif outcome is not Outcome.FAILED or not builder.has_event(Reason.FAILED):
        builder.warning(_TOLD[outcome], "Abort", f"{revision} loses its traffic: {why}", revision)
    builder.finish(revision, outcome, _reason_of_end(state, revision, outcome), moving.started_at)
    return replace(state, canary=None, target=None)


def _wanted(state: State, goal: Goal) -> bool:
    if state.canary is not None:
        return goal.way is Way.STEPS and goal.revision == state.canary.revision
    target = state.target
    return target is not None and goal.way in (Way.STEPS, Way.AT_ONCE) and goal.revision == target.revision


def _may_leave(facts: Facts, state: State, revision: Revision, goal: Goal) -> bool:
    """Giving up what serves needs something else that serves; a hold, and going idle, need nothing."""
    if goal.way is Way.IDLE or facts.held(revision) or not facts.serving(revision) or facts.ready(revision) == 0:
        return True
    stable = state.stable
    if stable is not None and not facts.held(stable):
        return facts.ready(stable) > 0 or _can_take_over(facts, goal)
    # With nothing behind it, what already serves becomes the stable first; but a hold does not wait for a canary.
    target = state.target
    return target is None or target.reason is MoveReason.RECOVERY or _can_take_over(facts, goal)


def _can_take_over(facts: Facts, goal: Goal) -> bool:
    if goal.way is not Way.AT_ONCE or goal.revision is None or goal.move is MoveReason.FIRST:
        return False
    return facts.ready(goal.revision) > 0 and facts.clear(goal.revision)


def _ending(facts: Facts, state: State, revision: Revision, goal: Goal) -> tuple[Outcome, str]:
    if facts.held(revision):
        return Outcome.HELD, "a hold is on it"
    for failure in state.failed:
        if failure.revision == revision:
            return Outcome.FAILED, failure.message
    if goal.way is Way.IDLE:
        return Outcome.TAKEN_BACK, "spec.replicas is 0"
    if goal.why is Reason.REGULATORY_HOLD and goal.way is not Way.KEEP:
        return Outcome.TAKEN_BACK, "a hold is on the stable"
    if goal.way is Way.STEPS:
        return Outcome.SUPERSEDED, f"{goal.revision} takes its place"
    if facts.named is None:
        return Outcome.TAKEN_BACK, "no alias"
    named = facts.view(facts.named)
    return Outcome.TAKEN_BACK, f"the alias names {versions(named.version, named.parts)}"


def _reason_of_end(state: State, revision: Revision, outcome: Outcome) -> str:
    if outcome is Outcome.FAILED:
        return next(failure.reason for failure in state.failed if failure.revision == revision)
    return _TOLD[outcome]


_TOLD = {
    Outcome.HELD: Reason.REGULATORY_HOLD,
    Outcome.FAILED: Reason.FAILED,
    Outcome.SUPERSEDED: Reason.SUPERSEDED,
    Outcome.TAKEN_BACK: Reason.TAKEN_BACK,
}

_AT_ONCE = {
    MoveReason.FIRST: "{} starts: nothing else serves",
    MoveReason.ROLLBACK: "back to {}, as it ran: the alias names its version",
    MoveReason.FALLBACK: "{} takes over: a hold is on the stable",
    MoveReason.RECOVERY: "{} takes over: the stable has no ready pod",
}


def _begin(facts: Facts, state: State, goal: Goal, builder: PlanBuilder) -> State:
    if state.canary is not None or state.target is not None or goal.revision is None:
        return state
    revision = goal.revision
    if goal.way not in (Way.STEPS, Way.AT_ONCE):
        return state
    if goal.move is MoveReason.ROLLBACK and _asleep(facts, state):
        return promote(facts, state, revision, facts.now, str(goal.move), builder)
    if goal.way is Way.STEPS and _wakes(facts, state):
        builder.wait(facts.pods_reason(state.stable or revision), state.stable)
        return state
    forward = goal.way is Way.STEPS or goal.move is MoveReason.FIRST
    if forward and (stop := facts.not_forward) is not None:
        builder.wait(stop)
        return state
    if not facts.clear(revision):
        builder.wait(Reason.HOLD_STATE_UNKNOWN, revision)
        builder.look = True
        return state
    if goal.move is None:
        builder.normal(
            Reason.STARTED, "Start", f"{revision} goes by the steps{_changed(facts, state, revision)}", revision
        )
        return replace(state, canary=new_canary(facts, revision))
    told = _AT_ONCE[goal.move].format(revision) + _changed(facts, state, revision)
    builder.normal(Reason(goal.move), "Move", told, revision)
    return replace(state, target=Target(revision, goal.move, facts.now))


def _asleep(facts: Facts, state: State) -> bool:
    """The stable has been idle: clients reach nothing, and no pod of it is asked for. Going back then only says which
    revision of the stack starts; starting the one that is gone back from would take pods for nothing."""
    stable = state.stable
    if stable is None or facts.held(stable):
        return False
    return facts.blocked and not facts.exposed(stable) and facts.view(stable).replicas == 0


def _wakes(facts: Facts, state: State) -> bool:
    """The stable is on its way back from nothing. A canary beside it could be ready first, and would take over what
    nobody has judged it for; but a stable in trouble must not keep a person from moving the alias to what can serve."""
    stable = state.stable
    if stable is None or facts.ready(stable) or facts.view(stable).trouble is not None:
        return False
    return facts.blocked


def _changed(facts: Facts, state: State, revision: Revision) -> str:
    """What else than the model differs from the stable: the revision's name says only the model's version."""
    if state.stable is None:
        return ""
    changed = difference(facts.view(state.stable).parts, facts.view(revision).parts)
    return f" ({changed})" if changed else ""


def _complete(facts: Facts, state: State, target: Target, goal: Goal, builder: PlanBuilder) -> State:
    """A target that has all traffic, settled, is the stable. Where nothing else serves, one pod is enough: what it
    lacks is then the stable's to get, and the next version need not wait for it."""
    revision, stable = target.revision, state.stable
    if goal.way is Way.KEEP and target.reason in (MoveReason.ROLLBACK, MoveReason.RECOVERY):
        return state  # not wanted any more, and kept only until the stable serves again
    ready = facts.ready(revision)
    alone = stable is None or facts.held(stable) or facts.ready(stable) == 0
    needed = 1 if alone else facts.full
    if ready < needed:
        builder.wait(facts.pods_reason(revision), revision)
        return state
    if facts.live(revision) < 100 or not facts.settled:
        return state  # `traffic` says what the route waits for
    return promote(facts, state, revision, target.started_at, str(target.reason), builder)
