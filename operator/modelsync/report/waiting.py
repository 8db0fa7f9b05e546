"""`status.waiting`: for what nothing moves, who ends it, and what a person can type.

The planner's waits in words. A wait that ends by itself says when; one that needs a person says how.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from modelsync.api import names
from modelsync.api.reasons import Reason
from modelsync.api.requests import PROMOTE, REFRESH, RETRY
from modelsync.api.status import WaitingStatus
from modelsync.report.situation import ReportContext, Situation
from modelsync.rollout.model import Revision

Who = Literal["modelsync", "Kubernetes", "registry", "gateway", "person"]


@dataclass(frozen=True, slots=True)
class _Words:
    who: Who
    message: str  # with {revision}
    command: Callable[[str, str], str] | None = None


def annotate(name: str, annotation: str, value: str) -> str:
    """The command that puts a request on the ModelDeployment."""
    return f"kubectl annotate {names.SINGULAR} {name} {annotation}={value} --overwrite"


def _promote(name: str, revision: Revision) -> str:
    return annotate(name, PROMOTE.annotation, revision)


def _retry(name: str, revision: Revision) -> str:
    return annotate(name, RETRY.annotation, revision)


def _resume(name: str, revision: Revision) -> str:
    return f'kubectl patch {names.SINGULAR} {name} --type=merge -p \'{{"spec":{{"suspend":false}}}}\''


def _look(name: str, revision: Revision) -> str:
    return annotate(name, REFRESH.annotation, '"$(date +%s)"')


_WORDS: dict[str, _Words] = {
    Reason.RESOLVING: _Words("registry", "the registry's first answer"),
    Reason.MISSING: _Words("person", "a reference that exists: see the condition ModelResolved", _look),
    Reason.DENIED: _Words("person", "a credential that the registry accepts: see the condition ModelResolved", _look),
    Reason.THROTTLED: _Words("registry", "the registry's rate limit to end"),
    Reason.UNREACHABLE: _Words("registry", "the registry to answer again; nothing moves forward meanwhile"),
    Reason.REFUSED: _Words("person", "a server and a credential that may be used: see the condition ModelResolved"),
    Reason.WITHDRAWN: _Words("person", "the alias to name a version that exists", _look),
    Reason.PENDING: _Words("person", "a spec that can be acted on: see the condition Ready"),
    Reason.SUSPENDED: _Words("person", "spec.suspend to be false", _resume),
    Reason.PULLING: _Words("Kubernetes", "the bytes of {revision} to arrive and to be verified"),
    Reason.STARTING: _Words("Kubernetes", "pods of {revision} to be ready"),
    Reason.SETTLING: _Words("modelsync", "the data plane to follow the route (spec.traffic.settle)"),
    Reason.ROUTE_NOT_ACCEPTED: _Words("gateway", "the gateway to accept the route"),
    Reason.FRESH_LOOK: _Words("registry", "an answer of the registry that is newer than the last wait of {revision}"),
    Reason.HOLD_STATE_UNKNOWN: _Words("registry", "the registry to say whether {revision} is on hold"),
    Reason.STABLE_NOT_READY: _Words("Kubernetes", "a ready pod of the stable, to which {revision} could give way"),
    Reason.FLAPPED: _Words("modelsync", "{revision} to stay ready for a while: it lost all its pods"),
    Reason.PAUSED: _Words("modelsync", "the pause of this step to end; promote ends it now", _promote),
    Reason.AWAITING_PROMOTION: _Words("person", "a person's promote", _promote),
}


def waiting(name: str, context: ReportContext, told: Situation, previous: WaitingStatus | None) -> WaitingStatus | None:
    """What has to happen before something moves; None when nothing is left to do."""
    if told.ready == "True":
        return None  # what is left is tidying up, and nobody waits for that
    found = _for_a_person(name, context, told) or _of_plan(name, context) or _for_pods(context, told)
    if found is None or previous is None or previous.reason != found.reason:
        return found
    return found.model_copy(update={"since": previous.since})


def _for_a_person(name: str, context: ReportContext, told: Situation) -> WaitingStatus | None:
    """A hold, or a version that failed: what would move is barred, so the planner does not wait for anything."""
    if context.barred_now is not None:
        if context.state.target is not None and context.waits:
            return None  # a fallback is on its way
        return _waiting(
            context, told.reason, "person", "the hold to be removed, or the alias to name a version that may serve"
        )
    if (failure := context.failure) is not None:
        message = f"the alias to leave {context.version(failure.revision)}, or a person's retry"
        return _waiting(context, told.reason, "person", message, command=_retry(name, failure.revision))
    if context.barred is not None and context.waits:
        return None  # the planner says why what the alias names has not begun
    if told.stalled:
        return _waiting(context, told.reason, "person", f"somebody to act: {told.message}")
    return None


def _of_plan(name: str, context: ReportContext) -> WaitingStatus | None:
    if not context.waits:
        return None
    wait = context.waits[0]
    words = _WORDS[wait.reason]
    revision = wait.revision or ""
    throttled_until = context.facts.observed.registry.retry_at if wait.reason is Reason.THROTTLED else None
    return _waiting(
        context,
        wait.reason,
        words.who,
        words.message.format(revision=revision),
        until=wait.until or throttled_until,
        command=words.command(name, revision) if words.command is not None else None,
    )


def _for_pods(context: ReportContext, told: Situation) -> WaitingStatus | None:
    if context.about_to:
        return None  # something moves
    return _waiting(context, told.reason, "Kubernetes", f"pods to be ready: {told.message}")


def _waiting(
    context: ReportContext,
    reason: str,
    who: Who,
    message: str,
    until: datetime | None = None,
    command: str | None = None,
) -> WaitingStatus:
    return WaitingStatus(
        reason=reason, message=message[:1024], since=context.facts.now, until=until, who=who, command=command
    )
