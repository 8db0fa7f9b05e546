"""What is intended next: moves begin, go on by steps, end, fail. The only place that makes a new `State`.

Each function takes the state on by one decision, with the facts; the first that is told to wait says for what. Nothing
here speaks of the route or of numbers of pods: these follow from the state (`traffic`, `capacity`).
"""

from dataclasses import replace
from datetime import datetime

from modelsync.api import duration
from modelsync.api.reasons import Reason
from modelsync.rollout.facts import READY_AGAIN, Facts
from modelsync.rollout.goal import Goal, Way
from modelsync.rollout.model import (
    Canary,
    Failure,
    MoveReason,
    Outcome,
    Pause,
    Previous,
    Revision,
    SetWeight,
    State,
    Target,
    TroubleKind,
    Weight,
)
from modelsync.rollout.notes import Notes
from modelsync.rollout.requests import failed

_MESSAGE = 512
"""Characters of a container's last words that are kept with a failure."""

# --- before the goal -----------------------------------------------------------------------------------------------


def forget_failures(facts: Facts, state: State) -> State:
    """A failure counts until the alias, or the spec, has left the revision."""
    if not state.failed or facts.not_forward is not None or facts.named is None:
        return state
    kept = tuple(failure for failure in state.failed if failure.revision == facts.named)
    return replace(state, failed=kept) if kept != state.failed else state


def expire_previous(facts: Facts, state: State) -> State:
    """What is kept warm goes when its time is over, a hold is on it, or it is not further down the stack any more."""
    previous = state.previous
    if previous is None:
        return state
    over = previous.until <= facts.now or facts.policy.keep_previous_replicas == 0
    if over or facts.held(previous.revision) or previous.revision not in state.promoted[:-1]:
        return replace(state, previous=None)
    return state


def judge(facts: Facts, state: State, notes: Notes) -> State:
    """A canary, or the target of a way back, whose model crashed or whose pods made no progress has failed."""
    revision, started = judged(state)
    if revision is None or started is None or any(failure.revision == revision for failure in state.failed):
        return state
    failure = _crash(facts, revision, started) or _deadline(facts, state, revision, started)
    if failure is None:
        return state
    notes.warn(Reason.FAILED, "Judge", f"{revision} has failed: {failure.message}", revision)
    return failed(state, failure)


def judged(state: State) -> tuple[Revision | None, datetime | None]:
    """What may fail, and since when it is tried. A first version and a fallback are not judged: nothing better is there
    to go back to."""
    if state.canary is not None:
        return state.canary.revision, state.canary.started_at
    if state.target is not None and state.target.reason in (MoveReason.ROLLBACK, MoveReason.RECOVERY):
        return state.target.revision, state.target.started_at
    return None, None


def _crash(facts: Facts, revision: Revision, started: datetime) -> Failure | None:
    trouble = facts.view(revision).trouble
    if trouble is None or not facts.crashed_since(revision, started):
        return None
    reason = Reason.CRASHED if trouble.kind is TroubleKind.CRASHED else Reason.CRASHED_LOADING
    return Failure(revision, reason, facts.now, trouble.message[:_MESSAGE])


def _deadline(facts: Facts, state: State, revision: Revision, started: datetime) -> Failure | None:
    ends = deadline(facts, state, revision, started)
    if ends is None or ends > facts.now:
        return None
    waited = duration.render(facts.policy.progress_deadline)
    message = f"no progress of its pods for {waited}, and nothing but the model explains it"
    return Failure(revision, Reason.PROGRESS_DEADLINE_EXCEEDED, facts.now, message)


def deadline(facts: Facts, state: State, revision: Revision, started: datetime) -> datetime | None:
    """When the revision fails for want of progress, or None while the clock stands: it runs only while pods are waited
    for, and never for a pull, for trouble of the infrastructure, or while forward moves are suspended."""
    view = facts.view(revision)
    wanted = (
        facts.needed(max(state.canary.weight, own_weight(state.canary))) if state.canary is not None else facts.full
    )
    if facts.ready(revision) >= wanted or view.pulling or facts.policy.suspend:
        return None
    if facts.infrastructure_trouble(revision) or not view.deployed:
        return None
    marks = [started]
    if view.progress_at is not None:
        marks.append(view.progress_at)
    if state.canary is not None and state.canary.look_after is not None:
        marks.append(state.canary.look_after)  # a pause does not count
    return max(marks) + facts.policy.progress_deadline


