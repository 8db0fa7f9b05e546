"""The wanted route as a function of intent, readiness and holds, and the next write to it.

`wanted` must never depend on earlier writes, and the whole route is compared. So a wrong route is always corrected,
whether it was left by a crash, a manual edit, or a late write of a former leader. `next_write` orders the changes
(docs/design/README.md, "Rolling out"): a share may grow, or a rule be added, only in a route that is accepted and
settled, and only for a backend that the route already lists, if only with weight 0. Shares shrink, and rules are
removed, at once.
"""

from datetime import datetime

from modelsync.api.reasons import Reason
from modelsync.api.routing import Routing, Rule, RuleKind, Weights
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import BLOCKED, MoveReason, Revision, State, Target, Weight
from modelsync.rollout.plan_builder import PlanBuilder
from modelsync.rollout.steps import segment

BLOCKED_ROUTE = Routing(((BLOCKED, 1),))


def wanted(facts: Facts, state: State, builder: PlanBuilder) -> Routing:
    """The wanted shares and rules of the stable and the current move, or the blocked Service alone."""
    if facts.idle:
        return BLOCKED_ROUTE
    _wait_for_marks(facts, state, builder)
    base = serving_base(facts, state)
    moving, share = _share(facts, state, base, builder)
    if base is not None and may_be_held(facts, base):
        builder.wait(Reason.HOLD_STATE_UNKNOWN, base)
        builder.look = True
        return _unchanged(facts)
    if base is None:
        return Routing(((moving, 100),)) if moving is not None and share == 100 else BLOCKED_ROUTE
    if moving is None or moving == base or facts.ready(moving) == 0:
        # A blocked route (idle or held before) stays blocked until a pod is ready: for a backend without endpoints, a
        # gateway may return something worse than 503.
        if facts.blocked and not facts.ready(base):
            return BLOCKED_ROUTE
        weights: Weights = ((base, 100),)
    else:
        weights = ((base, 100 - share), (moving, share))
    if not facts.policy.gateway:
        return Routing(weights)
    weights += _listed_for_tests(facts, state, weights)
    rules = (
        *_tests(facts, weights),
        *_segment(facts, state, weights, builder),
        *_sessions(facts, state, weights, builder),
    )
    return Routing(weights, rules)


def _wait_for_marks(facts: Facts, state: State, builder: PlanBuilder) -> None:
    """Wait for the registry if the stable or the current move would serve, but must not while its marks are unknown."""
    for revision in (state.stable, *state.moving):
        if revision is not None and facts.barred(revision) and not facts.held(revision):
            builder.wait(Reason.HOLDS_STALE, revision)
            builder.look = True


def serving_base(facts: Facts, state: State) -> Revision | None:
    """The stable, unless it must not serve."""
    return state.stable if state.stable is not None and not facts.must_not_serve(state.stable) else None


def may_be_held(facts: Facts, base: Revision) -> bool:
    """Whether the stable may be on a hold that the status does not contain.

    It is missing from the route (or, without a gateway, not selected by the Service), the intent does not explain that,
    and the registry has not confirmed that no hold covers it. An operator that saw a hold may have crashed before the
    status was written.
    """
    if facts.known_unheld(base):
        return False
    if facts.policy.gateway:
        return facts.route is not None and all(backend != base for backend, _ in facts.route.weights)
    state, service = facts.observed.state, facts.observed.service
    return service is not None and service not in {base, *state.moving}


def _unchanged(facts: Facts) -> Routing:
    """The live routing without rules that must go; blocked if any of its revisions must not serve."""
    if not facts.policy.gateway:
        service = facts.observed.service or BLOCKED
        return BLOCKED_ROUTE if facts.must_not_serve(service) else Routing(((service, 100),))
    live = facts.live_routing
    if live is None or not live.weights or any(facts.must_not_serve(revision) for revision, _ in live.weights):
        return BLOCKED_ROUTE
    kept = tuple(
        rule
        for rule in live.rules
        if live.lists(rule.revision) and facts.ready(rule.revision) and not facts.must_not_serve(rule.revision)
    )
    return Routing(live.weights, kept) if kept != live.rules else live


# --- rules ---------------------------------------------------------------------------------------------------------


