"""The invariants (docs/design/README.md, "Invariants"), each a named function.

They are asserted on every transition of the model check, in every golden scenario, and by name in the e2e tests.
`check_actions` checks a plan against the observation that it was made from; `check_world` checks the world between
passes. Both raise `ViolatedError` with the name of the invariant.
"""

from collections.abc import Mapping

from modelsync.api.hold import OnStale
from modelsync.api.reasons import Reason
from modelsync.rollout.model import (
    BLOCKED,
    CutOff,
    EnsureRevision,
    ExamOutcome,
    MoveReason,
    Observed,
    Pause,
    Plan,
    PointService,
    Remove,
    RemoveRoute,
    Scale,
    SetRoute,
    State,
)


class ViolatedError(AssertionError):
    """An invariant is violated. `name` is the name of the invariant."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name}: {what}")
        self.name = name


def held(observed: Observed, state: State, revision: str) -> bool:
    """Whether a latched hold covers the revision, or may cover it because nobody knows what it contains."""
    view = observed.revisions.get(revision)
    if view is None:
        return False
    digests = {hold.mark.digest for hold in state.holds}
    return bool(digests) and (not view.digests or any(digest in digests for digest in view.digests))


def too_old(observed: Observed, revision: str) -> bool:
    """Whether the marks on the revision were last read longer ago than allowed."""
    view = observed.revisions.get(revision)
    if view is None:
        return False
    times = [observed.holds[digest].asked_at for digest in view.digests if digest in observed.holds]
    known_at = min(times) if times and len(times) == len(view.digests) else view.unread_since
    return known_at is not None and known_at + observed.policy.max_staleness <= observed.now


def must_not_serve(observed: Observed, state: State, revision: str) -> bool:
    """Whether it is held, or blocked because a hold on it could not be seen."""
    unseen = observed.policy.on_stale is OnStale.BLOCK and too_old(observed, revision)
    return unseen or held(observed, state, revision)


def live_weights(observed: Observed) -> Mapping[str, int]:
    """Shares as clients see them: of the route or, without a gateway, of the plain Service."""
    if observed.policy.gateway:
        return dict(observed.route.weights) if observed.route is not None else {}
    return {observed.service: 100} if observed.service is not None else {}


def grows(observed: Observed, write: SetRoute) -> list[str]:
    """The revisions whose exposure a route write increases, by a larger share or a new rule."""
    before = live_weights(observed)
    rules = observed.route.rules if observed.route is not None else ()
    grown = [name for name, weight in write.weights if weight > before.get(name, 0)]
    return [*grown, *(rule.revision for rule in write.rules if rule not in rules)]


def exposure_of_a_held_revision_never_grows(observed: Observed, plan: Plan) -> None:
    """A revision that a latched hold covers gets no weight, rule, Service or pod."""
    for action in plan.actions:
        match action:
            case SetRoute():
                grown = grows(observed, action)
            case PointService(name):
                grown = [name] if name != observed.service else []
            case EnsureRevision(name, replicas) | Scale(name, replicas):
                view = observed.revisions.get(name)
                grown = [name] if view is None or replicas > view.replicas else []
            case _:
                grown = []
        for name in grown:
            if name != BLOCKED and held(observed, plan.state, name):
                raise ViolatedError("exposure_of_a_held_revision_never_grows", f"{action}")


def exposure_of_a_held_revision_ends_at_once(observed: Observed, plan: Plan) -> None:
    """The plan that sees a hold removes the revision from the route and the Service, and cuts off its pods."""
    reached = reached_after(observed, plan)
    cut = {action.revision for action in plan.actions if isinstance(action, CutOff)}
    for name, view in observed.revisions.items():
        if not held(observed, plan.state, name):
            continue
        if name in reached or ((view.replicas or (view.pods and not view.cut)) and name not in cut):
            raise ViolatedError("exposure_of_a_held_revision_ends_at_once", f"{name} is still exposed: {plan.actions}")
        if not plan.urgent and (cut & {name}):
            raise ViolatedError(
                "exposure_of_a_held_revision_ends_at_once", "a rejected status write would stop the cut-off"
            )


def a_vanished_record_ends_no_hold(observed: Observed, plan: Plan) -> None:
    """While any hold is latched, clients do not reach a revision that nobody knows the content of, and its pods are cut
    off."""
    reached = reached_after(observed, plan)
    cut = {action.revision for action in plan.actions if isinstance(action, CutOff)}
    for name, view in observed.revisions.items():
        if not plan.state.holds or view.digests:
            continue
        if name in reached or ((view.replicas or (view.pods and not view.cut)) and name not in cut):
            raise ViolatedError("a_vanished_record_ends_no_hold", f"{name} is still exposed: {plan.actions}")


def what_may_be_held_unseen_is_blocked(observed: Observed, plan: Plan) -> None:
    """With `hold.onStale: Block`, clients do not reach a revision whose marks were last read too long ago."""
    for name in reached_after(observed, plan):
        if observed.policy.on_stale is OnStale.BLOCK and too_old(observed, name):
            raise ViolatedError("what_may_be_held_unseen_is_blocked", f"{name} is still exposed: {plan.actions}")


def nothing_moves_forward_unseen(observed: Observed, plan: Plan) -> None:
    """No canary or first version starts, and no canary advances or is promoted, on marks that were last read too long
    ago."""
    before, after = observed.state, plan.state
    earlier, canary, target = before.canary, after.canary, after.target
    started = {after.stable} if earlier is not None and after.stable == earlier.revision != before.stable else set()
    if target is not None and target.reason is MoveReason.FIRST and before.target is None and earlier is None:
        started.add(target.revision)
    if canary is not None:
        same = earlier is not None and earlier.revision == canary.revision and earlier.steps == canary.steps
        if earlier is None or not same or (canary.step, canary.weight) > (earlier.step, earlier.weight):
            started.add(canary.revision)
    for name in started:
        if name is not None and too_old(observed, name):
            raise ViolatedError("nothing_moves_forward_unseen", f"{name} moves: {after}")


def reached_after(observed: Observed, plan: Plan) -> set[str]:
    """The revisions that clients can reach, by weight, rule or plain Service, once the plan's writes are done."""
    weights = dict(observed.route.weights) if observed.route is not None else {}
    rules = observed.route.rules if observed.route is not None else ()
    service = observed.service
    for action in plan.actions:
        match action:
            case SetRoute(new, _, new_rules):
                weights, rules = dict(new), new_rules
            case RemoveRoute():
                weights, rules = {}, ()
            case PointService(name):
                service = name
            case _:
                pass
    reached = {name for name, weight in weights.items() if weight > 0} | {rule.revision for rule in rules}
    return (reached | ({service} if service is not None else set())) - {BLOCKED}


