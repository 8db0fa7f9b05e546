"""`status.waiting`: what has to happen before the next move, who is responsible, and the command that helps.

Each message completes the sentence "waits for …". A wait that ends automatically has a time, if known; one that needs a
user has a command, if there is one. This module must never decide anything.
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
class _Template:
    who: Who
    message: str  # may contain {revision}
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


_TEMPLATES: dict[str, _Template] = {
    Reason.RESOLVING: _Template("registry", "the registry's first answer"),
    Reason.MISSING: _Template("person", "a reference that exists: see the condition ModelResolved", _look),
    Reason.DENIED: _Template(
        "person", "a credential that the registry accepts: see the condition ModelResolved", _look
    ),
    Reason.THROTTLED: _Template("registry", "the registry's rate limit to end"),
    Reason.UNREACHABLE: _Template("registry", "the registry to be reachable again; no rollout proceeds until then"),
    Reason.REFUSED: _Template("person", "an allowed server and a usable credential: see the condition ModelResolved"),
    Reason.WITHDRAWN: _Template("person", "the alias to name a version that exists", _look),
    Reason.PENDING: _Template("person", "the problem in the condition Ready to be fixed"),
    Reason.SUSPENDED: _Template("person", "spec.suspend to be set to false", _resume),
    Reason.PULLING: _Template("Kubernetes", "the files of {revision} to be downloaded and verified"),
    Reason.STARTING: _Template("Kubernetes", "pods of {revision} to become ready"),
    Reason.SETTLING: _Template("modelsync", "the data plane to apply the route (spec.traffic.settle)"),
    Reason.ROUTE_NOT_ACCEPTED: _Template("gateway", "the gateway to accept the route"),
    Reason.FRESH_LOOK: _Template("registry", "a fresh registry answer before {revision} gets more traffic"),
    Reason.HOLD_STATE_UNKNOWN: _Template("registry", "the registry to confirm that {revision} is not on hold"),
    Reason.HOLDS_STALE: _Template(
        "registry", "the registry to report hold marks again, for which see the condition HoldsKnown"
    ),
    Reason.STABLE_NOT_READY: _Template(
        "Kubernetes", "a ready pod of the stable revision, to fall back to from {revision}"
    ),
    Reason.FLAPPED: _Template("modelsync", "{revision} to stay ready for a while after it lost all its pods"),
    Reason.PAUSED: _Template("modelsync", "the pause of this step to end; a promotion ends it now", _promote),
    Reason.AWAITING_PROMOTION: _Template("person", "a manual promotion", _promote),
}


def waiting(
    name: str, context: ReportContext, current: Situation, previous: WaitingStatus | None
) -> WaitingStatus | None:
    """What has to happen before the next move; None if nothing is left to do."""
    if current.ready == "True":
        return None  # only cleanup is left
    found = _for_user(name, context, current) or _of_plan(name, context) or _for_pods(context, current)
    if found is None or previous is None or previous.reason != found.reason:
        return found
    return found.model_copy(update={"since": previous.since})


def _for_user(name: str, context: ReportContext, current: Situation) -> WaitingStatus | None:
    """A wait for a user, because of a hold, a failure or a problem: the planner itself waits for nothing then."""
    if context.held_now is not None:
        if context.state.target is not None and context.waits:
            return None  # a fallback is starting
        return _waiting(
            context, current.reason, "person", "the hold to be removed, or the alias to name a version that may serve"
        )
    if (failure := context.failure) is not None:
        message = f"the alias to move away from {context.version(failure.revision)}, or a manual retry"
        return _waiting(context, current.reason, "person", message, command=_retry(name, failure.revision))
    if context.held_revision is not None and context.waits:
        return None  # the planner's wait explains why the named version has not started
    if current.reason == Reason.HOLDS_STALE:
        words = _TEMPLATES[Reason.HOLDS_STALE]
        return _waiting(context, current.reason, words.who, words.message)
    if current.stalled:
        return _waiting(context, current.reason, "person", f"a user to act: {current.message}")
    return None


def _of_plan(name: str, context: ReportContext) -> WaitingStatus | None:
    if not context.waits:
        return None
    wait = context.waits[0]
    words = _TEMPLATES[wait.reason]
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


def _for_pods(context: ReportContext, current: Situation) -> WaitingStatus | None:
    if context.actions:
        return None  # actions are still pending
    return _waiting(context, current.reason, "Kubernetes", f"pods to become ready: {current.message}")


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