def _listed_for_tests(facts: Facts, state: State, weights: Weights) -> Weights:
    """The previous stable with weight 0, so that the test header can name it: the gateway must know it as a backend."""
    previous = state.previous.revision if state.previous is not None else None
    if not facts.policy.test_header or previous is None or any(revision == previous for revision, _ in weights):
        return ()
    return ((previous, 0),) if facts.ready(previous) and not facts.must_not_serve(previous) else ()


def _tests(facts: Facts, weights: Weights) -> tuple[Rule, ...]:
    """A test-header rule for every listed revision that does not have all the traffic anyway."""
    if not facts.policy.test_header:
        return ()
    rules = (Rule(revision, RuleKind.TEST) for revision, weight in weights if weight < 100)
    return tuple(
        rule
        for rule in rules
        if facts.ready(rule.revision)
        and not facts.must_not_serve(rule.revision)
        and (_has_rule(facts, rule) or facts.known_unheld(rule.revision))
    )


def _segment(facts: Facts, state: State, weights: Weights, builder: PlanBuilder) -> tuple[Rule, ...]:
    """The rule for requests that go to the canary regardless of its share."""
    canary = state.canary
    if canary is None or canary.flapped or not _is_second(weights, canary.revision) or weights[1][1] == 100:
        return ()
    match = segment(canary)
    if not match or facts.must_not_serve(canary.revision) or facts.ready(canary.revision) == 0:
        return ()
    rule = Rule(canary.revision, RuleKind.SEGMENT, match)
    return (rule,) if _may_have(facts, rule, canary.look_after or canary.started_at, builder) else ()


def _sessions(facts: Facts, state: State, weights: Weights, builder: PlanBuilder) -> tuple[Rule, ...]:
    """Session rules: while stable and canary share the traffic, each keeps the clients that it has served.

    A canary that lost pods keeps none, because its remaining pods can carry only its share.
    """
    canary = state.canary
    if not facts.policy.sessions or canary is None or canary.flapped or not _is_second(weights, canary.revision):
        return ()
    base, share = weights[0][0], weights[1][1]
    if not 0 < share < 100:
        return ()
    rules = [Rule(base, RuleKind.SESSION)] if facts.ready(base) else []
    rule = Rule(canary.revision, RuleKind.SESSION)
    enough = facts.carried(canary.revision, canary.weight, base) >= canary.weight
    if enough and _may_have(facts, rule, canary.look_after or canary.started_at, builder):
        rules.append(rule)
    return tuple(rules)


def _is_second(weights: Weights, revision: Revision) -> bool:
    return len(weights) > 1 and weights[1][0] == revision


def _has_rule(facts: Facts, rule: Rule) -> bool:
    return facts.live_routing is not None and rule in facts.live_routing.rules


def _may_have(facts: Facts, rule: Rule, forward_since: datetime, builder: PlanBuilder) -> bool:
    return _has_rule(facts, rule) or _may_grow(facts, rule.revision, forward_since, builder)


# --- shares --------------------------------------------------------------------------------------------------------


def _share(facts: Facts, state: State, base: Revision | None, builder: PlanBuilder) -> tuple[Revision | None, Weight]:
    if state.target is not None:
        revision = state.target.revision
        share = _target_share(facts, state.target, base)
        first = state.target.reason is MoveReason.FIRST
        return revision, _grown(facts, revision, share, state.target.started_at if first else None, builder)
    if state.canary is not None:
        canary = state.canary
        may = not canary.flapped and not facts.must_not_serve(canary.revision)
        if base is None or not may or facts.ready(canary.revision) == 0:
            return canary.revision, 0
        if facts.policy.gateway:
            share = facts.carried(canary.revision, canary.weight, base)
        else:
            share = _switched(facts, canary.revision) if canary.weight == 100 else 0
        return canary.revision, _grown(facts, canary.revision, share, canary.look_after or canary.started_at, builder)
    return None, 0


def _target_share(facts: Facts, target: Target, base: Revision | None) -> Weight:
    """100 if nothing else serves without errors; otherwise what its ready pods can carry."""
    revision = target.revision
    if facts.must_not_serve(revision) or facts.ready(revision) == 0:
        return 0
    if base is None or facts.ready(base) == 0 or facts.crashing(base):
        return 100
    return facts.carried(revision, 100, base) if facts.policy.gateway else _switched(facts, revision)


