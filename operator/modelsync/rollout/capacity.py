"""How many pods each revision is to have, and which revisions go.

A stable stays whole until a promotion has settled, so that taking a canary back needs no pod. Nothing here may take a
pod from a revision that has traffic, or that the data plane may still send some.
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
from modelsync.rollout.steps import sized_for
from modelsync.rollout.traffic import may_be_held


def wanted_replicas(facts: Facts, state: State) -> dict[Revision, int]:
    """Pods of every revision that is to have any, in the order in which they matter."""
    wanted: dict[Revision, int] = {}
    if state.stable is not None and not may_be_held(facts, state.stable):
        wanted[state.stable] = facts.policy.replicas
    if state.target is not None:
        wanted[state.target.revision] = facts.full
    if state.canary is not None:
        canary = state.canary
        weight = max(sized_for(canary), facts.live(canary.revision))
        wanted[canary.revision] = max(facts.needed(weight), wanted.get(canary.revision, 0))
    if state.previous is not None:
        warm = min(facts.policy.keep_previous_replicas, facts.policy.replicas)
        wanted.setdefault(state.previous.revision, warm)
    if facts.idle:
        return dict.fromkeys(wanted, 0)
    return {revision: replicas for revision, replicas in wanted.items() if not facts.held(revision)}


def bring_up(facts: Facts, wanted: dict[Revision, int]) -> tuple[Action, ...]:
    """Make what is not there yet, and add pods."""
    actions: list[Action] = []
    for revision, replicas in wanted.items():
        view = facts.view(revision)
        if not view.recorded or not view.deployed:
            if replicas:
                actions.append(EnsureRevision(revision, replicas))
        elif view.replicas < replicas:
            actions.append(Scale(revision, replicas))
    return tuple(actions)


def cut_off(facts: Facts) -> tuple[Action, ...]:
    """End every pod of a held revision, those that drain included."""
    if not facts.held_digests:
        return ()
    return tuple(
        CutOff(revision)
        for revision, view in sorted(facts.views.items())
        if (view.replicas or (view.pods and not view.cut)) and facts.held(revision)
    )


def take_down(facts: Facts, state: State, wanted: dict[Revision, int]) -> tuple[Action, ...]:
    """Take pods away, and what is cold."""
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
    """A stable under traffic is made smaller by whoever owns `spec.replicas`, but to none only when it has no traffic;
    all others wait until they have none."""
    if facts.may_shrink(revision):
        return True
    return not facts.idle and (revision == state.stable or _canary_shrinks(facts, state, revision))


def _canary_shrinks(facts: Facts, state: State, revision: Revision) -> bool:
    return state.canary is not None and state.canary.revision == revision and facts.settled


def _is_cold(facts: Facts, view: RevisionView) -> bool:
    """Nothing names its Service any more, and a hold has ended its pods before its Deployment goes."""
    if facts.referenced(view.revision) or not facts.may_shrink(view.revision):
        return False
    return not (facts.held(view.revision) and (view.replicas or view.pods))


def forget(facts: Facts, state: State, wanted: dict[Revision, int]) -> tuple[Action, ...]:
    """Records beyond the history limit, oldest first; never of what is in the stack, moves, has failed or is named."""
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