# --- towards the goal ----------------------------------------------------------------------------------------------


def pursue(facts: Facts, state: State, goal: Goal, notes: Notes) -> State:
    """End what is not wanted, begin what is, and take on what is under way."""
    state = _turn(facts, state, goal, notes)
    state = _leave(facts, state, goal, notes)
    state = _begin(facts, state, goal, notes)
    if state.target is not None:
        return _complete(facts, state, state.target, goal, notes)
    if state.canary is not None and goal.way is Way.STEPS and goal.revision == state.canary.revision:
        return _advance(facts, state, state.canary, notes)
    return state


def _turn(facts: Facts, state: State, goal: Goal, notes: Notes) -> State:
    """The same revision goes on for another reason; nothing that runs is given up for it."""
    if goal.way is Way.AT_ONCE and goal.revision is not None and goal.move is not None:
        if state.canary is not None and state.canary.revision == goal.revision:
            notes.tell(Reason(goal.move), "Move", _AT_ONCE[goal.move].format(goal.revision), goal.revision)
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
        return replace(state, target=None, canary=_new_canary(facts, target.revision))
    return state


def _leave(facts: Facts, state: State, goal: Goal, notes: Notes) -> State:
    moving = state.canary or state.target
    if moving is None or goal.way is Way.STAY or _wanted(state, goal):
        return state
    revision = moving.revision
    if not _may_leave(facts, state, revision, goal):
        notes.wait(Reason.STABLE_NOT_READY, revision)
        return state
    outcome, why = _ending(facts, state, revision, goal)
    if outcome is Outcome.FAILED and any(event.reason == Reason.FAILED for event in notes.events):
        pass  # said already, in the same words
    elif state.canary is None and outcome is Outcome.TAKEN_BACK:
        notes.tell(Reason.TAKEN_BACK, "Abort", f"the move to {revision} ends: {why}", revision)
    else:
        notes.warn(_TOLD[outcome], "Abort", f"{revision} loses its traffic: {why}", revision)
    notes.finish(revision, outcome, _reason_of_end(state, revision, outcome), moving.started_at)
    return replace(state, canary=None, target=None)


def _wanted(state: State, goal: Goal) -> bool:
    if state.canary is not None:
        return goal.way is Way.STEPS and goal.revision == state.canary.revision
    target = state.target
    return target is not None and goal.way in (Way.STEPS, Way.AT_ONCE) and goal.revision == target.revision


def _may_leave(facts: Facts, state: State, revision: Revision, goal: Goal) -> bool:
    """Giving up what serves needs something else that serves; a hold needs nothing."""
    if facts.held(revision) or not facts.exposed(revision) or facts.ready(revision) == 0:
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
    if goal.why is Reason.REGULATORY_HOLD and goal.way is not Way.KEEP:
        return Outcome.TAKEN_BACK, "a hold is on the stable"
    if goal.way is Way.STEPS:
        return Outcome.SUPERSEDED, f"{goal.revision} takes its place"
    return Outcome.TAKEN_BACK, f"the alias names {facts.view(facts.named).version}" if facts.named else "no alias"


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


def _begin(facts: Facts, state: State, goal: Goal, notes: Notes) -> State:
    if state.canary is not None or state.target is not None or goal.revision is None:
        return state
    revision = goal.revision
    if goal.way not in (Way.STEPS, Way.AT_ONCE):
        return state
    forward = goal.way is Way.STEPS or goal.move is MoveReason.FIRST
    if forward and (stop := facts.not_forward) is not None:
        notes.wait(stop)
        return state
    if not facts.clear(revision):
        notes.wait(Reason.HOLD_STATE_UNKNOWN, revision)
        notes.look = True
        return state
    if goal.move is None:
        notes.tell(Reason.STARTED, "Start", f"{revision} goes by the steps", revision)
        return replace(state, canary=_new_canary(facts, revision))
    notes.tell(Reason(goal.move), "Move", _AT_ONCE[goal.move].format(revision), revision)
    return replace(state, target=Target(revision, goal.move, facts.now))


