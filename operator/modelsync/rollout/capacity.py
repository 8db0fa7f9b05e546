"""How many pods each revision should have, and which revisions are removed.

The stable keeps all its pods until a promotion has settled, so that aborting a canary needs no new pod. This module
must never take a pod from a revision that has traffic, or that the data plane may still be sending traffic to.
"""

from modelsync.rollout.facts import Facts
from modelsync.rollout.model import (
    Action,
    CutOff,
    EnsureRevision,
    Remove,
    Revision,
    RevisionView,
    Scale,
    State,
)
from modelsync.rollout.steps import sizing_weight
from modelsync.rollout.traffic import may_be_held


def wanted_replicas(facts: Facts, state: State) -> dict[Revision, int]:
    """Wanted replicas by revision, most important revision first."""
    wanted: dict[Revision, int] = {}
    if state.stable is not None and not may_be_held(facts, state.stable):
        wanted[state.stable] = facts.policy.replicas
    if state.target is not None:
        wanted[state.target.revision] = facts.full_replicas
    if state.canary is not None:
        canary = state.canary
        weight = max(sizing_weight(canary), facts.live_weight(canary.revision))
        wanted[canary.revision] = max(facts.needed(weight), wanted.get(canary.revision, 0))
    if state.previous is not None:
        warm = min(facts.policy.keep_previous_replicas, facts.policy.replicas)
        wanted.setdefault(state.previous.revision, warm)
    if facts.idle:
        return dict.fromkeys(wanted, 0)
    return {revision: replicas for revision, replicas in wanted.items() if not facts.held(revision)}


def bring_up(facts: Facts, wanted: dict[Revision, int]) -> tuple[Action, ...]:
    """Create missing revisions and scale up. A lost record is written again if the registry still names its content;
    otherwise the Deployment is all that is left, and is scaled as it is."""
    actions: list[Action] = []
    candidate = facts.observed.registry.candidate
    for revision, replicas in wanted.items():
        view = facts.view(revision)
        named = candidate is not None and candidate.revision == revision
        if not view.deployed or (named and not view.recorded):
            if replicas:
                actions.append(EnsureRevision(revision, replicas))
        elif view.replicas < replicas:
            actions.append(Scale(revision, replicas))
    return tuple(actions)


def cut_off(facts: Facts) -> tuple[Action, ...]:
    """Terminate every pod of a held revision, including those that are draining."""
    if not facts.held_digests:
        return ()
    return tuple(
        CutOff(revision)
        for revision, view in sorted(facts.views.items())
        if (view.replicas or (view.pods and not view.cut)) and facts.held(revision)
    )


def take_down(facts: Facts, state: State, wanted: dict[Revision, int]) -> tuple[Action, ...]:
    """Scale down, and remove revisions that are no longer needed."""
    actions: list[Action] = []
    for revision, view in sorted(facts.views.items()):
        replicas = wanted.get(revision)
        if replicas is not None:
            if view.deployed and view.replicas > replicas and _may_lose_pods(facts, state, revision):
                actions.append(Scale(revision, replicas))
        elif view.deployed and revision != state.stable and _is_cold(facts, view):
            actions.append(Remove(revision))
    return tuple(actions)


def _may_lose_pods(facts: Facts, state: State, revision: Revision) -> bool:
    """The stable may be scaled down while it has traffic, because `spec.replicas` says so, but to 0 only without
    traffic. Every other revision must have no traffic first."""
    if facts.may_shrink(revision):
        return True
    return not facts.idle and (revision == state.stable or _canary_shrinks(facts, state, revision))


def _canary_shrinks(facts: Facts, state: State, revision: Revision) -> bool:
    return state.canary is not None and state.canary.revision == revision and facts.settled


def _is_cold(facts: Facts, view: RevisionView) -> bool:
    """Nothing references its Service, and if it is held its pods have been terminated, so its Deployment can go."""
    if facts.referenced(view.revision) or not facts.may_shrink(view.revision):
        return False
    return not (facts.held(view.revision) and (view.replicas or view.pods))


def forget(facts: Facts, state: State, wanted: dict[Revision, int]) -> tuple[Action, ...]:
    """Delete records beyond the history limit, oldest first.

    Never the record of a revision that is in the stack, moving, failed, or named by the alias.
    """
    kept = set(state.promoted) | set(wanted) | {failure.revision for failure in state.failed}
    candidate = facts.observed.registry.candidate
    if candidate is not None:
        kept.add(candidate.revision)
    if len(facts.views) <= len(state.promoted):
        return ()
    cold = [
        view
        for view in facts.views.values()
        if view.revision not in kept and view.recorded and not view.deployed and not view.pods
    ]
    room = max(0, facts.policy.history_limit - max(0, len(state.promoted) - 1))
    if len(cold) <= room:
        return ()
    cold.sort(key=lambda view: (view.recorded_at.timestamp() if view.recorded_at else 0.0, view.revision))
    return tuple(Remove(view.revision, forget=True) for view in cold[: len(cold) - room])
