"""Promotion: the stack of promoted revisions, and the previous stable that is kept warm.

This module must never decide when to promote: `moves` and `steps` do.
"""

from dataclasses import replace
from datetime import datetime

from modelsync.api.reasons import Reason
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import Outcome, Previous, Revision, State
from modelsync.rollout.plan_builder import PlanBuilder


def promote(
    facts: Facts, state: State, revision: Revision, started_at: datetime, reason: str, builder: PlanBuilder
) -> State:
    """Make `revision`, which has all traffic, the stable. A rollback pops the revisions above it; others are pushed."""
    old = state.stable
    if revision in state.promoted and reason != Reason.CANARY:
        stack = state.promoted[: state.promoted.index(revision) + 1]
        previous = None  # a hold must not fall back to the revision that was rolled back
    else:
        stack = (*(entry for entry in state.promoted if entry != revision), revision)
        stack = stack[-facts.policy.history_limit - 1 :]
        previous = _kept_warm(facts, old)
    builder.normal(Reason.PROMOTED, "Promote", f"{revision} is the stable revision", revision)
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
    """Stop keeping the previous stable warm if its time is over, it is held, or it is not below the stable any more."""
    previous = state.previous
    if previous is None:
        return state
    over = previous.until <= facts.now or facts.policy.keep_previous_replicas == 0
    if over or facts.held(previous.revision) or previous.revision not in state.promoted[:-1]:
        return replace(state, previous=None)
    return state
