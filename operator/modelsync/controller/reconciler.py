"""One pass over one ModelDeployment: observe, plan, write the status, apply the actions.

Cached objects are used to find out whether there is anything to write; what is written is decided on live objects. The
reconciler must not keep state that would be missed after a restart, and decides nothing itself: it passes observations
to the planner and actions to `Applier`.
"""

import asyncio
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from modelsync.api.conditions import ConditionType, find
from modelsync.api.kinds import MODEL_DEPLOYMENT, Key, Object
from modelsync.api.reasons import Reason
from modelsync.api.settings import OperatorSettings
from modelsync.cluster.cache import Cache
from modelsync.cluster.credentials import RegistryConfigError, RegistryCredentials
from modelsync.cluster.errors import ClusterError, ConflictError, NotFoundError, NotLeadingError, UnavailableError
from modelsync.cluster.event_recorder import Recorder
from modelsync.cluster.families import CachedFamilies, LiveFamilies
from modelsync.controller.hold_guard import Group, HoldGuard
from modelsync.controller.instrumentation import Instrumentation
from modelsync.controller.log_fields import action_text, event_text
from modelsync.controller.workqueue import ShutDownError, WorkQueue
from modelsync.effects.adapter_reader import AdapterReader
from modelsync.effects.apply import Applier
from modelsync.effects.exams import ExamPoller
from modelsync.effects.silences import Silences
from modelsync.observe.adapters import Known
from modelsync.observe.adoption import adoptable
from modelsync.observe.answers import OWN_CREDENTIAL_REFUSED
from modelsync.observe.assembly import all_children
from modelsync.observe.family import Family
from modelsync.observe.gather import Gathered, gather
from modelsync.observe.hold_watch import places, watches
from modelsync.observe.sightings import Sightings
from modelsync.observe.spec_status import Read, UnreadableError, read, status_of
from modelsync.observe.unplanned import orphans_beside, unplanned_of
from modelsync.observe.upkeep import upkeep
from modelsync.policy.effective import capped
from modelsync.registry.graphql import clock
from modelsync.registry.poller import Poller, Subscription
from modelsync.report.report import Report, report, unreadable_spec
from modelsync.resources.objects import Owner
from modelsync.rollout.facts import Facts
from modelsync.rollout.model import Action, Hold, Plan, Problem, RegistryOutcome
from modelsync.rollout.plan import plan
from modelsync.rollout.state import load

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Decision:
    """What was observed in a pass, and what follows from it."""

    gathered: Gathered
    plan: Plan
    report: Report
    status: Mapping[str, Any]
    """The report's status as JSON."""

    @property
    def writes(self) -> bool:
        """Whether there is anything to write."""
        return self.new_status or bool(self.plan.actions) or bool(upkeep(self.gathered, self.plan.state))

    @property
    def new_status(self) -> bool:
        """Whether the status has to be written.

        The status of a previous leader is not replaced only because this process has not queried the registry yet: the
        first answer, whatever it is, queues the key again.
        """
        read, observed = self.gathered.read, self.gathered.observed
        pending = observed.registry.outcome is RegistryOutcome.PENDING
        current = read.status.observed_generation == observed.generation and bool(read.status.conditions)
        if pending and current and not self.plan.actions and self.plan.state == read.state:
            return False
        return self.status != (self.gathered.read.family.owner.get("status") or {})


