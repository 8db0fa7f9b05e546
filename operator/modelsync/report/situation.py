"""Summarizes the state of a ModelDeployment as phase, Ready, message, and whether a user must act.

An ordered list of rules, first match wins, most urgent for the on-call engineer first (docs/design/README.md,
"Status"). For reporting only: the planner must never decide by it.
"""

from dataclasses import dataclass, replace

from modelsync.api import duration
from modelsync.api.conditions import Truth
from modelsync.api.reasons import Reason
from modelsync.api.settings import same_server
from modelsync.api.status import HistoryEntry, Phase
from modelsync.report.history import displaced_by_hold
from modelsync.rollout.facts import CRASHES_LOADING, Facts
from modelsync.rollout.failing import deadline, exam_reason
from modelsync.rollout.goal import Way, goal
from modelsync.rollout.model import (
    BLOCKED,
    Action,
    Failure,
    Hold,
    MoveReason,
    Pause,
    PointService,
    RegistryOutcome,
    Revision,
    SetRoute,
    State,
    Trouble,
    TroubleKind,
    Wait,
)
from modelsync.rollout.part_names import versions
from modelsync.rollout.steps import segment, sizing_weight


@dataclass(frozen=True, slots=True)
class Situation:
    """`stalled`: a user must act. `reconciling`: work is in progress, or will be without a user."""

    phase: Phase
    ready: Truth
    reason: str
    message: str
    reconciling: bool = False
    stalled: bool = False


@dataclass(frozen=True, slots=True)
class ReportContext:
    """Input of a report: the facts, the intent, the planner's waits and actions, and the history."""

    facts: Facts
    state: State
    waits: tuple[Wait, ...]
    actions: tuple[Action, ...]
    history: tuple[HistoryEntry, ...]

    @property
    def available(self) -> bool:
        """Whether clients are served: the revision with most of the traffic has a ready pod."""
        facts = self.facts
        route = facts.route
        if not facts.policy.gateway:
            return facts.observed.service is not None and facts.ready(facts.observed.service) > 0
        if route is None:
            return False
        # A manual edit may leave no backend at all.
        revision, _ = max(route.weights, key=lambda backend: backend[1], default=(BLOCKED, 0))
        return facts.ready(revision) > 0

    @property
    def at_goal(self) -> bool:
        """Whether the stable is what the alias names and no move is in progress."""
        return (
            self.state.stable is not None
            and self.facts.named == self.state.stable
            and self.state.canary is None
            and self.state.target is None
        )

    @property
    def failure(self) -> Failure | None:
        """The failure of the revision that the alias names, if it failed."""
        return next((failure for failure in self.state.failed if failure.revision == self.facts.named), None)

    @property
    def displaced_by_hold(self) -> Revision | None:
        """The held revision that the stable replaced, unless a move to what the alias names is in progress."""
        state, facts = self.state, self.facts
        if state.stable is None or facts.idle or self.at_goal or state.canary is not None or state.target is not None:
            return None
        # Nobody knows whether a hold covers a revision of unknown content.
        return displaced_by_hold(
            self.history, state.stable, lambda revision: bool(facts.view(revision).digests) and facts.held(revision)
        )

    @property
    def held_revision(self) -> Revision | None:
        """The held revision to report: the stable, else what the alias names, else the one that the stable replaced.

        The last one is popped from the stack as soon as its fallback serves. If the alias names a version that failed
        or cannot start, nothing else explains why an earlier version serves.
        """
        return self.held_now or self.displaced_by_hold

    @property
    def held_now(self) -> Revision | None:
        """The stable or the named revision, if it is held."""
        both = (self.state.stable, self.facts.named)
        return next((revision for revision in both if revision is not None and self.facts.held(revision)), None)

    def version(self, revision: Revision | None) -> str:
        """`v7 (v7-3fa9c1d2)`."""
        if revision is None:
            return "nothing"
        view = self.facts.view(revision)
        return f"{versions(view.version, view.parts)} ({revision})"


