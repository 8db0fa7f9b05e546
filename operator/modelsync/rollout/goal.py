"""Which revision is wanted: DESIGN §3's numbered rules, first match wins.

The rules for a person's pin, gates and `canaryAlias` come with those features. Nothing here may look at what was done
before: the answer follows from the stack, the registry, the holds and what is ready.
"""

from dataclasses import dataclass
from enum import StrEnum

from modelsync.api.hold import HoldAction
from modelsync.api.reasons import Reason
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import MoveReason, Revision, State


class Way(StrEnum):
    """How the wanted revision gets to serve."""

    STAY = "Stay"  # nothing is known: what is, stays
    KEEP = "Keep"  # the stable serves all
    BLOCK = "Block"  # nothing may serve
    IDLE = "Idle"  # nothing is to serve
    AT_ONCE = "AtOnce"  # a move without steps, `Goal.move` says why
    STEPS = "Steps"  # a canary


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted, and why."""

    way: Way
    revision: Revision | None
    why: Reason
    move: MoveReason | None = None


def goal(facts: Facts, state: State) -> Goal:
    """The first rule that applies says what is wanted."""
    return (
        _idle(facts)  # nothing runs and nothing moves; holds are latched all the same
        or _stable_is_held(facts, state)  # 1: the hold action
        or _nothing_is_named(facts, state)  # the registry has not answered: what is, stays
        or _named_is_barred(facts, state)  # 2: held or failed: never a move to it
        or _named_is_stable(facts, state)  # 3: serving as asked
        or _stable_is_lost(facts, state)  # what else runs takes over, or a way back could have nothing to start from
        or _named_was_promoted(facts, state)  # 4: back through the stack, to the record as it ran
        or _nothing_serves(facts, state)  # 5: no steps, no pauses
        or _by_steps(facts, state)  # 6
    )


def _idle(facts: Facts) -> Goal | None:
    return Goal(Way.IDLE, None, Reason.IDLE) if facts.idle else None


def _stable_is_held(facts: Facts, state: State) -> Goal | None:
    if state.stable is None or not facts.held(state.stable):
        return None
    start = _start_of_another(facts, state)
    if facts.policy.hold_action is HoldAction.FALLBACK:
        fallback = _fallback(facts, state)
        # A fallback that is in trouble may never serve. Then another version that the alias names may start beside it,
        # or a person could not end the outage by moving the alias.
        stuck = fallback is not None and not facts.ready(fallback) and _in_trouble(facts, fallback)
        if fallback is not None and (start is None or not (stuck or _starting(state, start))):
            return Goal(Way.AT_ONCE, fallback, Reason.REGULATORY_HOLD, MoveReason.FALLBACK)
    return start or Goal(Way.BLOCK, None, Reason.REGULATORY_HOLD)


def _in_trouble(facts: Facts, revision: Revision) -> bool:
    return facts.view(revision).trouble is not None or facts.flunked(revision) is not None


def _fallback(facts: Facts, state: State) -> Revision | None:
    """The promoted revision that takes a held stable's place; never a canary, which nobody has judged."""
    candidates = _unheld(facts, state)
    if facts.named in candidates:
        return facts.named
    if state.target is not None and state.target.revision in candidates:
        return state.target.revision
    return _best(facts, candidates)


def fallback_of_stable(facts: Facts, state: State) -> Revision | None:
    """Where a hold on the stable would send the traffic now, under `Fallback`."""
    return _best(facts, [revision for revision in _unheld(facts, state) if revision != state.stable])


def _unheld(facts: Facts, state: State) -> list[Revision]:
    """Promoted revisions that may serve, newest first."""
    return [
        revision for revision in reversed(state.promoted) if not facts.held(revision) and facts.view(revision).recorded
    ]


def _best(facts: Facts, candidates: list[Revision]) -> Revision | None:
    """One that is ready takes over at once; else the newest is started."""
    return next((revision for revision in candidates if facts.ready(revision)), candidates[0] if candidates else None)


def _start_of_another(facts: Facts, state: State) -> Goal | None:
    """Rule 5 while a hold blocks: the alias names another version, which may serve."""
    named = facts.named
    if named is None or facts.held(named) or _failed(state, named):
        return None
    if named in state.promoted:
        return Goal(Way.AT_ONCE, named, Reason.REGULATORY_HOLD, MoveReason.ROLLBACK)
    return Goal(Way.AT_ONCE, named, Reason.REGULATORY_HOLD, MoveReason.FIRST)


def _starting(state: State, start: Goal) -> bool:
    target = state.target
    return target is not None and target.revision == start.revision and target.reason is MoveReason.FIRST


def _nothing_is_named(facts: Facts, state: State) -> Goal | None:
    return Goal(Way.STAY, state.stable, Reason.RESOLVING) if facts.named is None else None


def _named_is_barred(facts: Facts, state: State) -> Goal | None:
    if facts.named is not None and facts.held(facts.named):
        way = Way.KEEP if state.stable is not None else Way.BLOCK
        return Goal(way, state.stable, Reason.REGULATORY_HOLD)
    if facts.named is not None and _failed(state, facts.named):
        return Goal(Way.KEEP, state.stable, Reason.FAILED)
    return None


def _failed(state: State, revision: Revision) -> bool:
    return any(failure.revision == revision for failure in state.failed)


def _named_is_stable(facts: Facts, state: State) -> Goal | None:
    return Goal(Way.KEEP, state.stable, Reason.HEALTHY) if facts.named == state.stable else None


def _stable_is_lost(facts: Facts, state: State) -> Goal | None:
    """What runs and can serve takes over from a stable without pods, also when the alias has moved on meanwhile."""
    running = state.canary or state.target
    if (
        state.stable is None
        or running is None
        or running.revision in state.promoted
        or not facts.down_for_long(state.stable)
    ):
        return None
    revision = running.revision
    if not facts.ready(revision) or not facts.clear(revision) or facts.crashing(revision) or _failed(state, revision):
        return None
    if revision != facts.named and not facts.serving(revision):
        return None
    return Goal(Way.AT_ONCE, revision, Reason.RECOVERY, MoveReason.RECOVERY)


def _named_was_promoted(facts: Facts, state: State) -> Goal | None:
    candidate = facts.observed.registry.candidate
    stable = state.stable
    if candidate is None or stable is None or facts.named not in state.promoted:
        return None
    if facts.view(stable).content == candidate.content:
        return None  # the same model with an earlier spec is an ordinary rollout
    return Goal(Way.AT_ONCE, facts.named, Reason.ROLLBACK, MoveReason.ROLLBACK)


def _nothing_serves(facts: Facts, state: State) -> Goal | None:
    return Goal(Way.AT_ONCE, facts.named, Reason.FIRST, MoveReason.FIRST) if state.stable is None else None


def _by_steps(facts: Facts, state: State) -> Goal:
    return Goal(Way.STEPS, facts.named, Reason.CANARY)
