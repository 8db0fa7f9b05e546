"""Builds `.status` and the events of a pass from the observation and the plan.

Equal observations must give equal statuses: nothing here may change with the clock alone, or an idle cluster would be
written to forever. This module must never decide anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from modelsync.api import names
from modelsync.api.conditions import MAX_MESSAGE, Condition, ConditionType, Truth, merged
from modelsync.api.hold import HoldAction
from modelsync.api.reasons import Reason
from modelsync.api.routing import Routing, Rule, RuleKind, Weights
from modelsync.api.status import (
    FallbackStatus,
    ModelDeploymentStatus,
    Phase,
    PodStatus,
    RegistryStatus,
    ResolvedStatus,
    TrafficStatus,
)
from modelsync.report.events import transitions
from modelsync.report.exams import exam_condition, exam_statuses
from modelsync.report.history import history
from modelsync.report.holds_known import holds_known, holds_known_at
from modelsync.report.silences import Silence, silenced
from modelsync.report.silences import events as silence_events
from modelsync.report.situation import ReportContext, Situation, situation
from modelsync.report.waiting import waiting
from modelsync.rollout.facts import Facts
from modelsync.rollout.goal import fallback_of_stable
from modelsync.rollout.model import (
    BLOCKED,
    Event,
    Observed,
    Plan,
    RegistryOutcome,
    Revision,
    TroubleKind,
)
from modelsync.rollout.part_names import versions
from modelsync.rollout.state import dump

_MAX_PODS = 64
_MAX_BACKENDS = 16


@dataclass(frozen=True, slots=True)
class Report:
    """The status to write, and the events to record once it is written."""

    status: ModelDeploymentStatus
    events: tuple[Event, ...]


def report(
    observed: Observed,
    plan: Plan,
    previous: ModelDeploymentStatus,
    *,
    name: str,
    registry: RegistryStatus | None = None,
    resolved: ResolvedStatus | None = None,
    pods: Sequence[PodStatus] = (),
    url: str | None = None,
    silences: Sequence[Silence] = (),
) -> Report:
    """Report `plan`.

    `previous` is the current status and `name` the ModelDeployment's name. `registry`, `resolved` (default: that of
    `previous`), `pods` (worst first), `url` and `silences` come from the controller; the planner does not need them.
    """
    facts = Facts(replace(observed, state=plan.state), plan.state.holds)
    entries = history(facts, plan, previous.history)
    context = ReportContext(facts, plan.state, plan.waits, plan.actions, entries)
    current = situation(context)
    counted = _counted(context)
    status = ModelDeploymentStatus(
        observed_generation=observed.generation,
        phase=current.phase,
        registry=registry,
        resolved=resolved or previous.resolved,
        **dump(plan.state),
        exams=exam_statuses(facts, plan.state, previous.exams),
        holds_known_at=holds_known_at(facts),
        silenced=silenced(facts, plan.state, previous.silenced, silences),
        traffic=_traffic(facts),
        fallback=_fallback(context),
        pods=tuple(pods[:_MAX_PODS]),
        waiting=waiting(name, context, current, previous.waiting),
        history=entries,
        replicas=sum(facts.view(revision).replicas for revision in counted),
        ready_replicas=sum(facts.ready(revision) for revision in counted),
        selector=_selector(name, counted) if counted else None,
        url=url,
        conditions=merged(previous.conditions, _conditions(context, current)),
    )
    events = (*plan.events, *silence_events(previous.silenced, status.silenced))
    # External changes come before the reaction to them.
    return Report(status, (*transitions(previous, status, events), *events))


def unreadable_spec(previous: ModelDeploymentStatus, *, generation: int, message: str, now: datetime) -> Report:
    """The report for an unreadable spec: Ready and Stalled contain the reason, the rest of the status is unchanged."""
    truths: dict[ConditionType, Truth] = {ConditionType.READY: "False", ConditionType.STALLED: "True"}
    others = [
        condition for condition in previous.conditions if condition.type not in (*truths, ConditionType.RECONCILING)
    ]
    new = [
        Condition(
            type=kind,
            status=truth,
            reason=Reason.INVALID_SPEC,
            message=message[:MAX_MESSAGE],
            last_transition_time=now,
            observed_generation=generation,
        )
        for kind, truth in truths.items()
    ]
    status = previous.model_copy(
        update={
            "observed_generation": generation,
            "phase": Phase.STALLED,
            "conditions": tuple(merged(previous.conditions, [*others, *new])),
        }
    )
    return Report(status, transitions(previous, status))


def _selector(name: str, revisions: Sequence[Revision]) -> str:
    """Label selector of the counted revisions; set-based for several, so that an autoscaler sees all counted pods."""
    labels = names.selector(name, revisions[0])
    if len(revisions) > 1:
        revision = labels.pop(names.REVISION_LABEL)
        others = ",".join(sorted({revision, *revisions[1:]}))
        return ",".join([*(f"{key}={value}" for key, value in labels.items()), f"{names.REVISION_LABEL} in ({others})"])
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _counted(context: ReportContext) -> list[Revision]:
    """Revisions that the scale subresource counts: those that share the load.

    An autoscaler expects a pod that is not ready to help soon. Counting warm pods, held pods, or a canary without
    traffic would keep it from adding pods while the stable is overloaded.
    """
    state = context.state
    stable = [state.stable] if state.stable is not None else []
    moving = [revision for revision in state.moving if not stable or context.facts.serving(revision)]
    return [revision for revision in dict.fromkeys(stable + moving) if not context.facts.held(revision)]


def _traffic(facts: Facts) -> tuple[TrafficStatus, ...]:
    service = facts.observed.service
    if facts.policy.gateway:
        routing = facts.live_routing or Routing(())
    else:
        routing = Routing(() if service is None else ((service, 1 if service == BLOCKED else 100),))
    return tuple(
        TrafficStatus(
            revision=revision,
            version=facts.view(revision).version if revision != BLOCKED else None,
            weight=weight,
            rules=tuple(map(_rule, routing.rules_to(revision)))[:_MAX_BACKENDS],
        )
        for revision, weight in _with_ruled(routing)[:_MAX_BACKENDS]
    )


def _with_ruled(routing: Routing) -> Weights:
    """Weights plus revisions that only a rule leads to, so that a manual edit cannot hide an exposure."""
    ruled = dict.fromkeys(rule.revision for rule in routing.rules if not routing.lists(rule.revision))
    return (*routing.weights, *((revision, 0) for revision in ruled))


def _rule(rule: Rule) -> str:
    """One-line description of a rule."""
    match rule.kind:
        case RuleKind.TEST:
            return "requests that name it in the test header (spec.traffic.testHeader)"
        case RuleKind.SESSION:
            return "clients that it has served (spec.traffic.sessionAffinity)"
    headers = (f"{match.name} {'matches' if match.regex else 'is'} {match.value}" for match in rule.match)
    return f"requests whose header {' or '.join(headers)}"[:1024]


def _fallback(context: ReportContext) -> FallbackStatus | None:
    if context.state.stable is None:
        return None
    if context.facts.policy.hold_action is HoldAction.BLOCK:
        return FallbackStatus(
            ready=False, reason="spec.hold.action is Block: a hold on the stable revision blocks all traffic"
        )
    revision = fallback_of_stable(context.facts, context.state)
    if revision is None:
        return FallbackStatus(
            ready=False,
            reason="no earlier promoted version may serve: a hold on the stable revision blocks all traffic",
        )
    if context.facts.ready(revision):
        return FallbackStatus(revision=revision, ready=True, reason="it is warm: after a hold it takes over at once")
    message = "it is cold: after a hold nothing serves until it has started"
    return FallbackStatus(revision=revision, ready=False, reason=message)


# --- conditions ----------------------------------------------------------------------------------------------------


def _conditions(context: ReportContext, current: Situation) -> list[Condition]:
    found = [
        _condition(context, ConditionType.READY, current.ready, current.reason, current.message),
        _available(context),
        _model_resolved(context),
        _model_verified(context),
        _route_ready(context),
        _spec_applied(context),
        _condition(context, ConditionType.HOLDS_KNOWN, *holds_known(context)),
    ]
    if (exam := exam_condition(context)) is not None:
        found.append(_condition(context, ConditionType.EXAM_PASSED, *exam))
    if current.reconciling:
        found.append(_condition(context, ConditionType.RECONCILING, "True", current.reason, current.message))
    if current.stalled:
        found.append(_condition(context, ConditionType.STALLED, "True", current.reason, current.message))
    if current.reason == Reason.REGULATORY_HOLD:
        found.append(_condition(context, ConditionType.ON_HOLD, "True", current.reason, current.message))
    if (failure := context.failure) is not None:
        message = f"{context.version(failure.revision)} was rolled back: {failure.message}"
        found.append(_condition(context, ConditionType.ROLLED_BACK, "True", failure.reason, message))
    return found


def _condition(context: ReportContext, kind: ConditionType, status: Truth, reason: str, message: str) -> Condition:
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message[:MAX_MESSAGE],
        last_transition_time=context.facts.now.replace(microsecond=0),
        observed_generation=context.facts.observed.generation,
    )


def _available(context: ReportContext) -> Condition:
    if context.available:
        return _condition(context, ConditionType.AVAILABLE, "True", Reason.SERVING, "clients are being served")
    if context.facts.idle:
        message = "clients get 503: spec.replicas is 0"
        return _condition(context, ConditionType.AVAILABLE, "False", Reason.IDLE, message)
    return _condition(context, ConditionType.AVAILABLE, "False", Reason.NOT_SERVING, "clients are not being served")


def _model_resolved(context: ReportContext) -> Condition:
    registry = context.facts.observed.registry
    kind = ConditionType.MODEL_RESOLVED
    if registry.outcome is RegistryOutcome.RESOLVED and registry.candidate is not None:
        message = f"the alias names {versions(registry.candidate.version, registry.candidate.parts)}"
        return _condition(context, kind, "True", Reason.RESOLVED, message)
    if registry.outcome is RegistryOutcome.PENDING:
        message = registry.message or "the registry has not answered yet"
        return _condition(context, kind, "Unknown", Reason.RESOLVING, message)
    message = registry.message or "the registry did not answer"
    withdrawn = registry.outcome is RegistryOutcome.WITHDRAWN
    return _condition(context, kind, "False" if withdrawn else "Unknown", registry.outcome.value, message)


def _model_verified(context: ReportContext) -> Condition:
    """`ModelVerified` for the current move, else for the stable."""
    state, facts = context.state, context.facts
    moving = state.canary or state.target
    revision = moving.revision if moving is not None else state.stable
    kind = ConditionType.MODEL_VERIFIED
    if revision is None:
        return _condition(context, kind, "Unknown", Reason.NOT_YET_PULLED, "no version has been pulled yet")
    view = facts.view(revision)
    if view.trouble is not None and view.trouble.kind is TroubleKind.CONTENT_REFUSED:
        message = f"{context.version(revision)}: {view.trouble.message}"
        return _condition(context, kind, "False", Reason.CONTENT_REFUSED, message)
    if view.verified is not None:
        proof = view.verified
        several = f" of {proof.artifacts} artifacts" if proof.artifacts > 1 else ""
        digests = f"their digests (model: {proof.digest})" if several else f"digest {proof.digest}"
        message = (
            f"{context.version(revision)}: {proof.files} files{several}, {proof.size} bytes in {proof.seconds:.1f} s, "
            f"matching {digests}"
        )
        return _condition(context, kind, "True", Reason.VERIFIED, message)
    reason = Reason.PULLING if view.pulling else Reason.NOT_YET_PULLED
    return _condition(context, kind, "Unknown", reason, f"{context.version(revision)} is not verified yet")


def _route_ready(context: ReportContext) -> Condition:
    facts, kind = context.facts, ConditionType.ROUTE_READY
    if not facts.policy.gateway:
        message = "spec.traffic.gateway is not set: the plain Service carries the traffic"
        return _condition(context, kind, "True", Reason.NO_GATEWAY, message)
    for problem in facts.observed.problems:
        if problem.blocks_route:
            return _condition(context, kind, "False", problem.reason, problem.message)
    route = facts.route
    if route is None:
        return _condition(context, kind, "Unknown", Reason.NO_ROUTE, "the route has not been written yet")
    if route.accepted:
        return _condition(context, kind, "True", Reason.ACCEPTED, "every gateway accepted the route")
    if route.accepted is None:
        return _condition(context, kind, "Unknown", Reason.ROUTE_NOT_ACCEPTED, "no gateway has reported a status yet")
    why = route.message or "no reason was given"
    return _condition(context, kind, "False", Reason.ROUTE_NOT_ACCEPTED, f"the gateway rejects the route: {why}")


def _spec_applied(context: ReportContext) -> Condition:
    facts, state, kind = context.facts, context.state, ConditionType.SPEC_APPLIED
    if facts.observed.problems:
        problem = facts.observed.problems[0]
        return _condition(context, kind, "False", problem.reason, problem.message)
    candidate = facts.observed.registry.candidate
    if candidate is None:
        return _condition(context, kind, "Unknown", Reason.RESOLVING, "the registry has not answered yet")
    if facts.idle:
        return _condition(context, kind, "True", Reason.APPLIED, "spec.replicas is 0: nothing to start")
    applied = {state.stable, facts.named if facts.named in state.promoted else None}
    applied |= {*state.moving, *(failure.revision for failure in state.failed)}
    if candidate.revision in applied or facts.named in applied or facts.held(candidate.revision):
        return _condition(context, kind, "True", Reason.APPLIED, "the spec has been applied")
    return _condition(context, kind, "False", Reason.PENDING, "the rollout of the current spec has not started yet")