def _new_canary(facts: Facts, revision: Revision) -> Canary:
    """Without a gateway there are no shares: the rollout is a switch when all pods are ready."""
    steps = facts.policy.steps if facts.policy.gateway else ()
    return Canary(revision, step=0, weight=0, steps=steps, started_at=facts.now, look_after=facts.now)


# --- a move without steps ------------------------------------------------------------------------------------------


def _complete(facts: Facts, state: State, target: Target, goal: Goal, notes: Notes) -> State:
    """A target that has all traffic, settled, is the stable. Where nothing else serves, one pod is enough: what it
    lacks is then the stable's to get, and the next version need not wait for it."""
    revision, stable = target.revision, state.stable
    if goal.way is Way.KEEP and target.reason in (MoveReason.ROLLBACK, MoveReason.RECOVERY):
        return state  # not wanted any more, and kept only until the stable serves again
    ready = facts.ready(revision)
    alone = stable is None or facts.held(stable) or facts.ready(stable) == 0
    needed = 1 if alone else facts.full
    if ready < needed:
        notes.wait(_pods_reason(facts, revision), revision)
        return state
    if facts.live(revision) < 100 or not facts.settled:
        return state  # `traffic` says what the route waits for
    return _promoted(facts, state, revision, target.started_at, str(target.reason), notes)


def _promoted(facts: Facts, state: State, revision: Revision, started_at: datetime, reason: str, notes: Notes) -> State:
    old = state.stable
    if revision in state.promoted and reason != Reason.CANARY:
        stack = state.promoted[: state.promoted.index(revision) + 1]
        previous = None  # what was gone back from is not what a hold would fall back to
    else:
        stack = (*(entry for entry in state.promoted if entry != revision), revision)
        stack = stack[-facts.policy.history_limit - 1 :]
        previous = _kept_warm(facts, old)
    notes.tell(Reason.PROMOTED, "Promote", f"{revision} is the stable", revision)
    notes.finish(revision, Outcome.PROMOTED, reason, started_at)
    return replace(
        state,
        target=None,
        canary=None,
        promoted=stack,
        previous=previous,
        failed=tuple(failure for failure in state.failed if failure.revision != revision),
    )


def _kept_warm(facts: Facts, old: Revision | None) -> Previous | None:
    policy = facts.policy
    if old is None or facts.held(old) or not policy.keep_previous_replicas or not policy.keep_previous_for:
        return None
    return Previous(old, facts.now + policy.keep_previous_for)


# --- a move by steps -----------------------------------------------------------------------------------------------


def _advance(facts: Facts, state: State, canary: Canary, notes: Notes) -> State:
    """Take the canary on as far as it goes now."""
    while True:
        further = _flap(facts, canary, notes) or _clock(facts, canary) or _step(facts, state, canary, notes)
        if further is None:
            return replace(state, canary=canary) if canary is not state.canary else state
        if isinstance(further, State):
            return further
        canary = further


def _flap(facts: Facts, canary: Canary, notes: Notes) -> Canary | None:
    """One that lost all its pods under traffic has no share until it has been ready for a while."""
    view = facts.view(canary.revision)
    if facts.ready(canary.revision) == 0:
        if not canary.flapped and (facts.live(canary.revision) > 0 or canary.step_started_at is not None):
            notes.warn(Reason.FLAPPED, "Step", f"{canary.revision} lost all its pods", canary.revision)
            return replace(canary, flapped=True, step_started_at=None)
        return None
    if canary.flapped and view.ready_since is not None and view.ready_since + READY_AGAIN <= facts.now:
        # What it had before it lost its pods, it gets back only if no hold came meanwhile.
        return replace(canary, flapped=False, look_after=view.ready_since + READY_AGAIN)
    return None


