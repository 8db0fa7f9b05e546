"""Which revision is wanted: an ordered list of rules, first match wins.

The numbers are those of docs/design/README.md, "Which revision is wanted". This module must never depend on earlier
actions: the result follows only from the stack, the registry, the holds and which pods are ready.
"""

from dataclasses import dataclass
from enum import StrEnum

from modelsync.api.hold import HoldAction
from modelsync.api.reasons import Reason
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import MoveReason, Revision, State


class Way(StrEnum):
    """How the wanted revision gets its traffic."""

    STAY = "Stay"  # nothing is known yet: change nothing
    KEEP = "Keep"  # the stable gets all traffic
    BLOCK = "Block"  # nothing may serve
    IDLE = "Idle"  # nothing should serve: spec.replicas is 0
    AT_ONCE = "AtOnce"  # a move without steps; `Goal.move` is the reason
    STEPS = "Steps"  # a canary


@dataclass(frozen=True, slots=True)
class Goal:
    """The wanted revision, and why."""

    way: Way
    revision: Revision | None
    why: Reason
    move: MoveReason | None = None


def goal(facts: Facts, state: State) -> Goal:
    """The goal of the first rule that applies."""
    return (
        _idle(facts)  # nothing runs and nothing moves; holds are still latched
        or _stable_is_held(facts, state)  # 1: apply `hold.action`
        or _nothing_is_named(facts, state)  # no registry answer yet: change nothing
        or _named_may_not_serve(facts, state)  # 2: held or failed: never move to it
        or _named_is_stable(facts, state)  # 3: nothing to do
        or _stable_is_lost(facts, state)  # before rule 4: a rollback needs a stable that still serves
        or _named_was_promoted(facts, state)  # 4: roll back to the recorded revision, exactly as it ran
        or _nothing_serves(facts, state)  # 5: first version: no steps, no pauses
        or _by_steps(facts, state)  # 6: canary
    )


def _idle(facts: Facts) -> Goal | None:
    return Goal(Way.IDLE, None, Reason.IDLE) if facts.idle else None


def _stable_is_held(facts: Facts, state: State) -> Goal | None:
    if state.stable is None or not facts.held(state.stable):
        return None
    start = _other_named_version(facts, state)
    if facts.policy.hold_action is HoldAction.FALLBACK:
        fallback = _fallback(facts, state)
        # A fallback that is in trouble may never become ready. The version that the alias names may then start beside
        # it; otherwise moving the alias could not end the outage.
        stuck = fallback is not None and not facts.ready(fallback) and _in_trouble(facts, fallback)
        if fallback is not None and (start is None or not (stuck or _starting(state, start))):
            return Goal(Way.AT_ONCE, fallback, Reason.REGULATORY_HOLD, MoveReason.FALLBACK)
    return start or Goal(Way.BLOCK, None, Reason.REGULATORY_HOLD)


def _in_trouble(facts: Facts, revision: Revision) -> bool:
    return facts.view(revision).trouble is not None or facts.failed_exam(revision) is not None


def _fallback(facts: Facts, state: State) -> Revision | None:
    """The promoted revision that replaces a held stable. Never a canary, which is not proven yet."""
    candidates = _unheld(facts, state)
    if facts.named in candidates:
        return facts.named
    if state.target is not None and state.target.revision in candidates:
        return state.target.revision
    return _best(facts, candidates)


def fallback_of_stable(facts: Facts, state: State) -> Revision | None:
    """The revision that would get the traffic if the stable were held now, with `hold.action: Fallback`."""
    return _best(facts, [revision for revision in _unheld(facts, state) if revision != state.stable])


def _unheld(facts: Facts, state: State) -> list[Revision]:
    """Promoted revisions that are not held, newest first."""
    return [
        revision for revision in reversed(state.promoted) if not facts.held(revision) and facts.view(revision).recorded
    ]


def _best(facts: Facts, candidates: list[Revision]) -> Revision | None:
    """The newest that is ready; if none is ready, the newest."""
    return next((revision for revision in candidates if facts.ready(revision)), candidates[0] if candidates else None)


def _other_named_version(facts: Facts, state: State) -> Goal | None:
    """Rule 5 while a hold blocks traffic: move to the version that the alias names, if it may serve."""
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


def _named_may_not_serve(facts: Facts, state: State) -> Goal | None:
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
    """A running canary or target takes over from a stable without pods, even if the alias has moved on since."""
    running = state.canary or state.target
    if (
        state.stable is None
        or running is None
        or running.revision in state.promoted
        or not facts.down_for_long(state.stable)
    ):
        return None
    revision = running.revision
    if (
        not facts.ready(revision)
        or not facts.known_unheld(revision)
        or facts.barred(revision)
        or facts.crashing(revision)
        or _failed(state, revision)
    ):
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
        return None  # the same model with an earlier spec: an ordinary rollout
    return Goal(Way.AT_ONCE, facts.named, Reason.ROLLBACK, MoveReason.ROLLBACK)


def _nothing_serves(facts: Facts, state: State) -> Goal | None:
    return Goal(Way.AT_ONCE, facts.named, Reason.FIRST, MoveReason.FIRST) if state.stable is None else None


def _by_steps(facts: Facts, state: State) -> Goal:
    return Goal(Way.STEPS, facts.named, Reason.CANARY)