class Reconciler:
    """Works on keys of the queue. `epoch` identifies this term of leadership; objects are stamped with it before the
    first action."""

    def __init__(
        self,
        *,
        cache: Cache,
        cached: CachedFamilies,
        live: LiveFamilies,
        applier: Applier,
        silences: Silences,
        recorder: Recorder,
        credentials: RegistryCredentials,
        poller: Poller,
        guard: HoldGuard,
        adapters: AdapterReader,
        queue: WorkQueue[Key],
        settings: OperatorSettings,
        epoch: str,
        exams: ExamPoller,
        instrumentation: Instrumentation,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cache = cache
        self._cached = cached
        self._live = live
        self._applier = applier
        self._silences = silences
        self._recorder = recorder
        self._credentials = credentials
        self._poller = poller
        self._guard = guard
        self._adapters = adapters
        self._queue = queue
        self._settings = settings
        self._epoch = epoch
        self._exams = exams
        self._instrumentation = instrumentation
        self._now = now
        self._sightings = Sightings()
        self._uids: dict[Key, str] = {}
        self._stamped: set[str] = set()
        self._refused_writes: dict[Key, Problem] = {}

    async def work(self) -> None:
        """Take keys from the queue until it is shut down."""
        while True:
            try:
                key = await self._queue.get()
            except ShutDownError:
                return
            try:
                await self._work_on(key)
            finally:
                self._queue.done(key)

    async def reconcile(self, key: Key) -> timedelta | None:
        """Run one pass over `key`. Returns after which delay the next pass is due even without an event, or None.

        Raises ClusterErrors and UnreadableError.
        """
        family = self._cached.family(key)
        if family is None or _is_being_deleted(family.owner):
            await self._without_plan(key, family)
            return None
        self._uids[key] = family.uid
        family = await self._with_orphans_adopted(family)
        decision = await self._decide(family)
        if decision.writes:
            found = await self._live.family(family)
            if found is None:
                # It was deleted; the watch event has not arrived, or never will.
                self._cache.put(MODEL_DEPLOYMENT, family.owner, deleted=True)
                await self._without_plan(key, None)
                return None
            decision = await self._act(found)
        if decision.plan.look:
            self._poller.look(key)
            self._guard.look(key)
        return decision.plan.requeue_after

    async def _work_on(self, key: Key) -> None:
        with structlog.contextvars.bound_contextvars(namespace=key.namespace, name=key.name):
            started, result = time.monotonic(), "error"
            try:
                delay = await self.reconcile(key)
            except NotLeadingError as error:
                log.warning("reconcile.stopped", problem=str(error))
            except (ConflictError, NotFoundError) as error:
                # Another client wrote or deleted the object: retry soon, with back-off if it happens again.
                log.debug("reconcile.conflict", problem=str(error))
                result = "requeue"
                self._queue.retry(key)
            except UnavailableError as error:
                wait = self._queue.retry(key, at_least=error.retry_after or timedelta(0))
                log.warning("reconcile.unavailable", problem=str(error), retry_seconds=round(wait.total_seconds(), 1))
            except ClusterError as error:
                wait = self._queue.retry(key)
                log.warning("reconcile.refused", problem=str(error), retry_seconds=round(wait.total_seconds(), 1))
            except UnreadableError as error:
                log.warning("reconcile.unreadable", problem=str(error))
                try:
                    await self._report_unreadable(key, str(error))
                except ClusterError as write_error:
                    wait = self._queue.retry(key)
                    log.warning(
                        "reconcile.refused", problem=str(write_error), retry_seconds=round(wait.total_seconds(), 1)
                    )
                else:
                    result = "success"  # the error is in the spec, and its author sees it in the status
            except Exception as error:
                # A defect must not stop other keys. Its location is logged, and at level debug its traceback.
                wait = self._queue.retry(key)
                where = traceback.extract_tb(error.__traceback__)[-1]
                log.error(
                    "reconcile.failed",
                    problem=f"{type(error).__name__}: {error}",
                    where=f"{where.filename.rpartition('modelsync/')[2]}:{where.lineno}",
                    retry_seconds=round(wait.total_seconds(), 1),
                )
                log.debug("reconcile.traceback", exc_info=True)
            else:
                result = "success" if delay is None else "requeue_after"
                self._queue.succeeded(key)
                if delay is not None:
                    self._queue.add_after(key, delay)
            self._instrumentation.on_pass_ended(result, timedelta(seconds=time.monotonic() - started))

    async def _without_plan(self, key: Key, family: Family | None) -> None:
        """What is done for a ModelDeployment that is gone (`family` is None) or is being deleted: only holds act."""
        self._forget(key)
        if family is None:
            self._guard.release(key, Group.UNPLANNED)
            orphans = self._cached.orphans(key)
            if not orphans.serves:
                self._queue.forget(key)
            await self._guard.act(orphans, Group.ORPHANS, about=None)
        else:
            await self._hold_without_plan(family)

    async def _hold_without_plan(self, family: Family) -> None:
        await self._guard.act(unplanned_of(family, _latched(family)), Group.UNPLANNED, about=family.owner)

    async def _with_orphans_adopted(self, family: Family) -> Family:
        """Adopt orphans that verify, and return the family with them. What does not verify is watched for holds.

        A plan always follows: somebody who keeps taking the owner away must not keep a hold from acting.
        """
        if not family.foreign and family.foreign_route is None:
            self._guard.release(family.key, Group.ORPHANS)
            return family
        orphans = adoptable(family.key.name, all_children(family), family.foreign_route)
        if orphans:
            try:
                await self._applier.adopt(Owner.of(family.owner), orphans)
            except (UnavailableError, NotLeadingError):
                raise
            except ConflictError as error:
                log.warning("orphan.not_adopted", problem=str(error))
                self._queue.retry(family.key)
            except ClusterError as error:
                log.warning("orphan.not_adopted", problem=str(error))  # refused by admission, for example
            family = self._cached.family(family.key) or family
        await self._guard.act(orphans_beside(family), Group.ORPHANS, about=family.owner)
        return family

    async def _decide(self, family: Family) -> Decision:
        """Decide what to do. Raises ClusterErrors, UnreadableError and whatever a defect raises; before the last two,
        what is held is silenced."""
        try:
            decision = await self._planned(family)
        except ClusterError:
            raise
        except Exception:
            await self._hold_without_plan(family)
            raise
        self._guard.release(family.key, Group.UNPLANNED)
        return decision

    async def _planned(self, family: Family) -> Decision:
        found = self._with_usable_credential(read(family, self._settings))
        refusal = found.not_to_ask
        subscription: Subscription | None = None
        adapters: Known = {}
        if found.registry is not None:
            try:
                own = found.own is not None
                registry = capped(found.own or found.registry, self._settings)
                subscription = await self._credentials.subscription(family.key, registry, found.question, own=own)
            except RegistryConfigError as error:
                refusal = str(error) if not own else OWN_CREDENTIAL_REFUSED
            else:
                self._poller.subscribe(family.key, subscription)
                if found.spec.serving.lora:
                    adapters = self._adapters.known(subscription)
                refusal = self._credentials.credential_problem(family.key, registry, own=own)
        else:
            self._poller.unsubscribe(family.key)
        watched = await self._guard.watch(family.key, watches(found, self._settings))
        answers = self._poller.snapshot(family.key)
        gathered = gather(
            found,
            settings=self._settings,
            answers=answers,
            watched=watched,
            marks=self._guard.marks(family.key, places(found, answers), found.state.holds),
            refusal=refusal,
            sightings=self._sightings,
            now=self._now(),
            instant=clock(),
            exams=self._exams.poll(family.key, family.pods),
            adapters=adapters,
        )
        if subscription is not None and gathered.pinned is not None:
            for artifact in gathered.pinned.lora.to_read:
                self._adapters.request(family.key, subscription, artifact)
        decided = plan(gathered.observed)
        facts = Facts(gathered.observed, decided.state.holds)
        self._silences.keep_only(family.uid, frozenset(filter(facts.held, gathered.observed.revisions)))
        found_report = self._report(gathered, decided)
        status = found_report.status
        alias, pods = str(found.spec.model_ref), family.pods
        self._instrumentation.on_decided(family.key, gathered.observed, decided, status, alias=alias, pods=pods)
        return Decision(gathered, decided, found_report, status.wire())

    def _with_usable_credential(self, found: Read) -> Read:
        """Without the operator's own credential while it cannot be read: then the tenant's Secret is used as before."""
        if found.own is None:
            return found
        problem = self._credentials.credential_problem(found.family.key, found.own, own=True)
        if problem is None:
            return found
        log.warning("own_credential.unavailable", server=found.own.base_url, problem=problem)
        return replace(found, own=None)

    def _report(self, gathered: Gathered, decided: Plan) -> Report:
        observed = gathered.observed
        # A refused write is reported, but not passed to the planner: only a retry shows whether it is still refused.
        if (refused := self._refused_writes.get(gathered.read.family.key)) is not None:
            observed = replace(observed, problems=(*observed.problems, refused))
        return report(
            observed,
            decided,
            gathered.read.status,
            name=gathered.read.owner.name,
            registry=gathered.registry,
            resolved=gathered.resolved,
            pods=gathered.pods,
            url=gathered.url,
            silences=self._silences.of(gathered.read.family.uid),
        )

    async def _act(self, family: Family) -> Decision:
        started = time.monotonic()
        decision = await self._decide(family)
        if decision.plan.actions and family.uid not in self._stamped and await self._stamp(decision):
            again = await self._live.family(family)
            if again is None:
                return decision
            decision = await self._decide(again)
        failed: Exception | None = None
        wrote_status = False
        try:
            if decision.new_status:
                await self._applier.write_status(decision.gathered.read.family.owner, decision.status)
                wrote_status = True
                self._instrumentation.on_status_written(
                    decision.gathered.read.status, decision.plan, decision.report.status
                )
        except ClusterError as error:
            if not decision.plan.urgent or isinstance(error, NotLeadingError):
                raise
            failed = error  # a refused status must not stop a hold
        done: tuple[Action, ...] = ()
        kept_up, applied = 0, False
        try:
            done, kept_up = await self._apply(decision)
            applied = True
        except Exception as error:
            failed = error
        if wrote_status or applied:
            # A later pass does not see this status change again: record its events now, even if actions failed.
            owner = decision.gathered.read.family.owner
            await asyncio.gather(*(self._recorder.record(owner, event) for event in decision.report.events))
        if wrote_status or done or kept_up:
            log.info(
                "reconciled",
                phase=decision.status.get("phase"),
                reason=ready.reason
                if (ready := find(decision.report.status.conditions, ConditionType.READY))
                else None,
                stable=decision.plan.state.stable,
                moving=move.revision if (move := decision.plan.state.canary or decision.plan.state.target) else None,
                generation=decision.gathered.observed.generation,
                actions=[action_text(action) for action in done],
                events=[event_text(event) for event in decision.report.events],
                kept_up=kept_up,
                status=wrote_status,
                milliseconds=round((time.monotonic() - started) * 1000),
            )
        if failed is not None:
            raise failed
        if wrote_status or done or kept_up:
            # The cache already contains what was written; the next step need not wait for the watch.
            self._queue.add(family.key)
        return decision

    async def _stamp(self, decision: Decision) -> bool:
        """Stamp the objects before the first actions of this term of leadership. Returns whether what was read is stale
        now."""
        try:
            stamped = await self._applier.stamp(decision.gathered, self._epoch)
        except ClusterError as error:
            if not decision.plan.urgent or isinstance(error, NotLeadingError):
                raise
            # A hold must not wait for the stamp. Some objects may have got it, so everything has to be read again.
            log.warning("stamp.failed", problem=str(error))
            return True
        self._stamped.add(decision.gathered.read.family.uid)
        return stamped

    async def _apply(self, decision: Decision) -> tuple[tuple[Action, ...], int]:
        """Returns the actions that were done or started, and the number of objects that upkeep wrote."""
        key = decision.gathered.read.family.key
        try:
            done: tuple[Action, ...] = ()
            kept_up = 0
            if decision.plan.actions:
                done = await self._applier.apply(decision.gathered, decision.plan)
            else:
                kept_up = await self._applier.apply_upkeep(decision.gathered, decision.plan.state)
        except (ConflictError, NotFoundError, UnavailableError, NotLeadingError):
            raise
        except ClusterError as error:
            self._refused_writes[key] = Problem(Reason.WRITE_REFUSED, str(error))
            raise
        if self._refused_writes.pop(key, None) is not None:
            self._queue.add(key)
        return done, kept_up

    async def _report_unreadable(self, key: Key, message: str) -> None:
        """Write the problem of a spec that cannot be read to the status."""
        known = self._cached.family(key)
        family = await self._live.family(known) if known is not None else None
        if family is None:
            return
        generation = int(family.owner["metadata"].get("generation") or 0)
        found = unreadable_spec(status_of(family), generation=generation, message=message, now=self._now())
        self._instrumentation.on_unreadable_spec(key, found.status)
        if found.status.wire() != (family.owner.get("status") or {}):
            await self._applier.write_status(family.owner, found.status.wire())
            for event in found.events:
                await self._recorder.record(family.owner, event)

    def _forget(self, key: Key) -> None:
        self._poller.unsubscribe(key)
        self._guard.release(key, Group.PLANNED)
        self._instrumentation.forget(key)
        self._exams.forget(key)
        self._refused_writes.pop(key, None)
        if (uid := self._uids.pop(key, None)) is not None:
            self._sightings.forget(uid)
            self._silences.forget(uid)
            self._stamped.discard(uid)


def _is_being_deleted(owner: Object) -> bool:
    """Such a ModelDeployment gets no plan: only holds act, and the garbage collector deletes its children."""
    return bool(owner["metadata"].get("deletionTimestamp"))


def _latched(family: Family) -> tuple[Hold, ...]:
    """The holds in the status; never raises, since a hold must not depend on the rest of an object."""
    try:
        return load(status_of(family)).holds
    except Exception as error:
        log.error("status.unreadable", problem=f"{type(error).__name__}: {error}")
        return ()
