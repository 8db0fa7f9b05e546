"""The invariants of DESIGN §5, each a named function, asserted on every transition of the model check, in every golden
scenario, and by name in the e2e tests.

`check_actions` judges what a plan is about to write, against the world that it was made from; `check_world` judges the
world between passes. Each raises `ViolatedError` with the name of the invariant.
"""

from collections.abc import Mapping

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
    """An invariant does not hold. `name` is the invariant's."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name}: {what}")
        self.name = name


def held(observed: Observed, state: State, revision: str) -> bool:
    """A latched hold covers the revision."""
    view = observed.revisions.get(revision)
    if view is None:
        return False
    digests = {hold.mark.digest for hold in state.holds}
    return any(digest in digests for digest in view.digests)


def live_weights(observed: Observed) -> Mapping[str, int]:
    """Shares as clients see them: of the route, or of the plain Service where no gateway is asked for."""
    if observed.policy.gateway:
        return dict(observed.route.weights) if observed.route is not None else {}
    return {observed.service: 100} if observed.service is not None else {}


def grows(observed: Observed, write: SetRoute) -> list[str]:
    """The revisions that a route write exposes more than they are: by share, or by a rule that was not there."""
    before = live_weights(observed)
    rules = observed.route.rules if observed.route is not None else ()
    grown = [name for name, weight in write.weights if weight > before.get(name, 0)]
    return [*grown, *(rule.revision for rule in write.rules if rule not in rules)]


def exposure_of_a_held_revision_never_grows(observed: Observed, plan: Plan) -> None:
    """No weight, rule, Service or pod for a revision that a latched hold covers."""
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
    """The plan that sees a hold takes the revision out of the route and the Service and cuts its pods."""
    weights = dict(observed.route.weights) if observed.route is not None else {}
    rules = observed.route.rules if observed.route is not None else ()
    service, cut = observed.service, set()
    for action in plan.actions:
        match action:
            case SetRoute(new, _, new_rules):
                weights, rules = dict(new), new_rules
            case RemoveRoute():
                weights, rules = {}, ()
            case PointService(name):
                service = name
            case CutOff(name):
                cut.add(name)
            case _:
                pass
    for name, view in observed.revisions.items():
        if not held(observed, plan.state, name):
            continue
        still = (
            weights.get(name, 0) > 0
            or any(rule.revision == name for rule in rules)
            or service == name
            or ((view.replicas or (view.pods and not view.cut)) and name not in cut)
        )
        if still:
            raise ViolatedError("exposure_of_a_held_revision_ends_at_once", f"{name} stays: {plan.actions}")
        if not plan.urgent and (cut & {name}):
            raise ViolatedError("exposure_of_a_held_revision_ends_at_once", "a refused status write would stop it")


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
    """A segment, the test header or a session leads to no revision without a ready pod, once the plan is done; a route
    that may not be written is all that may keep one."""
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
    """A planned move grows, by share or rule, only in a route that is accepted and settled and lists its backend
    already; where the
    stable serves nothing, waiting would only lengthen the outage."""
    route = observed.route
    stable = plan.state.stable
    view = observed.revisions.get(stable) if stable is not None else None
    alone = view is None or view.ready == 0 or held(observed, plan.state, view.revision)
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
    """A revision that is in the live route, or that the plain Service selects, keeps its pods (but for a hold)."""
    named = {name for name, _ in observed.route.weights} if observed.route is not None else set()
    ruled = {rule.revision for rule in observed.route.rules} if observed.route is not None else set()
    named |= ruled
    weights = live_weights(observed)
    for action in plan.actions:
        if isinstance(action, Remove) and (action.revision in named or action.revision == observed.service):
            raise ViolatedError("nothing_exposed_is_deleted", f"{action.revision} is deleted while it is routed to")
        if isinstance(action, Scale) and action.revision != plan.state.stable:
            carried = weights.get(action.revision, 0)
            needed = max(-(-carried * observed.policy.replicas // 100), int(action.revision in ruled))
            if action.replicas < needed:
                raise ViolatedError("nothing_exposed_is_deleted", f"{action} leaves too few pods for {carried} %")
        if isinstance(action, CutOff) and not held(observed, plan.state, action.revision):
            raise ViolatedError("nothing_exposed_is_deleted", f"{action.revision} is cut off without a hold")


def pods_go_only_when_the_data_plane_knows(observed: Observed, plan: Plan) -> None:
    """What lost its traffic keeps its pods until the route without it is accepted and settled (but for a hold)."""
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
    """100 per cent, or exactly the blocked Service, or what somebody else wrote and nobody may judge yet; and no rule
    leads to what is not listed."""
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
    """Only what has all traffic, accepted and settled, enters the stack; and only the pass that sees it does so."""
    for name in plan.state.promoted:
        if name in observed.state.promoted:
            continue
        route = observed.route
        if live_weights(observed).get(name, 0) != 100:
            raise ViolatedError("what_is_promoted_was_fully_promoted", f"{name} had {live_weights(observed)}")
        if observed.policy.gateway and not (route is not None and route.accepted):
            raise ViolatedError("what_is_promoted_was_fully_promoted", f"the route to {name} is not accepted")


def the_service_selects_one_thing(observed: Observed, plan: Plan) -> None:
    """The plain Service selects one revision that exists, or nothing on purpose."""
    for action in plan.actions:
        if isinstance(action, PointService) and action.revision != BLOCKED:
            view = observed.revisions.get(action.revision)
            if view is None or not view.deployed:
                raise ViolatedError("the_service_selects_one_thing", f"{action.revision} does not exist")


def unknown_holds_stop_growth(observed: Observed, plan: Plan) -> None:
    """A revision of which the registry has not content that it is free gets no more traffic; the stable may regain what
    a canary loses."""
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
    """A share that grows beside a stable that serves is at most that of the revision's ready pods: of the pods that the
    spec asks for, or of those that are there."""
    stable = plan.state.stable
    beside = observed.revisions.get(stable) if stable is not None else None
    if beside is None or not beside.deployed or not beside.ready or beside.trouble or not observed.policy.gateway:
        return
    if held(observed, plan.state, beside.revision):
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
    """Whoever asks for fewer replicas: the stable keeps what its live share needs, and loses the last pod only when it
    has no traffic and the data plane knows (but for a hold)."""
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
    """With 0 replicas nothing gets pods, traffic or a move."""
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
        raise ViolatedError("idle_starts_nothing", "something moves")


def suspended_nothing_moves_forward(observed: Observed, plan: Plan) -> None:
    """While suspended no canary and no first version begins, and no canary gets on or is promoted by its steps."""
    if not observed.policy.suspend:
        return
    before, after = observed.state, plan.state
    if after.target is not None and after.target.reason is MoveReason.FIRST and before.target != after.target:
        raise ViolatedError("suspended_nothing_moves_forward", f"{after.target.revision} begins")
    canary, earlier = after.canary, before.canary
    if canary is None:
        if earlier is not None and after.stable == earlier.revision and before.stable != after.stable:
            raise ViolatedError("suspended_nothing_moves_forward", f"{earlier.revision} is promoted")
        return
    if earlier is None or earlier.revision != canary.revision:
        raise ViolatedError("suspended_nothing_moves_forward", f"{canary.revision} begins")
    if canary.steps == earlier.steps and (canary.step, canary.weight) > (earlier.step, earlier.weight):
        raise ViolatedError("suspended_nothing_moves_forward", f"{canary.revision} gets on")


def a_request_acts_once_and_only_when_it_was_made(observed: Observed, plan: Plan) -> None:
    """Only a new abort fails a revision for a person, only a new retry takes a failure back while the alias stays, only
    a new promote skips a pause that has no end; each is echoed in the same write."""
    asked, before, after = observed.requests, observed.state.handled, plan.state.handled

    def acts(kind: str, revision: str) -> bool:
        value = getattr(asked, kind)
        fresh = value is not None and value != getattr(before, kind) and value == getattr(after, kind)
        return fresh and value.partition("/")[0] == revision

    name = "a_request_acts_once_and_only_when_it_was_made"
    for failure in plan.state.failed:
        new = failure not in observed.state.failed
        if new and failure.reason == Reason.ABORTED and not acts("abort", failure.revision):
            raise ViolatedError(name, f"nobody aborted {failure.revision}")
    named = observed.registry.candidate.revision if observed.registry.candidate is not None else None
    failed = {failure.revision for failure in plan.state.failed}
    for failure in observed.state.failed:
        gone = failure.revision == named and failure.revision not in (*failed, *plan.state.promoted)
        if gone and not acts("retry", failure.revision):
            raise ViolatedError(name, f"nobody content to try {failure.revision} again")
    canary, earlier = plan.state.canary, observed.state.canary
    if canary is not None and earlier is not None and canary.revision == earlier.revision and earlier.steps:
        skipped = earlier.steps[earlier.step : canary.step] if canary.steps == earlier.steps else ()
        if Pause() in skipped and not (acts("promote", canary.revision) or acts("promote_full", canary.revision)):
            raise ViolatedError(name, f"nobody ended the pause of {canary.revision}")


def only_what_waits_for_pods_misses_a_deadline(observed: Observed, plan: Plan) -> None:
    """A revision with all its pods ready never fails for want of progress, nor one that has no pods asked for, nor
    any while forward moves are suspended."""
    for failure in plan.state.failed:
        if failure in observed.state.failed or failure.reason != Reason.PROGRESS_DEADLINE_EXCEEDED:
            continue
        view = observed.revisions.get(failure.revision)
        full = view is not None and view.ready >= max(1, observed.policy.replicas)
        if view is None or full or not view.replicas or observed.policy.suspend or not observed.policy.replicas:
            raise ViolatedError("only_what_waits_for_pods_misses_a_deadline", f"{failure.revision}: {view}")


def a_version_that_failed_its_exam_gains_nothing(observed: Observed, plan: Plan) -> None:
    """A canary, or the target of a way back, with a pod that failed the version's own exam has failed, and no share of
    it grows."""
    state = observed.state
    moving = state.canary.revision if state.canary is not None else None
    if state.target is not None and state.target.reason in (MoveReason.ROLLBACK, MoveReason.RECOVERY):
        moving = state.target.revision
    view = observed.revisions.get(moving) if moving is not None else None
    if view is None or view.exam is None or view.exam.outcome is not ExamOutcome.FAILED:
        return
    if all(failure.revision != moving for failure in plan.state.failed):
        raise ViolatedError("a_version_that_failed_its_exam_gains_nothing", f"{moving} goes on")
    before = live_weights(observed)
    for action in plan.actions:
        if isinstance(action, SetRoute) and dict(action.weights).get(view.revision, 0) > before.get(view.revision, 0):
            raise ViolatedError("a_version_that_failed_its_exam_gains_nothing", f"{action}")


ON_ACTIONS = (
    exposure_of_a_held_revision_never_grows,
    exposure_of_a_held_revision_ends_at_once,
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
    """Every invariant on what is about to be written."""
    for invariant in ON_ACTIONS:
        invariant(observed, plan)


def check_world(observed: Observed) -> None:
    """Between passes, when all is written: nothing held is exposed, and the route names nothing that is gone."""
    route = observed.route
    if route is None:
        return
    for name in (*(name for name, _ in route.weights), *(rule.revision for rule in route.rules)):
        view = observed.revisions.get(name)
        if name != BLOCKED and (view is None or not view.deployed):
            raise ViolatedError("nothing_exposed_is_deleted", f"the route names {name}, which is gone")