def no_new_weight_without_ready_pods(observed: Observed, plan: Plan) -> None:
    """A canary or the target of a move gets no more weight than its ready pods can carry."""
    before = live_weights(observed)
    for action in plan.actions:
        if not isinstance(action, SetRoute):
            continue
        for name, weight in action.weights:
            if name in (BLOCKED, plan.state.stable) or weight <= before.get(name, 0):
                continue
            view = observed.revisions.get(name)
            if view is None or not view.deployed or view.ready == 0:
                raise ViolatedError("no_new_weight_without_ready_pods", f"{name} gets {weight} without a ready pod")


def no_rule_without_ready_pods(observed: Observed, plan: Plan) -> None:
    """After the plan, no segment, test-header or session rule leads to a revision without a ready pod, unless the route
    must not be written."""
    rules = observed.route.rules if observed.route is not None and observed.policy.gateway else ()
    for action in plan.actions:
        match action:
            case SetRoute():
                rules = action.rules
            case RemoveRoute():
                rules = ()
    if any(problem.blocks_route for problem in observed.problems):
        return
    for rule in rules:
        view = observed.revisions.get(rule.revision)
        if view is None or not view.deployed or view.ready == 0:
            raise ViolatedError("no_rule_without_ready_pods", f"{rule} leads to no ready pod")


def a_share_grows_only_in_a_settled_route(observed: Observed, plan: Plan) -> None:
    """A planned move gets a larger share or a rule only in a route that is accepted, settled, and lists its backend.

    Not checked if the stable has no ready pod or must not serve: waiting would only prolong the outage.
    """
    route = observed.route
    stable = plan.state.stable
    view = observed.revisions.get(stable) if stable is not None else None
    alone = view is None or view.ready == 0 or must_not_serve(observed, plan.state, view.revision)
    if route is None or alone:
        return
    settled = (
        route.accepted is True
        and route.accepted_since is not None
        and route.accepted_since + observed.policy.settle <= observed.now
    )
    for action in plan.actions:
        if not isinstance(action, SetRoute):
            continue
        for name in grows(observed, action):
            if name not in (BLOCKED, stable) and not (settled and route.routing.lists(name)):
                raise ViolatedError("a_share_grows_only_in_a_settled_route", f"{name}: {action}")


