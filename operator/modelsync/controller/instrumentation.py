"""Translates what a pass observed, decided and wrote into metrics.

Only completed things are counted: the end of a rollout when the status that reports it is written, the reaction to a
hold when the write is acknowledged. It decides nothing, and keeps only the state it needs to count a thing once.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from modelsync.api.kinds import Key, Object, uid_of
from modelsync.api.pod_contract import ALREADY_PUBLISHED, PULLED
from modelsync.api.status import ModelDeploymentStatus, SilencedStatus
from modelsync.observe.pulls import UNTOLD, ended_pulls
from modelsync.puller.errors import OUTCOMES
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import (
    Action,
    Finished,
    Observed,
    Outcome,
    Plan,
    PointService,
    RemoveRoute,
    Revision,
    SetRoute,
)
from modelsync.telemetry import catalogue
from modelsync.telemetry.fleet import snapshot_of
from modelsync.telemetry.metrics import CONTROLLER, Metrics

KNOWN_PULLS = frozenset({PULLED, ALREADY_PUBLISHED, UNTOLD, *(outcome for outcome, _, _ in OUTCOMES)})
"""Outcomes used as label values. Pods report the outcome, and could otherwise create series with any text."""


class Instrumentation:
    """Records metrics of passes. `now` is the clock."""

    def __init__(self, metrics: Metrics, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._metrics = metrics
        self._now = now
        self._started_at = now().replace(microsecond=0)
        self._exposed: dict[Key, dict[Revision, datetime]] = {}
        """Held revisions that still get requests, and since when."""
        self._pulls: dict[Key, set[tuple[str, str, datetime]]] = {}
        """Pulls that were counted and that a pod's status still contains."""

    def on_decided(
        self,
        key: Key,
        observed: Observed,
        plan: Plan,
        status: ModelDeploymentStatus,
        *,
        alias: str,
        pods: Sequence[Object] = (),
    ) -> None:
        """Record the outcome of a pass's decision."""
        facts = Facts(observed, plan.state.holds)
        exposed = self._note_exposed(key, plan, facts)
        snapshot = snapshot_of(
            status,
            alias=alias,
            drifting_since=_drifting_since(facts, plan, status),
            held_exposed_since=min(exposed.values(), default=None),
        )
        self._metrics.fleet.update(key, snapshot)
        self._count_pulls(key, pods)

    def on_unreadable_spec(self, key: Key, status: ModelDeploymentStatus) -> None:
        """Record the status of a ModelDeployment whose spec cannot be read."""
        self._metrics.fleet.update(key, snapshot_of(status, alias=""))

    def on_action_done(self, key: Key, observed: Observed, plan: Plan, action: Action) -> None:
        """Record that the API server acknowledged the writes of `action`."""
        exposed = self._exposed.get(key)
        if not exposed:
            return
        facts = Facts(observed, plan.state.holds)
        for revision in _unreachable_after(facts, action) & exposed.keys():
            reaction = (self._now() - exposed.pop(revision)).total_seconds()
            self._metrics.observe(catalogue.HOLD_REACTION, reaction, stage="RouteSafe")

    def on_status_written(self, before: ModelDeploymentStatus, plan: Plan, status: ModelDeploymentStatus) -> None:
        """Record that `status` was written in place of `before`."""
        entries = status.history[-len(plan.finished) :] if plan.finished else ()
        for finished, entry in zip(plan.finished, entries, strict=False):
            self._metrics.count(catalogue.ROLLOUTS, outcome=finished.outcome.value, trigger=entry.trigger)
            took = (self._now() - finished.started_at).total_seconds()
            self._metrics.observe(catalogue.ROLLOUT_TIME, took, outcome=finished.outcome.value)
            self._measure_drift(finished, entry.trigger, status)
        old, new = before.resolved, status.resolved
        if old is not None and new is not None and old.first_seen != new.first_seen:
            self._metrics.count(catalogue.ALIAS_MOVES)
        whole_before = {(each.revision, each.held_since) for each in before.silenced if _is_whole(each)}
        for silenced in filter(_is_whole, status.silenced):
            if (silenced.revision, silenced.held_since) not in whole_before:
                last = silenced.last_byte or silenced.held_since
                took = (last - silenced.held_since).total_seconds()
                self._metrics.observe(catalogue.HOLD_REACTION, took, stage="LastByte")

    def on_pass_ended(self, result: str, took: timedelta) -> None:
        """Record the result and the duration of a pass."""
        self._metrics.count(catalogue.RECONCILE_TOTAL, controller=CONTROLLER, result=result)
        self._metrics.observe(catalogue.RECONCILE_TIME, took.total_seconds(), controller=CONTROLLER)
        if result == "error":
            self._metrics.count(catalogue.RECONCILE_ERRORS, controller=CONTROLLER)

    def forget(self, key: Key) -> None:
        """Drop the series and the state of a ModelDeployment that was deleted."""
        self._metrics.fleet.forget(key)
        self._exposed.pop(key, None)
        self._pulls.pop(key, None)

    def _note_exposed(self, key: Key, plan: Plan, facts: Facts) -> Mapping[Revision, datetime]:
        found = {view for view in facts.views if facts.held(view) and facts.exposed(view)}
        if not found:
            self._exposed.pop(key, None)
            return {}
        known = self._exposed.setdefault(key, {})
        for revision in known.keys() - found:
            del known[revision]
        for revision in found - known.keys():
            known[revision] = self._reachable_since(plan, facts, revision)
        return known

    def _reachable_since(self, plan: Plan, facts: Facts, revision: Revision) -> datetime:
        """The time when a held revision became reachable.

        For a new hold that is the time of the registry request that showed it. Under an older hold, somebody has just
        reopened the route, or a previous leader left it open; either way it was first seen now.
        """
        digests = facts.view(revision).digests
        old = facts.observed.state.holds
        new = [hold.since for hold in plan.state.holds if hold.mark.digest in digests and hold not in old]
        return min(new, default=self._now())

    def _count_pulls(self, key: Key, pods: Sequence[Object]) -> None:
        seen = {(uid_of(pod), pull.container, pull.at): pull for pod in pods for pull in ended_pulls(pod)}
        counted = self._pulls.get(key, set())
        for name in seen.keys() - counted:
            pull = seen[name]
            if pull.at < self._started_at:
                continue  # the previous leader has counted it
            self._metrics.count(catalogue.PULLS, outcome=pull.outcome if pull.outcome in KNOWN_PULLS else "Other")
            self._metrics.count(catalogue.PULLED_BYTES, pull.fetched)
            if pull.outcome == PULLED:
                self._metrics.observe(catalogue.PULL_TIME, pull.seconds)
        if seen:
            self._pulls[key] = set(seen)
        else:
            self._pulls.pop(key, None)

    def _measure_drift(self, finished: Finished, trigger: str, status: ModelDeploymentStatus) -> None:
        """Measure only rollouts that an alias change triggered: spec changes and holds involve no alias change."""
        resolved = status.resolved
        if finished.outcome is not Outcome.PROMOTED or trigger != "Alias" or resolved is None:
            return
        if resolved.revision == finished.revision:
            took = (self._now() - resolved.first_seen).total_seconds()
            self._metrics.observe(catalogue.ALIAS_SERVED, took, move=finished.reason)


def _drifting_since(facts: Facts, plan: Plan, status: ModelDeploymentStatus) -> datetime | None:
    resolved, stable = status.resolved, plan.state.stable
    if resolved is None or facts.held(resolved.revision):
        return None
    if stable is not None and facts.view(stable).content == resolved.content:
        return None
    return resolved.first_seen


def _unreachable_after(facts: Facts, action: Action) -> set[Revision]:
    """Return the revisions that get no more requests after the action. With a gateway, requests arrive by the route."""
    reached = {view for view in facts.views if facts.exposed(view)}
    match action:
        case SetRoute() if facts.policy.gateway:
            return {each for each in reached if not action.routing.weight(each) and not action.routing.rules_to(each)}
        case RemoveRoute():
            return {each for each in reached if facts.observed.service != each}
        case PointService(revision) if not facts.policy.gateway:
            return reached - {revision}
    return set()


def _is_whole(silenced: SilencedStatus) -> bool:
    return silenced.acknowledged == silenced.pods
