"""The planner: what is observed in, what to do out.

Read it top down; each line of `plan` is one decision, and each decision is a function of the facts and the state so
far. Pure: no clock, no I/O, no randomness, no memory. What is intended is in `Plan.state`, which is written before
anything acts on it; the actions follow from that state and from what is observed, so that after a crash between any
two writes the next pass comes to the same actions.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from modelsync.api.hold import WORDING
from modelsync.api.reasons import Reason
from modelsync.api.routing import Routing
from modelsync.rollout import capacity, failing, moves, promotion, requests, steps, traffic
from modelsync.rollout.facts import FLAP_GRACE, Facts
from modelsync.rollout.goal import goal
from modelsync.rollout.holds import latched
from modelsync.rollout.model import Action, Hold, Observed, Plan, PointService, RemoveRoute, SetRoute, State
from modelsync.rollout.plan_builder import PlanBuilder

POD_CHECK = timedelta(seconds=1)
"""How soon to look again at pods that a hold ends, should their last event get lost."""


def plan(observed: Observed) -> Plan:
    """Decide what to do now. Total: every `Observed` has a plan, and a world that is as wanted has an empty one."""
    builder = PlanBuilder()
    holds = latched(observed)
    facts = Facts(observed, holds)

    state = _told_of_holds(facts, observed.state, holds, builder)
    state = promotion.expire_previous(facts, state)
    state = failing.forget_failures(facts, state)
    state = failing.judge(facts, state, builder)
    state = requests.answer(facts, state, builder)
    before = state.promoted
    state = moves.pursue(facts, state, goal(facts, state), builder)
    if state.promoted != before:
        # Another stable may mean another goal. It is pursued in this pass, or pods that it needs would be taken down.
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


def _told_of_holds(facts: Facts, state: State, holds: tuple[Hold, ...], builder: PlanBuilder) -> State:
    if holds == state.holds:
        return state
    before, now = {hold.mark for hold in state.holds}, {hold.mark for hold in holds}
    for hold in holds:
        if hold.mark not in before:
            mark = hold.mark
            told = f"{mark.collection}:{mark.version} must not serve: {WORDING[mark.via].owner} {mark.name!r}"
            builder.warning(Reason.REGULATORY_HOLD, "Hold", told)
    for hold in state.holds:
        if hold.mark not in now:
            told = f"the hold on {hold.mark.collection}:{hold.mark.version} is lifted ({hold.mark.name!r} is gone)"
            builder.normal(Reason.HOLD_LIFTED, "Hold", told)
    return replace(state, holds=holds)


def _actions(facts: Facts, state: State, builder: PlanBuilder) -> tuple[tuple[Action, ...], bool]:
    """One kind of side effect in a pass, in the order in which each makes the next safe. A hold does all it needs at
    once, exposure first (DESIGN §4)."""
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
    if cut or _held_is_exposed(facts):
        return (*route, *service, *cut, *more), True
    return route or service or more, False


def _held_is_exposed(facts: Facts) -> bool:
    return bool(facts.held_digests) and any(
        facts.exposed(revision) and facts.held(revision) for revision in facts.views
    )


def _route(facts: Facts, state: State, routing: Routing, builder: PlanBuilder) -> tuple[Action, ...]:
    if not facts.policy.gateway:
        return (RemoveRoute(),) if facts.observed.route is not None else ()
    if facts.route is None and (_nothing_is_meant(facts, state) or _forbidden(facts)):
        return ()
    # A route that may not be written any more (a conflict, say) is still taken from a held revision.
    if _forbidden(facts) and not _held_is_exposed(facts):
        return ()
    write = traffic.next_write(facts, state, routing, builder)
    return (SetRoute(write.weights, _why(facts, state), write.rules),) if write is not None else ()


def _service(facts: Facts, state: State, routing: Routing) -> tuple[Action, ...]:
    if facts.observed.service is None and _nothing_is_meant(facts, state):
        return ()
    selected = traffic.wanted_service(facts, state, routing)
    return (PointService(selected),) if selected != facts.observed.service else ()


def _nothing_is_meant(facts: Facts, state: State) -> bool:
    """Before the first answer of the registry there is nothing to route to, and nothing to block."""
    return not state.promoted and state.target is None and not facts.held_digests


def _forbidden(facts: Facts) -> bool:
    return any(problem.blocks_route for problem in facts.observed.problems)


def _why(facts: Facts, state: State) -> str:
    """One line for the route's annotation and the log."""
    if facts.idle:
        return "spec.replicas is 0"
    if state.stable is not None and facts.held(state.stable):
        return f"a hold is on {state.stable}"
    if state.target is not None:
        return f"{state.target.reason} to {state.target.revision}"
    if state.canary is not None:
        segment = " and its segment" if steps.segment(state.canary) else ""
        return f"canary {state.canary.revision} at {state.canary.weight} %{segment}"
    return f"{state.stable} is the stable"


def _requeue_after(facts: Facts, state: State, builder: PlanBuilder, *, urgent: bool) -> timedelta | None:
    """When time alone can change the plan."""
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
    delays = [moment - facts.now for moment in moments if moment > facts.now]
    if urgent:
        delays.append(POD_CHECK)
    return min(delays, default=None)


def _deadlines(facts: Facts, state: State) -> list[datetime]:
    """When what moves fails, or calls for a person."""
    moving = state.canary or state.target
    if moving is None:
        return []
    ends = (failing.deadline(facts, state, moving.revision, moving.started_at), facts.patience_ends(moving.revision))
    return [moment for moment in ends if moment is not None]