def situation(context: ReportContext) -> Situation:
    """The situation of the first rule that applies."""
    return (
        _blocked(context)
        or _on_hold(context)
        or _marks_unknown(context)
        or _spec_needs_user(context)
        or _registry_needs_user(context)
        or _route_refused(context)
        or _idle(context)
        or _taken_back(context)
        or _suspended(context)
        or _target(context)
        or _canary(context)
        or _no_stable(context)
        or _under_capacity(context)
        or _serving_or_pending(context)
    )


def _holds_on(context: ReportContext, revision: Revision | None) -> str:
    if revision is None:
        return ""
    digests = context.facts.view(revision).digests
    if not digests:
        names = ", ".join(dict.fromkeys(f"{hold.mark.collection}:{hold.mark.version}" for hold in context.state.holds))
        return f"on {names}, and the record of {revision} is gone, so that nobody knows whether it contains that"
    marks = (
        f"{hold.mark.name!r} on {hold.mark.collection}:{hold.mark.version}{_elsewhere(context, hold)}"
        for hold in context.state.holds
        if hold.mark.digest in digests
    )
    return ", ".join(dict.fromkeys(marks))


def _elsewhere(context: ReportContext, hold: Hold) -> str:
    """A hint for a hold that was set on a server that is no longer configured."""
    registry = context.facts.observed.registry
    current = registry.server
    if not hold.server or not current or any(same_server(hold.server, each) for each in (current, *registry.watched)):
        return ""
    return f" (set on {hold.server}, which is no longer queried; to lift it, set it on {current} and remove it there)"


def _blocked(context: ReportContext) -> Situation | None:
    held_revision = context.held_revision
    stable = context.state.stable
    if (
        held_revision is None
        or (stable is not None and not context.facts.held(stable))
        or _serving(context) is not None
    ):
        return None
    target = context.state.target
    next_step = "remove the hold, or move the alias to a version that may serve"
    if target is not None:
        until = (
            "its hold marks are known again" if context.facts.barred(target.revision) else "one of its pods is ready"
        )
        next_step = f"{context.version(target.revision)} takes over as soon as {until}"
    message = f"nothing serves, clients get 503: hold {_holds_on(context, held_revision)}; {next_step}"
    return Situation(Phase.BLOCKED, "False", Reason.REGULATORY_HOLD, message, stalled=True)


def _serving(context: ReportContext) -> Revision | None:
    """What serves clients after this pass. The status is written before the route, so its actions are included."""
    facts = context.facts
    weights = facts.route.weights if facts.route is not None else ()
    if not facts.policy.gateway and facts.observed.service is not None:
        weights = ((facts.observed.service, 100),)
    for action in context.actions:
        if isinstance(action, SetRoute):
            weights = action.weights
        elif isinstance(action, PointService) and not facts.policy.gateway:
            weights = ((action.revision, 100),)
    may = [
        (weight, revision) for revision, weight in weights if revision != BLOCKED and not facts.must_not_serve(revision)
    ]
    return max(may)[1] if may else None


def _on_hold(context: ReportContext) -> Situation | None:
    held_revision = context.held_revision
    if held_revision is None:
        return None
    hold, serving = _holds_on(context, held_revision), context.version(_serving(context))
    message = f"{context.version(held_revision)} must not serve: hold {hold}; {serving} serves"
    if context.failure is not None:
        message += f"; {_failed(context, context.failure)}"
    return Situation(Phase.ON_HOLD, "False", Reason.REGULATORY_HOLD, message, stalled=True)


