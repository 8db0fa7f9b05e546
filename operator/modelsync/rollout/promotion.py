"""A revision becomes the stable: the lineage stack, and what stays warm behind it."""

from dataclasses import replace
from datetime import datetime

from modelsync.api.reasons import Reason
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import Outcome, Previous, Revision, State
from modelsync.rollout.plan_builder import PlanBuilder


def promote(
    facts: Facts, state: State, revision: Revision, started_at: datetime, reason: str, builder: PlanBuilder
) -> State:
    """It has had all traffic, settled. Going back pops what lies above it; anything else is pushed."""
    old = state.stable
    if revision in state.promoted and reason != Reason.CANARY:
        stack = state.promoted[: state.promoted.index(revision) + 1]
        previous = None  # what was gone back from is not what a hold would fall back to
    else:
        stack = (*(entry for entry in state.promoted if entry != revision), revision)
        stack = stack[-facts.policy.history_limit - 1 :]
        previous = _kept_warm(facts, old)
    builder.normal(Reason.PROMOTED, "Promote", f"{revision} is the stable", revision)
    builder.finish(revision, Outcome.PROMOTED, reason, started_at)
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


def expire_previous(facts: Facts, state: State) -> State:
    """What is kept warm goes when its time is over, a hold is on it, or it is not further down the stack any more."""
    previous = state.previous
    if previous is None:
        return state
    over = previous.until <= facts.now or facts.policy.keep_previous_replicas == 0
    if over or facts.held(previous.revision) or previous.revision not in state.promoted[:-1]:
        return replace(state, previous=None)
    return state
