"""Reports how old the knowledge of hold marks is: the condition `HoldsKnown`, and `status.holdsKnownAt`.

Silence of a registry must not look like the absence of holds. The texts are for somebody who is paged at night: which
version, which server, since when, what it means, and what to do. This module must never decide anything.
"""

from datetime import datetime

from modelsync.api import duration
from modelsync.api.conditions import Truth
from modelsync.api.reasons import Reason
from modelsync.report.situation import ReportContext
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import RegistryOutcome, Revision

_MAX_SHOWN = 3


def holds_known(context: ReportContext) -> tuple[Truth, Reason, str]:
    """Status, reason and message of the condition. They do not change with the clock alone, except when the knowledge
    becomes too old."""
    facts = context.facts
    limit = duration.render(facts.policy.max_staleness)
    in_use = facts.in_use
    if stale := [revision for revision in in_use if facts.stale(revision)]:
        return "False", Reason.STALE, _stale(context, stale, limit)
    unread = [revision for revision in in_use if facts.oldest_read(revision) is None]
    if unread or not in_use:
        asked = facts.observed.registry.outcome is not RegistryOutcome.PENDING
        reason = Reason.HOLD_STATE_UNKNOWN if asked else Reason.RESOLVING
        if not in_use:
            return "Unknown", reason, "nothing serves yet, and the registry has not named a version"
        return "Unknown", reason, f"the registry has not yet reported the hold marks of {_names(context, unread)}"
    return "True", Reason.FRESH, f"the registry reported the hold marks of what serves within the last {limit}"


def holds_known_at(facts: Facts) -> datetime | None:
    """When the marks of what is in use were last read, if that is uncertain; else None.

    A new process has read nothing: with this time in the status, a restart during an outage does not start the time
    again. While the registry answers it is empty, so that a quiet world is not written to: it is set and cleared when
    the registry falls silent, answers again, or the operator has just started, which change other conditions too.
    """
    known = [known_at for revision in facts.in_use if (known_at := facts.known_at(revision)) is not None]
    oldest = min(known, default=None)
    if oldest is None:
        return None
    registry = facts.observed.registry
    failed = registry.outcome not in (RegistryOutcome.RESOLVED, RegistryOutcome.PENDING)
    # Answers about what serves may go on although the alias cannot be resolved: then nothing is uncertain.
    silent = failed and registry.since is not None and oldest <= registry.since
    unread = any(facts.oldest_read(revision) is None for revision in facts.in_use)
    return oldest if silent or unread or oldest + facts.policy.max_staleness <= facts.now else None


def _stale(context: ReportContext, revisions: list[Revision], limit: str) -> str:
    facts = context.facts
    oldest = min(known_at for revision in revisions if (known_at := facts.known_at(revision)) is not None)
    since = f"since {oldest:%Y-%m-%d %H:%M:%S} UTC"
    parts = [
        f"the hold marks of {_names(context, revisions)} have not been read {since} from {_servers(facts, revisions)}, "
        f"longer than hold.maxStaleness ({limit}): a hold set since then is not seen",
        _effect(facts, revisions),
    ]
    if nameless := [revision for revision in revisions if not facts.view(revision).digests]:
        names = _names(context, nameless)
        parts.append(f"the record of {names} is gone, so its content is not known: move the alias to replace it")
    else:
        parts.append("check the server, the network and the API key (kubectl modelsync doctor)")
    if answer := _answer(facts):
        parts.append(f"last answer: {answer}")
    return "; ".join(parts)


def _effect(facts: Facts, revisions: list[Revision]) -> str:
    if any(facts.barred(revision) for revision in revisions):
        return "no traffic goes there until the marks are read again; then it returns by itself"
    return "what serves keeps serving, but no rollout to it proceeds; to stop all that serves, set spec.replicas to 0"


def _names(context: ReportContext, revisions: list[Revision]) -> str:
    shown = ", ".join(context.version(revision) for revision in revisions[:_MAX_SHOWN])
    return shown if len(revisions) <= _MAX_SHOWN else f"{shown} and {len(revisions) - _MAX_SHOWN} more"


def _servers(facts: Facts, revisions: list[Revision]) -> str:
    registry = facts.observed.registry
    asked = [read.server for revision in revisions if (read := facts.oldest_read(revision)) is not None]
    found = [server for server in asked if server] or [each for each in (registry.server, *registry.watched) if each]
    return " or ".join(dict.fromkeys(found)) or "the registry, which is not queried"


def _answer(facts: Facts) -> str:
    registry = facts.observed.registry
    if registry.outcome in (RegistryOutcome.RESOLVED, RegistryOutcome.PENDING):
        return ""
    return f"{registry.outcome.value}, {registry.message}" if registry.message else registry.outcome.value
