"""Who gets which share: the wanted route as a total function of intent, readiness and holds, and the next write to it.

`wanted` never asks what was done before, so a crash, an edit by hand or another leader's late write cannot leave a
route that nobody would put right; it is compared whole. `next_write` is the discipline of DESIGN §3.5: a share grows
only in a route that is accepted and settled, and only of a backend that the gateway already knows with weight 0;
shares shrink at once.
"""

from datetime import datetime

from modelsync.api.reasons import Reason
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import BLOCKED, MoveReason, Revision, State, Target, Weight
from modelsync.rollout.notes import Notes

Weights = tuple[tuple[Revision, Weight], ...]

BLOCKED_ROUTE: Weights = ((BLOCKED, 1),)


def wanted(facts: Facts, state: State, notes: Notes) -> Weights:
    """The shares as they should be: of the stable and of what moves, or the blocked Service alone."""
    if facts.idle:
        return BLOCKED_ROUTE
    base = serving_base(facts, state)
    moving, share = _share(facts, state, base, notes)
    if base is not None and may_be_held(facts, base):
        notes.wait(Reason.HOLD_STATE_UNKNOWN, base)
        notes.look = True
        return _as_it_is(facts)
    if base is None:
        return ((moving, 100),) if moving is not None and share == 100 else BLOCKED_ROUTE
    if moving is None or moving == base or facts.ready(moving) == 0:
        # What is blocked (it was idle, or held) stays so until a pod can answer: a gateway may tell a client that has
        # come too early something worse than 503.
        return ((base, 100),) if facts.ready(base) or not facts.blocked else BLOCKED_ROUTE
    return ((base, 100 - share), (moving, share))


def serving_base(facts: Facts, state: State) -> Revision | None:
    """The stable, unless a hold is on it."""
    return state.stable if state.stable is not None and not facts.held(state.stable) else None


def may_be_held(facts: Facts, base: Revision) -> bool:
    """The stable has been taken out of the route (with a gateway) or the Service, the intent does not say why, and the
    registry has not said that it is free: an operator that saw a hold may have died before the status had taken it."""
    if facts.clear(base):
        return False
    if facts.policy.gateway:
        return facts.route is not None and all(backend != base for backend, _ in facts.route.weights)
    state, service = facts.observed.state, facts.observed.service
    moving = {move.revision for move in (state.canary, state.target) if move is not None}
    return service is not None and service not in {base, *moving}


def _as_it_is(facts: Facts) -> Weights:
    """The live shares, as long as no hold is on any of them."""
    if facts.policy.gateway:
        weights = facts.route.weights if facts.route is not None else BLOCKED_ROUTE
    else:
        weights = ((facts.observed.service or BLOCKED, 100),)
    return BLOCKED_ROUTE if any(facts.held(revision) for revision, _ in weights) else weights


def _share(facts: Facts, state: State, base: Revision | None, notes: Notes) -> tuple[Revision | None, Weight]:
    if state.target is not None:
        revision = state.target.revision
        share = _target_share(facts, state.target, base)
        first = state.target.reason is MoveReason.FIRST
        return revision, _grown(facts, revision, share, state.target.started_at if first else None, notes)
    if state.canary is not None:
        canary = state.canary
        if base is None or canary.flapped or facts.held(canary.revision) or facts.ready(canary.revision) == 0:
            return canary.revision, 0
        if facts.policy.gateway:
            share = facts.carried(canary.revision, canary.weight, base)
        else:
            share = _switched(facts, canary.revision) if canary.weight == 100 else 0
        return canary.revision, _grown(facts, canary.revision, share, canary.look_after or canary.started_at, notes)
    return None, 0


def _target_share(facts: Facts, target: Target, base: Revision | None) -> Weight:
    """All at once if nothing else serves well; else what its ready pods can carry."""
    revision = target.revision
    if facts.held(revision) or facts.ready(revision) == 0:
        return 0
    if base is None or facts.ready(base) == 0 or facts.crashing(base):
        return 100
    return facts.carried(revision, 100, base) if facts.policy.gateway else _switched(facts, revision)


def _switched(facts: Facts, revision: Revision) -> Weight:
    """Without a gateway: all when all pods are ready, and then for as long as one is."""
    return 100 if facts.ready(revision) >= facts.full or facts.live(revision) == 100 else 0


def _grown(facts: Facts, revision: Revision, share: Weight, forward_since: datetime | None, notes: Notes) -> Weight:
    """`share`, or what it has in the live route while it may not have more. A way back needs to know that no hold is
    on the revision; a forward move (begun, or out of its last wait, at `forward_since`) that this was asked since."""
    live = facts.live(revision)
    if share <= live:
        return share
    if forward_since is not None:
        if (stop := facts.not_forward) is not None:
            notes.wait(stop, revision)
            return live
        ready_since = facts.view(revision).ready_since
        after = forward_since if ready_since is None or live else max(forward_since, ready_since)
        if not facts.fresh(revision, after):
            notes.wait(Reason.FRESH_LOOK, revision)
            notes.look = True
            return live
    if not facts.clear(revision):
        notes.wait(Reason.HOLD_STATE_UNKNOWN, revision)
        notes.look = True
        return live
    return share


def next_write(facts: Facts, state: State, weights: Weights, notes: Notes) -> Weights | None:
    """What to write into the route now to get nearer to `weights`; None: it is there, or has to settle first."""
    live = facts.route
    if live is not None and weights is live.weights:
        return None  # left as it is, whatever it is: see `may_be_held`
    if live is None or (live.weights == weights and not live.drifted):
        if live is not None and not facts.settled:
            _wait_for_gateway(facts, notes)
        return weights if live is None else None
    before = dict(live.weights)
    growing = _growing(facts, state, weights, before)
    if growing is None or (facts.settled and growing in before):
        return weights
    # Shrinking must not wait: what grows stays as it is, and the stable has the rest.
    base = weights[0][0]
    kept = before.get(growing, 0)
    cautious = ((base, 100 - kept), (growing, kept))
    if cautious == live.weights and not live.drifted:
        _wait_for_gateway(facts, notes)
        return None
    return cautious


def _growing(facts: Facts, state: State, weights: Weights, before: dict[Revision, Weight]) -> Revision | None:
    """The revision whose share would grow by a planned move. A share that grows because nothing else can serve is
    none: waiting would only lengthen the outage."""
    if len(weights) < 2:
        return None
    (base, _), (moving, share) = weights
    if share <= before.get(moving, 0):
        return None
    if state.target is not None and facts.ready(base) == 0:
        return None
    return moving


def _wait_for_gateway(facts: Facts, notes: Notes) -> None:
    if facts.settles_at is None:
        notes.wait(Reason.ROUTE_NOT_ACCEPTED)
    else:
        notes.wait(Reason.SETTLING, until=facts.settles_at)


def wanted_service(facts: Facts, state: State, weights: Weights) -> Revision:
    """What the plain Service is to select: with a gateway the stable, else who has all traffic; never nothing."""
    if not facts.policy.gateway:
        return next((revision for revision, weight in weights if weight == 100), BLOCKED)
    base = serving_base(facts, state)
    if base is not None and any(revision == base for revision, _ in weights):
        return base
    return weights[0][0]