def _marks_unknown(context: ReportContext) -> Situation | None:
    """Traffic is blocked because a hold on what would serve could not be seen (`hold.onStale: Block`)."""
    facts, state = context.facts, context.state
    barred = [revision for revision in (state.stable, *state.moving) if revision is not None and facts.barred(revision)]
    if not barred or facts.idle or _serving(context) is not None:
        return None
    limit = duration.render(facts.policy.max_staleness)
    message = (
        "nothing serves, clients get 503: the registry has not reported the hold marks of "
        f"{context.version(barred[0])} for longer than hold.maxStaleness ({limit}), and hold.onStale is Block; the "
        "condition HoldsKnown says since when, and what to do; traffic returns when they are reported again"
    )
    return Situation(Phase.BLOCKED, "False", Reason.HOLDS_STALE, message, stalled=True)


def _spec_needs_user(context: ReportContext) -> Situation | None:
    problems = context.facts.observed.problems
    if not problems:
        return None
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Situation(Phase.STALLED, "False", problems[0].reason, problems[0].message + more, stalled=True)


_NEEDS_USER = {
    RegistryOutcome.MISSING: Reason.MISSING,
    RegistryOutcome.DENIED: Reason.DENIED,
    RegistryOutcome.REFUSED: Reason.REFUSED,
    RegistryOutcome.WITHDRAWN: Reason.WITHDRAWN,
}


def _registry_needs_user(context: ReportContext) -> Situation | None:
    registry = context.facts.observed.registry
    reason = _NEEDS_USER.get(registry.outcome)
    if reason is None or (reason is Reason.WITHDRAWN and context.at_goal):
        return None
    return Situation(
        Phase.STALLED, "False", reason, registry.message or "the registry refused the request", stalled=True
    )


def _route_refused(context: ReportContext) -> Situation | None:
    route, counts_at = context.facts.route, context.facts.refusal_counts_at
    if route is None or counts_at is None or counts_at > context.facts.now:
        return None
    why = route.message or "no reason was given"
    message = f"the gateway rejects the route: {why}; check spec.traffic.gateway.parentRefs"
    return Situation(Phase.STALLED, "False", Reason.ROUTE_NOT_ACCEPTED, message, stalled=True)


def _idle(context: ReportContext) -> Situation | None:
    """Ready, because it is as requested: a health check must not wait forever for pods that are not wanted."""
    facts, stable = context.facts, context.state.stable
    if not facts.idle or (stable is None and facts.named is None):
        return None
    if any(view.replicas or facts.exposed(view.revision) for view in facts.views.values()):
        message = "spec.replicas is 0: traffic is removed first, then the pods"
        return Situation(Phase.IDLE, "Unknown", Reason.IDLE, message, reconciling=True)
    first = context.version(_first_to_start(context))
    message = f"spec.replicas is 0: nothing runs, clients get 503; {first} starts when it is raised"
    return Situation(Phase.IDLE, "True", Reason.IDLE, message)


def _first_to_start(context: ReportContext) -> Revision | None:
    """The revision that would start first if `spec.replicas` were raised."""
    observed, state = context.facts.observed, context.state
    awake = Facts(replace(observed, policy=replace(observed.policy, replicas=1)), state.holds)
    wanted = goal(awake, state)
    return wanted.revision if wanted.way is Way.AT_ONCE else state.stable


def _taken_back(context: ReportContext) -> Situation | None:
    if (failure := context.failure) is None:
        return None
    message = f"{_failed(context, failure)}; {context.version(context.state.stable)} serves"
    return Situation(Phase.DEGRADED, "False", failure.reason, message, stalled=True)


def _failed(context: ReportContext, failure: Failure) -> str:
    return f"{context.version(failure.revision)} failed and will not be retried: {failure.message}"


def _suspended(context: ReportContext) -> Situation | None:
    if not context.facts.policy.suspend:
        return None
    if not context.at_goal:
        message = "spec.suspend is true: no rollout proceeds; set it to false to continue"
        return Situation(Phase.SUSPENDED, "Unknown", Reason.SUSPENDED, message, reconciling=True)
    if _lacks_pods(context) or not context.available:
        return None
    message = f"{context.version(context.state.stable)} serves; spec.suspend is true"
    return Situation(Phase.SUSPENDED, "True", Reason.SUSPENDED, message)