def _switched(facts: Facts, revision: Revision) -> Weight:
    """Without a gateway: 100 once all pods are ready, and from then on while any pod is ready."""
    return 100 if facts.ready(revision) >= facts.full_replicas or facts.live_weight(revision) == 100 else 0


def _grown(
    facts: Facts, revision: Revision, share: Weight, forward_since: datetime | None, builder: PlanBuilder
) -> Weight:
    """`share`, or its live weight if that must not grow now."""
    live = facts.live_weight(revision)
    return share if share <= live or _may_grow(facts, revision, forward_since, builder) else live


def _may_grow(facts: Facts, revision: Revision, forward_since: datetime | None, builder: PlanBuilder) -> bool:
    """Whether its exposure may grow.

    The registry must have confirmed that no hold covers the revision. A forward move also needs an answer requested
    after `forward_since`, when it started or when its last wait ended.
    """
    if forward_since is not None:
        if (stop := facts.forward_blocker) is not None:
            builder.wait(stop, revision)
            return False
        ready_since = facts.view(revision).ready_since
        has_some = facts.live_weight(revision) or facts.live_match(revision)
        after = forward_since if ready_since is None or has_some else max(forward_since, ready_since)
        if not facts.fresh(revision, after):
            builder.wait(Reason.FRESH_LOOK, revision)
            builder.look = True
            return False
    if not facts.known_unheld(revision):
        builder.wait(Reason.HOLD_STATE_UNKNOWN, revision)
        builder.look = True
        return False
    return True


def next_write(facts: Facts, state: State, routing: Routing, builder: PlanBuilder) -> Routing | None:
    """The routing to write now on the way to `routing`; None if it is reached or the route has to settle first."""
    route, live = facts.route, facts.live_routing
    if route is None or live is None:
        return routing
    if routing is live:
        return None  # deliberately unchanged: see `may_be_held`
    now = _without_what_has_to_settle(facts, state, routing, live)
    if now != live or route.drifted:
        return now
    if now != routing or not facts.settled:
        _wait_for_gateway(facts, builder)
    return None


def _without_what_has_to_settle(facts: Facts, state: State, routing: Routing, live: Routing) -> Routing:
    """`routing` without the growth that must wait; shrinking must not wait. The stable gets the rest."""
    base = routing.weights[0][0]
    weights = routing.weights
    growing = _growing(facts, state, routing, live)
    if growing is not None and not _is_known(facts, live, growing):
        kept = live.weight(growing)
        shares = {base: 100 - kept, growing: kept}
        weights = tuple((revision, shares.get(revision, weight)) for revision, weight in weights)
    has_all = weights[0][1] == 100  # needs no rule yet
    rules = tuple(
        rule
        for rule in routing.rules
        if rule in live.rules
        or (rule.revision == base and not has_all)
        or (rule.revision != base and _is_known(facts, live, rule.revision))
    )
    return Routing(weights, rules)


def _is_known(facts: Facts, live: Routing, revision: Revision) -> bool:
    """Whether the data plane knows its endpoints."""
    return facts.settled and live.lists(revision)


def _growing(facts: Facts, state: State, routing: Routing, live: Routing) -> Revision | None:
    """The revision whose share would grow in a planned move.

    None if it grows because nothing else can serve: waiting would only prolong the outage.
    """
    moving = next((revision for revision, share in routing.weights[1:] if share > live.weight(revision)), None)
    if state.target is not None and facts.ready(routing.weights[0][0]) == 0:
        return None
    return moving


def _wait_for_gateway(facts: Facts, builder: PlanBuilder) -> None:
    if facts.settles_at is None:
        builder.wait(Reason.ROUTE_NOT_ACCEPTED)
    else:
        builder.wait(Reason.SETTLING, until=facts.settles_at)


def wanted_service(facts: Facts, state: State, routing: Routing) -> Revision:
    """What the plain Service should select: with a gateway the stable, without one the revision with all traffic."""
    weights = routing.weights
    if not facts.policy.gateway:
        return next((revision for revision, weight in weights if weight == 100), BLOCKED)
    base = serving_base(facts, state)
    if base is not None and any(revision == base for revision, _ in weights):
        return base
    return weights[0][0]
