"""The planner: turns an observation into a plan.

Each line of `plan` is one decision, a function of the facts and the state so far. It must stay pure: no clock, no I/O,
no randomness, no memory. The intent is in `Plan.state`, which is written before anything acts on it. The actions follow
from that state and the observation, so after a crash between any two writes the next pass plans the same actions.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from modelsync.api.reasons import Reason
from modelsync.api.routing import Routing
from modelsync.rollout import capacity, failing, moves, promotion, requests, steps, traffic
from modelsync.rollout.facts import FLAP_GRACE, Facts
from modelsync.rollout.goal import goal
from modelsync.rollout.holds import latched
from modelsync.rollout.model import Action, Hold, Observed, Plan, PointService, RemoveRoute, SetRoute, State
from modelsync.rollout.plan_builder import PlanBuilder

POD_CHECK = timedelta(seconds=1)
"""How soon to plan again while a hold terminates pods, in case their last watch event is lost."""


def plan(observed: Observed) -> Plan:
    """Decide what to do now. Never raises; if everything is as wanted, the plan has no actions."""
    builder = PlanBuilder()
    holds = latched(observed)
    facts = Facts(observed, holds)

    state = _record_hold_changes(facts, observed.state, holds, builder)
    state = promotion.expire_previous(facts, state)
    state = failing.forget_failures(facts, state)
    state = failing.judge(facts, state, builder)
    state = requests.answer(facts, state, builder)
    before = state.promoted
    state = moves.pursue(facts, state, goal(facts, state), builder)
    if state.promoted != before:
        # A new stable can mean a new goal. Pursue it in this pass, or pods that it needs would be removed.
        facts = Facts(replace(observed, state=state), holds)
        state = moves.pursue(facts, state, goal(facts, state), builder)

    actions, urgent = _actions(facts, state, builder)
    return Plan(
        state=state,
        actions=actions,
        events=tuple(builder.events),
        requeue_after=_requeue_after(facts, state, builder, urgent=urgent),
        look=builder.look,
        urgent=urgent,
        waits=tuple(builder.waits),
        finished=tuple(builder.finished),
    )


def _record_hold_changes(facts: Facts, state: State, holds: tuple[Hold, ...], builder: PlanBuilder) -> State:
    if holds == state.holds:
        return state
    before, now = {hold.mark for hold in state.holds}, {hold.mark for hold in holds}
    for hold in holds:
        if hold.mark not in before:
            builder.warning(Reason.REGULATORY_HOLD, "Hold", hold.mark.effect)
    for hold in state.holds:
        if hold.mark not in now:
            note = f"hold on {hold.mark.collection}:{hold.mark.version} lifted ({hold.mark.name!r} was removed)"
            builder.normal(Reason.HOLD_LIFTED, "Hold", note)
    return replace(state, holds=holds)


def _actions(facts: Facts, state: State, builder: PlanBuilder) -> tuple[tuple[Action, ...], bool]:
    """The actions of this pass, and whether they are urgent.

    One kind of side effect per pass, in an order in which each makes the next one safe. A hold takes all its actions at
    once, starting with those that end exposure (docs/design/README.md, "Holds").
    """
    routing = traffic.wanted(facts, state, builder)
    replicas = capacity.wanted_replicas(facts, state)
    cut = capacity.cut_off(facts)
    route = _route(facts, state, routing, builder)
    service = _service(facts, state, routing)
    more = (
        capacity.bring_up(facts, replicas)
        or capacity.take_down(facts, state, replicas)
        or capacity.forget(facts, state, replicas)
    )
    if cut or _is_exposed_against_a_rule(facts):
        return (*route, *service, *cut, *more), True
    return route or service or more, False


def _is_exposed_against_a_rule(facts: Facts) -> bool:
    return any(facts.exposed(revision) and facts.must_not_serve(revision) for revision in facts.views)


def _route(facts: Facts, state: State, routing: Routing, builder: PlanBuilder) -> tuple[Action, ...]:
    if not facts.policy.gateway:
        return (RemoveRoute(),) if facts.observed.route is not None else ()
    if facts.route is None and (_nothing_is_meant(facts, state) or _forbidden(facts)):
        return ()
    # Even if the route must not be written (for example because of a conflict), what must not serve is removed from it.
    if _forbidden(facts) and not _is_exposed_against_a_rule(facts):
        return ()
    write = traffic.next_write(facts, state, routing, builder)
    return (SetRoute(write.weights, _why(facts, state), write.rules),) if write is not None else ()


def _service(facts: Facts, state: State, routing: Routing) -> tuple[Action, ...]:
    if facts.observed.service is None and _nothing_is_meant(facts, state):
        return ()
    selected = traffic.wanted_service(facts, state, routing)
    return (PointService(selected),) if selected != facts.observed.service else ()


def _nothing_is_meant(facts: Facts, state: State) -> bool:
    """Whether there is nothing to route to and nothing to block: no registry answer yet."""
    return not state.promoted and state.target is None and not facts.held_digests


def _forbidden(facts: Facts) -> bool:
    return any(problem.blocks_route for problem in facts.observed.problems)


def _why(facts: Facts, state: State) -> str:
    """Why the route is as it is, for its annotation and the log."""
    if facts.idle:
        return "spec.replicas is 0"
    if state.stable is not None and facts.held(state.stable):
        return f"{state.stable} is on hold"
    if state.stable is not None and facts.barred(state.stable):
        return f"the hold marks of {state.stable} are not known"
    if state.target is not None:
        return f"{state.target.reason} to {state.target.revision}"
    if state.canary is not None:
        segment = " and its segment" if steps.segment(state.canary) else ""
        return f"canary {state.canary.revision} at {state.canary.weight} %{segment}"
    return f"{state.stable} is the stable revision"


def _requeue_after(facts: Facts, state: State, builder: PlanBuilder, *, urgent: bool) -> timedelta | None:
    """When the plan can change merely because time passes."""
    moments = [wait.until for wait in builder.waits if wait.until is not None]
    if facts.settles_at is not None:
        moments.append(facts.settles_at)
    if facts.refusal_counts_at is not None:
        moments.append(facts.refusal_counts_at)
    if state.previous is not None:
        moments.append(state.previous.until)
    if state.stable is not None and (state.canary is not None or state.target is not None):
        unready = facts.view(state.stable).unready_since
        if unready is not None:
            moments.append(unready + FLAP_GRACE)
    moments.extend(_deadlines(facts, state))
    moments.extend(moment for revision in facts.in_use if (moment := facts.stale_at(revision)) is not None)
    delays = [moment - facts.now for moment in moments if moment > facts.now]
    if urgent:
        delays.append(POD_CHECK)
    return min(delays, default=None)


def _deadlines(facts: Facts, state: State) -> list[datetime]:
    """When the current move fails or becomes Stalled."""
    moving = state.canary or state.target
    if moving is None:
        return []
    ends = (failing.deadline(facts, state, moving.revision, moving.started_at), facts.patience_ends(moving.revision))
    return [moment for moment in ends if moment is not None]