_TROUBLE = {
    TroubleKind.CRASHED: Reason.CRASHED,
    TroubleKind.CRASHED_LOADING: Reason.CRASHED_LOADING,
    TroubleKind.CONTENT_REFUSED: Reason.CONTENT_REFUSED,
    TroubleKind.PULL_FAILED: Reason.PULL_FAILED,
    TroubleKind.IMAGE: Reason.IMAGE_UNAVAILABLE,
    TroubleKind.UNSCHEDULABLE: Reason.INSUFFICIENT_CAPACITY,
    TroubleKind.REFUSED: Reason.PODS_REFUSED,
    TroubleKind.OTHER: Reason.PODS_FAILING,
}


def trouble_reason(trouble: Trouble) -> Reason:
    """The condition reason for a kind of trouble."""
    return _TROUBLE[trouble.kind]


def _trouble(context: ReportContext, revision: Revision, phase: Phase) -> Situation | None:
    """The situation while trouble keeps pods of `revision` from serving, else None."""
    facts = context.facts
    view = facts.view(revision)
    if facts.ready(revision) >= facts.full_replicas:
        return None
    if (exam := facts.failed_exam(revision)) is not None:
        message = f"{context.version(revision)} cannot become ready because of its exam: {exam.message}"
        return Situation(Phase.STALLED, "False", exam_reason(exam), message, stalled=True)
    trouble = view.trouble
    if trouble is None:
        return None
    message = f"{context.version(revision)}: {trouble.message}"
    reason = trouble_reason(trouble)
    ends = facts.patience_ends(revision)
    patience_over = ends is not None and ends <= facts.now
    never_automatically = trouble.kind is TroubleKind.CONTENT_REFUSED or (
        trouble.kind is TroubleKind.CRASHED_LOADING and trouble.count >= CRASHES_LOADING
    )
    if patience_over or never_automatically:
        return Situation(Phase.STALLED, "False", reason, message, stalled=True)
    return Situation(phase, "Unknown", reason, message, reconciling=True)


def _target(context: ReportContext) -> Situation | None:
    target = context.state.target
    if target is None:
        return None
    facts = context.facts
    bringing_up = Phase.PULLING if facts.view(target.revision).pulling else Phase.STARTING
    phase = {MoveReason.FIRST: bringing_up, MoveReason.RECOVERY: Phase.DEGRADED}.get(target.reason, Phase.ROLLING_BACK)
    if (trouble := _trouble(context, target.revision, phase)) is not None:
        return trouble
    overdue = deadline(facts, context.state, target.revision, target.started_at)
    if target.reason is MoveReason.FIRST and overdue is not None and overdue <= facts.now:
        message = (
            f"{context.version(target.revision)} made no progress for "
            f"{duration.render(facts.policy.progress_deadline)}; "
            "nothing else can serve, so it is still retried; check its pods"
        )
        return Situation(Phase.STALLED, "False", Reason.PROGRESS_DEADLINE_EXCEEDED, message, stalled=True)
    message = f"{_TARGET[target.reason]} {context.version(target.revision)}, {_pods(context, target.revision)}"
    return Situation(phase, "Unknown", str(target.reason), message, reconciling=True)


_TARGET = {
    MoveReason.FIRST: "first deployment of",
    MoveReason.ROLLBACK: "rolling back to",
    MoveReason.FALLBACK: "falling back to",
    MoveReason.RECOVERY: "the stable revision has no ready pod; traffic moves to",
}


def _canary(context: ReportContext) -> Situation | None:
    canary = context.state.canary
    if canary is None:
        return None
    facts = context.facts
    phase, reason = _canary_phase(context)
    if (trouble := _trouble(context, canary.revision, phase)) is not None and facts.ready(
        canary.revision
    ) < facts.needed(canary.weight):
        return trouble
    step = "promotion"
    if canary.step < len(canary.steps):
        step = f"step {canary.step + 1} of {len(canary.steps)}"
    segment_too = " and its segment" if segment(canary) else ""
    share = f"at {canary.weight} %{segment_too}"
    message = f"{context.version(canary.revision)} {share}, {step}, {_pods(context, canary.revision)}"
    return Situation(phase, "Unknown", reason, message, reconciling=True)