def nothing_exposed_is_deleted(observed: Observed, plan: Plan) -> None:
    """A revision that is in the live route, or that the plain Service selects, keeps its pods (except for a hold)."""
    named = {name for name, _ in observed.route.weights} if observed.route is not None else set()
    ruled = {rule.revision for rule in observed.route.rules} if observed.route is not None else set()
    named |= ruled
    weights = live_weights(observed)
    for action in plan.actions:
        if isinstance(action, Remove) and (action.revision in named or action.revision == observed.service):
            raise ViolatedError(
                "nothing_exposed_is_deleted", f"{action.revision} is deleted while it is still routed to"
            )
        if isinstance(action, Scale) and action.revision != plan.state.stable:
            carried = weights.get(action.revision, 0)
            needed = max(-(-carried * observed.policy.replicas // 100), int(action.revision in ruled))
            if action.replicas < needed:
                raise ViolatedError("nothing_exposed_is_deleted", f"{action} leaves too few pods for {carried} %")
        if isinstance(action, CutOff) and not held(observed, plan.state, action.revision):
            raise ViolatedError("nothing_exposed_is_deleted", f"{action.revision} is cut off without a hold")


def pods_go_only_when_the_data_plane_knows(observed: Observed, plan: Plan) -> None:
    """A revision that lost its traffic keeps its pods until that route is accepted and settled (except for a hold)."""
    route = observed.route
    if route is None or not observed.policy.gateway:
        return
    settled = route.accepted_since is not None and route.accepted_since + observed.policy.settle <= observed.now
    for action in plan.actions:
        match action:
            case Remove(name, forget):
                ends = not forget
            case Scale(name, replicas):
                view = observed.revisions.get(name)
                ends = name != plan.state.stable and view is not None and replicas < view.replicas
            case _:
                continue
        if ends and not settled:
            raise ViolatedError("pods_go_only_when_the_data_plane_knows", f"{name} loses pods: {action}")


def weights_add_up_or_the_route_is_blocked(observed: Observed, plan: Plan) -> None:
    """Weights add up to 100, or are exactly the blocked Service, or are the unchanged weights of a foreign edit.

    No rule leads to a revision that is not listed.
    """
    for action in plan.actions:
        if not isinstance(action, SetRoute):
            continue
        names = [name for name, _ in action.weights]
        whole = sum(weight for _, weight in action.weights) == 100 and BLOCKED not in names
        blocked = action.weights == ((BLOCKED, 1),) and not action.rules
        listed = all(rule.revision in names for rule in action.rules)
        if observed.route is not None and action.weights == observed.route.weights and listed:
            continue
        if not (whole or blocked) or len(set(names)) != len(names) or not listed:
            raise ViolatedError("weights_add_up_or_the_route_is_blocked", f"{action.routing}")


def what_is_promoted_was_fully_promoted(observed: Observed, plan: Plan) -> None:
    """Only a revision that has all traffic, in an accepted route, is added to the stack."""
    for name in plan.state.promoted:
        if name in observed.state.promoted:
            continue
        route = observed.route
        if live_weights(observed).get(name, 0) != 100:
            raise ViolatedError("what_is_promoted_was_fully_promoted", f"{name} had {live_weights(observed)}")
        if observed.policy.gateway and not (route is not None and route.accepted):
            raise ViolatedError("what_is_promoted_was_fully_promoted", f"the route to {name} is not accepted")


def the_service_selects_one_thing(observed: Observed, plan: Plan) -> None:
    """The plain Service selects one existing revision, or deliberately nothing."""
    for action in plan.actions:
        if isinstance(action, PointService) and action.revision != BLOCKED:
            view = observed.revisions.get(action.revision)
            if view is None or not view.deployed:
                raise ViolatedError("the_service_selects_one_thing", f"{action.revision} does not exist")


def unknown_holds_stop_growth(observed: Observed, plan: Plan) -> None:
    """A revision gets no more traffic unless the registry has answered for its holds. The stable may regain what a
    canary loses."""
    for action in plan.actions:
        match action:
            case SetRoute():
                grown = grows(observed, action)
            case PointService(name) if not observed.policy.gateway:
                grown = [name]
            case _:
                grown = []
        for name in grown:
            if name in (BLOCKED, plan.state.stable):
                continue
            view = observed.revisions.get(name)
            if view is None or any(digest not in observed.holds for digest in view.digests):
                raise ViolatedError("unknown_holds_stop_growth", f"{action}")


def no_share_beyond_what_ready_pods_carry(observed: Observed, plan: Plan) -> None:
    """Beside a serving stable, a growing share is at most what the revision's ready pods can carry.

    Measured against the pods that the spec asks for, or against all ready pods.
    """
    stable = plan.state.stable
    beside = observed.revisions.get(stable) if stable is not None else None
    if beside is None or not beside.deployed or not beside.ready or beside.trouble or not observed.policy.gateway:
        return
    if must_not_serve(observed, plan.state, beside.revision):
        return
    before, total = live_weights(observed), observed.policy.replicas
    for action in plan.actions:
        for name, weight in action.weights if isinstance(action, SetRoute) else ():
            view = observed.revisions.get(name)
            if name in (BLOCKED, stable) or view is None or weight <= before.get(name, 0):
                continue
            enough = view.ready >= max(1, -(-weight * total // 100))
            if not enough and weight > 100 * view.ready // max(1, min(total, view.ready + beside.ready)):
                raise ViolatedError("no_share_beyond_what_ready_pods_carry", f"{view.ready} pods get {weight} %")


def the_stable_keeps_the_pods_of_its_share(observed: Observed, plan: Plan) -> None:
    """When scaled down, the stable keeps the pods that its live share needs, and loses its last pod only when it has no
    traffic in a settled route (except for a hold)."""
    stable, route = plan.state.stable, observed.route
    for action in plan.actions:
        if not isinstance(action, Scale) or action.revision != stable:
            continue
        view = observed.revisions[stable]
        if action.replicas >= view.replicas or held(observed, plan.state, stable):
            continue
        exposed = live_weights(observed).get(stable, 0) or observed.service == stable
        unsettled = route is not None and not (
            route.accepted_since is not None and route.accepted_since + observed.policy.settle <= observed.now
        )
        if action.replicas < -(-live_weights(observed).get(stable, 0) * observed.policy.replicas // 100) or (
            action.replicas == 0 and (exposed or unsettled)
        ):
            raise ViolatedError("the_stable_keeps_the_pods_of_its_share", f"{action} with {observed.route}")


def idle_starts_nothing(observed: Observed, plan: Plan) -> None:
    """With 0 replicas, no revision gets pods or traffic, and no move starts."""
    if observed.policy.replicas:
        return
    before = live_weights(observed)
    for action in plan.actions:
        match action:
            case EnsureRevision(name, replicas) | Scale(name, replicas):
                view = observed.revisions.get(name)
                grows = replicas > (view.replicas if view is not None else 0)
            case SetRoute(weights, _):
                grows = any(weight > before.get(name, 0) for name, weight in weights if name != BLOCKED)
            case PointService(name):
                grows = name != BLOCKED
            case _:
                grows = False
        if grows:
            raise ViolatedError("idle_starts_nothing", f"{action}")
    if plan.state.canary is not None or plan.state.target is not None:
        raise ViolatedError("idle_starts_nothing", "a move is in progress")


def suspended_nothing_moves_forward(observed: Observed, plan: Plan) -> None:
    """While suspended, no canary and no first version starts, and no canary advances or is promoted."""
    if not observed.policy.suspend:
        return
    before, after = observed.state, plan.state
    if after.target is not None and after.target.reason is MoveReason.FIRST and before.target != after.target:
        raise ViolatedError("suspended_nothing_moves_forward", f"{after.target.revision} starts")
    canary, earlier = after.canary, before.canary
    if canary is None:
        if earlier is not None and after.stable == earlier.revision and before.stable != after.stable:
            raise ViolatedError("suspended_nothing_moves_forward", f"{earlier.revision} is promoted")
        return
    if earlier is None or earlier.revision != canary.revision:
        raise ViolatedError("suspended_nothing_moves_forward", f"{canary.revision} starts")
    if canary.steps == earlier.steps and (canary.step, canary.weight) > (earlier.step, earlier.weight):
        raise ViolatedError("suspended_nothing_moves_forward", f"{canary.revision} advances")


def a_request_acts_once_and_only_when_it_was_made(observed: Observed, plan: Plan) -> None:
    """Only a new abort fails a revision as `Aborted`, only a new retry clears a failure while the alias stays, and only
    a new promote skips a pause without a duration. Each is echoed in the same write."""
    asked, before, after = observed.requests, observed.state.handled, plan.state.handled

    def acts(kind: str, revision: str) -> bool:
        value = getattr(asked, kind)
        fresh = value is not None and value != getattr(before, kind) and value == getattr(after, kind)
        return fresh and value.partition("/")[0] == revision

    name = "a_request_acts_once_and_only_when_it_was_made"
    for failure in plan.state.failed:
        new = failure not in observed.state.failed
        if new and failure.reason == Reason.ABORTED and not acts("abort", failure.revision):
            raise ViolatedError(name, f"no request aborted {failure.revision}")
    named = observed.registry.candidate.revision if observed.registry.candidate is not None else None
    failed = {failure.revision for failure in plan.state.failed}
    for failure in observed.state.failed:
        gone = failure.revision == named and failure.revision not in (*failed, *plan.state.promoted)
        if gone and not acts("retry", failure.revision):
            raise ViolatedError(name, f"no request retried {failure.revision}")
    canary, earlier = plan.state.canary, observed.state.canary
    if canary is not None and earlier is not None and canary.revision == earlier.revision and earlier.steps:
        skipped = earlier.steps[earlier.step : canary.step] if canary.steps == earlier.steps else ()
        if Pause() in skipped and not (acts("promote", canary.revision) or acts("promote_full", canary.revision)):
            raise ViolatedError(name, f"no request ended the pause of {canary.revision}")


def only_what_waits_for_pods_misses_a_deadline(observed: Observed, plan: Plan) -> None:
    """A revision does not miss its deadline if all its pods are ready, if no pods are requested for it, or while
    suspended."""
    for failure in plan.state.failed:
        if failure in observed.state.failed or failure.reason != Reason.PROGRESS_DEADLINE_EXCEEDED:
            continue
        view = observed.revisions.get(failure.revision)
        full = view is not None and view.ready >= max(1, observed.policy.replicas)
        if view is None or full or not view.replicas or observed.policy.suspend or not observed.policy.replicas:
            raise ViolatedError("only_what_waits_for_pods_misses_a_deadline", f"{failure.revision}: {view}")


def a_version_that_failed_its_exam_gains_nothing(observed: Observed, plan: Plan) -> None:
    """A canary or rollback target with a pod that failed its exam has failed, and its share does not grow."""
    state = observed.state
    moving = state.canary.revision if state.canary is not None else None
    if state.target is not None and state.target.reason in (MoveReason.ROLLBACK, MoveReason.RECOVERY):
        moving = state.target.revision
    view = observed.revisions.get(moving) if moving is not None else None
    if view is None or view.exam is None or view.exam.outcome is not ExamOutcome.FAILED:
        return
    if all(failure.revision != moving for failure in plan.state.failed):
        raise ViolatedError("a_version_that_failed_its_exam_gains_nothing", f"{moving} has not failed")
    before = live_weights(observed)
    for action in plan.actions:
        if isinstance(action, SetRoute) and dict(action.weights).get(view.revision, 0) > before.get(view.revision, 0):
            raise ViolatedError("a_version_that_failed_its_exam_gains_nothing", f"{action}")


ON_ACTIONS = (
    exposure_of_a_held_revision_never_grows,
    a_vanished_record_ends_no_hold,
    exposure_of_a_held_revision_ends_at_once,
    what_may_be_held_unseen_is_blocked,
    nothing_moves_forward_unseen,
    no_new_weight_without_ready_pods,
    no_rule_without_ready_pods,
    a_share_grows_only_in_a_settled_route,
    nothing_exposed_is_deleted,
    pods_go_only_when_the_data_plane_knows,
    weights_add_up_or_the_route_is_blocked,
    what_is_promoted_was_fully_promoted,
    the_service_selects_one_thing,
    unknown_holds_stop_growth,
    no_share_beyond_what_ready_pods_carry,
    the_stable_keeps_the_pods_of_its_share,
    idle_starts_nothing,
    suspended_nothing_moves_forward,
    a_request_acts_once_and_only_when_it_was_made,
    only_what_waits_for_pods_misses_a_deadline,
    a_version_that_failed_its_exam_gains_nothing,
)


def check_actions(observed: Observed, plan: Plan) -> None:
    """Check every invariant on the planned writes."""
    for invariant in ON_ACTIONS:
        invariant(observed, plan)


def check_world(observed: Observed) -> None:
    """Check the world between passes: the route names no revision that does not exist."""
    route = observed.route
    if route is None:
        return
    for name in (*(name for name, _ in route.weights), *(rule.revision for rule in route.rules)):
        view = observed.revisions.get(name)
        if name != BLOCKED and (view is None or not view.deployed):
            raise ViolatedError("nothing_exposed_is_deleted", f"the route names {name}, which does not exist")