def _clock(facts: Facts, canary: Canary) -> Canary | None:
    """The step's clock starts when its weight is in the live route, accepted and settled."""
    if canary.step_started_at is not None or canary.flapped or not facts.settled:
        return None
    if canary.weight != own_weight(canary):
        return None
    listed = facts.referenced(canary.revision) or not facts.policy.gateway
    if not listed or facts.ready(canary.revision) == 0 or facts.live(canary.revision) != canary.weight:
        return None
    return replace(canary, step_started_at=facts.now)


def _step(facts: Facts, state: State, canary: Canary, notes: Notes) -> Canary | State | None:
    revision = canary.revision
    if canary.flapped:
        ready_since = facts.view(revision).ready_since
        until = ready_since + READY_AGAIN if ready_since is not None and facts.ready(revision) else None
        notes.wait(Reason.FLAPPED, revision, until)
        return None
    if (stop := facts.not_forward) is not None:
        notes.wait(stop, revision)
        return None
    step = canary.steps[canary.step] if canary.step < len(canary.steps) else None
    if isinstance(step, Pause):
        return _pause(facts, canary, step, notes)
    weight = own_weight(canary)
    if weight != canary.weight:
        return _weigh(facts, state, canary, weight, notes)
    if canary.step_started_at is None or facts.live(revision) != weight or not facts.settled:
        if facts.ready(revision) < facts.needed(weight):
            notes.wait(_pods_reason(facts, revision), revision)
        return None  # `traffic` says what the route waits for
    if step is not None:
        return _next(facts, canary, facts.now, notes)
    if facts.ready(revision) < facts.full:
        notes.wait(_pods_reason(facts, revision), revision)
        return None
    return _promoted(facts, state, revision, canary.started_at, Reason.CANARY, notes)


def _pause(facts: Facts, canary: Canary, step: Pause, notes: Notes) -> Canary | None:
    started = canary.step_started_at
    if started is None:
        if facts.ready(canary.revision) < facts.needed(canary.weight):
            notes.wait(_pods_reason(facts, canary.revision), canary.revision)
        return None
    if step.duration is None:
        notes.wait(Reason.AWAITING_PROMOTION, canary.revision)
        return None
    if facts.now < started + step.duration:
        notes.wait(Reason.PAUSED, canary.revision, started + step.duration)
        return None
    return _next(facts, canary, started + step.duration, notes)


def _next(facts: Facts, canary: Canary, ended: datetime, notes: Notes) -> Canary:
    done = f"step {canary.step + 1} of {len(canary.steps)} is done at {canary.weight} %"
    notes.tell(Reason.STEP, "Step", f"{canary.revision}: {done}", canary.revision)
    # The pause that follows a weight runs from the moment at which the weight had settled.
    return replace(canary, step=canary.step + 1, look_after=ended)


def _weigh(facts: Facts, state: State, canary: Canary, weight: Weight, notes: Notes) -> Canary | None:
    """Another share. More of it needs the pods for it, a stable to go back to, and a registry that was asked since the
    last wait and knows of no hold."""
    revision = canary.revision
    if weight > canary.weight:
        ready = facts.ready(revision)
        if ready < facts.needed(weight):
            notes.wait(_pods_reason(facts, revision), revision)
            return None
        if state.stable is None or facts.ready(state.stable) == 0:
            notes.wait(Reason.STABLE_NOT_READY, revision)
            return None
        after = canary.look_after
        ready_since = facts.view(revision).ready_since
        if canary.weight == 0 and ready_since is not None and (after is None or ready_since > after):
            after = ready_since  # bringing the model up was a wait, too
        if not facts.fresh(revision, after):
            notes.wait(Reason.FRESH_LOOK, revision)
            notes.look = True
            return None
        if not facts.clear(revision):
            notes.wait(Reason.HOLD_STATE_UNKNOWN, revision)
            notes.look = True
            return None
    return replace(canary, weight=weight, step_started_at=None)


def own_weight(canary: Canary) -> Weight:
    """The share that the current step is about; after the last one, all."""
    if canary.step >= len(canary.steps):
        return 100
    step = canary.steps[canary.step]
    return step.weight if isinstance(step, SetWeight) else canary.weight


def _pods_reason(facts: Facts, revision: Revision) -> Reason:
    return Reason.PULLING if facts.view(revision).pulling else Reason.STARTING