def _canary_phase(context: ReportContext) -> tuple[Phase, Reason]:
    canary = context.state.canary
    if canary is None:
        return Phase.HEALTHY, Reason.HEALTHY
    facts = context.facts
    if facts.ready(canary.revision) == 0 and canary.weight == 0 and not canary.match:
        pulling = facts.view(canary.revision).pulling
        return (Phase.PULLING, Reason.PULLING) if pulling else (Phase.STARTING, Reason.STARTING)
    if canary.step >= len(canary.steps):
        return Phase.PROMOTING, Reason.PROMOTING
    step = canary.steps[canary.step]
    if isinstance(step, Pause) and canary.step_started_at is not None:
        return (Phase.PAUSED, Reason.AWAITING_PROMOTION) if step.duration is None else (Phase.CANARY, Reason.PAUSED)
    return Phase.CANARY, Reason.CANARY


def _pods(context: ReportContext, revision: Revision) -> str:
    facts, canary = context.facts, context.state.canary
    wanted = facts.policy.replicas if revision == context.state.stable else facts.full_replicas
    if canary is not None and canary.revision == revision:
        wanted = facts.needed(sizing_weight(canary))
    return f"{facts.ready(revision)} of {wanted} pods ready"


def _no_stable(context: ReportContext) -> Situation | None:
    if context.state.stable is not None:
        return None
    registry = context.facts.observed.registry
    asked = registry.outcome is not RegistryOutcome.PENDING
    message = registry.message or "the registry has not answered yet"
    reason = Reason(registry.outcome) if asked else Reason.RESOLVING
    if registry.outcome is RegistryOutcome.RESOLVED:
        reason, message = Reason.STARTING, "the first version is about to start"
    return Situation(Phase.RESOLVING if asked else Phase.PENDING, "Unknown", reason, message, reconciling=True)


def _lacks_pods(context: ReportContext) -> bool:
    stable = context.state.stable
    return stable is not None and context.facts.ready(stable) < context.facts.policy.replicas


def _under_capacity(context: ReportContext) -> Situation | None:
    stable = context.state.stable
    if stable is None or not _lacks_pods(context):
        return None
    if (trouble := _trouble(context, stable, Phase.DEGRADED)) is not None:
        return trouble
    if context.facts.blocked:
        reason = context.facts.pods_reason(stable)
        phase = Phase.PULLING if reason is Reason.PULLING else Phase.STARTING
        message = f"{context.version(stable)} is starting again, {_pods(context, stable)}; until then clients get 503"
        return Situation(phase, "Unknown", reason, message, reconciling=True)
    message = f"{context.version(stable)} serves with {_pods(context, stable)}"
    return Situation(Phase.DEGRADED, "False", Reason.UNDER_CAPACITY, message, reconciling=True)


def _serving_or_pending(context: ReportContext) -> Situation:
    serving = context.version(context.state.stable)
    if not context.at_goal:
        # The next move has not started yet: the planner's wait is the reason.
        wait = context.waits[0].reason if context.waits else Reason.STARTING
        message = f"{serving} serves; the alias names {context.version(context.facts.named)}"
        return Situation(Phase.PENDING, "Unknown", wait, message, reconciling=True)
    if not context.available:
        # A client that waits for Ready sends requests next, so not Ready until the route is written, after this status.
        message = f"all pods of {serving} are ready; clients get 503 until traffic is routed to them"
        return Situation(Phase.STARTING, "Unknown", Reason.STARTING, message, reconciling=True)
    return Situation(Phase.HEALTHY, "True", Reason.HEALTHY, f"{serving} serves")
