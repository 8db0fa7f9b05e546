"""The only writer: sends a plan's actions as requests, with the state they were decided on as their precondition.

Children are written with server-side apply, in full, and only when they differ. Objects that the ModelDeployment does
not own (by owner uid) must never be touched. Actions are carried out in the planner's order. Nothing is decided here.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from modelsync.api import names
from modelsync.api.kinds import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    MODEL_DEPLOYMENT,
    SECRET,
    SERVICE,
    Key,
    Kind,
    Object,
    annotations_of,
    is_controlled_by,
    labels_of,
    name_of,
    uid_of,
)
from modelsync.api.routing import Routing
from modelsync.api.settings import OperatorSettings
from modelsync.cluster.cache import Cache
from modelsync.cluster.client import Cluster
from modelsync.cluster.errors import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    NotFoundError,
    UnavailableError,
)
from modelsync.effects.adopt import adopt
from modelsync.effects.cut_off import Cutter, token_of
from modelsync.observe.gather import Gathered
from modelsync.observe.route import hold_annotation
from modelsync.observe.upkeep import is_as_wanted, upkeep
from modelsync.resources.children import (
    blocked_service,
    deployment,
    fuse_secret,
    plain_service,
    revision_service,
)
from modelsync.resources.objects import Owner
from modelsync.resources.record import Record, RecordError, record
from modelsync.resources.route import http_route
from modelsync.rollout.model import (
    BLOCKED,
    Action,
    CutOff,
    EnsureRevision,
    Observed,
    Plan,
    PointService,
    Remove,
    RemoveRoute,
    Revision,
    Scale,
    SetRoute,
    State,
)

log = structlog.get_logger(__name__)


class ForeignObjectError(ClusterError):
    """A name that we need belongs to an object that the ModelDeployment does not own; it is not changed."""


class RecordLostError(ClusterError):
    """A revision is needed again, but its record was deleted or cannot be read."""


class Applier:
    """Carries out plans.

    `retry` queues a key again after its back-off, `requeue` queues it at once. `on_action_done` is called for each
    action of a plan after the API server has acknowledged its writes.
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        settings: OperatorSettings,
        *,
        cutter: Cutter,
        retry: Callable[[Key], object],
        requeue: Callable[[Key], object],
        on_action_done: Callable[[Key, Observed, Plan, Action], None] = lambda *_: None,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._settings = settings
        self._cutter = cutter
        self._retry = retry
        self._requeue = requeue
        self._on_action_done = on_action_done
        self._cuts: dict[tuple[str, Revision], asyncio.Task[None]] = {}

    async def write_status(self, owner: Object, status: Mapping[str, Any]) -> None:
        """Write the status of `owner`. Raises ConflictError when the object has changed since it was read."""
        self._cache.put(MODEL_DEPLOYMENT, await self._cluster.replace_status(MODEL_DEPLOYMENT, owner, status))

    async def apply(self, gathered: Gathered, plan: Plan) -> tuple[Action, ...]:
        """Carry out the plan's actions in order; return those that were done or started. Raises the first ClusterError.

        Pods are cut off in a background task, because that takes a second when they do not respond, and other
        ModelDeployments affected by the same hold must not wait for it. A running cut-off is not started again. For an
        urgent plan every action is tried, even after earlier ones failed.
        """
        work = _Pass(self._cluster, self._cache, self._settings, self._cutter, gathered, plan)
        first: ClusterError | None = None
        done: list[Action] = []
        for action in plan.actions:
            if isinstance(action, CutOff):
                if self._start_cut_off(work, action):
                    done.append(action)
                continue
            try:
                await work.do(action)
                done.append(action)
                self._on_action_done(gathered.read.family.key, gathered.observed, plan, action)
            except ClusterError as error:
                if not plan.urgent:
                    raise
                log.error("apply.failed", action=repr(action), problem=str(error))
                first = first or error
        if first is not None:
            raise first
        return tuple(done)

    async def adopt(self, owner: Owner, orphans: Iterable[tuple[Kind, Object]]) -> None:
        """Make `owner` the controller of `orphans`. Raises ClusterErrors."""
        await adopt(self._cluster, self._cache, owner, orphans)

    async def finish(self, timeout: timedelta) -> None:
        """Wait for running cut-offs, at most `timeout`."""
        if self._cuts:
            await asyncio.wait(self._cuts.values(), timeout=timeout.total_seconds())

    def _start_cut_off(self, work: "_Pass", action: CutOff) -> bool:
        """Start a cut-off unless one is running: plans repeat the action until the pods are gone. Returns whether it
        started."""
        family = work.gathered.read.family
        name = (family.uid, action.revision)
        if name in self._cuts:
            return False

        async def cut() -> None:
            try:
                await work.do(action)
                self._requeue(family.key)
            except Exception as error:  # a background task: nothing else would log or retry this
                log.error("apply.failed", revision=action.revision, action=repr(action), problem=str(error))
                self._retry(family.key)
            finally:
                del self._cuts[name]

        self._cuts[name] = asyncio.create_task(cut(), name=f"cut-{family.key}-{action.revision}")
        return True

    async def apply_upkeep(self, gathered: Gathered, state: State) -> int:
        """Write what `upkeep` returns; return the number of objects written. Raises the first ClusterError."""
        work = _Pass(self._cluster, self._cache, self._settings, self._cutter, gathered, Plan(state))
        written = 0
        for piece in upkeep(gathered, state):
            written += await work.put(piece.kind, piece.wanted, piece.live)
        return written

    async def stamp(self, gathered: Gathered, epoch: str) -> bool:
        """Stamp the family with this term of leadership, so that a late write of the previous leader conflicts.

        Returns whether anything was stamped; the objects that were read before are then stale. Raises ClusterErrors.
        """
        family = gathered.read.family
        objects = [
            (MODEL_DEPLOYMENT, family.owner),
            *((DEPLOYMENT, each) for each in family.deployments.values()),
            *((SERVICE, each) for each in family.services.values()),
            *([(HTTP_ROUTE, family.route)] if family.route is not None else []),
        ]
        stale = [
            (kind, obj) for kind, obj in objects if annotations_of(obj).get(names.LEADER_EPOCH_ANNOTATION) != epoch
        ]
        patch = {"metadata": {"annotations": {names.LEADER_EPOCH_ANNOTATION: epoch}}}

        async def one(kind: Kind, obj: Object) -> None:
            try:
                written = await self._cluster.merge(kind, family.key.namespace, name_of(obj), patch)
            except NotFoundError:
                return
            self._cache.put(kind, written)

        await asyncio.gather(*(one(kind, obj) for kind, obj in stale))
        return bool(stale)


@dataclass(slots=True)
class _Pass:
    """The writes of one pass over one ModelDeployment."""

    cluster: Cluster
    cache: Cache
    settings: OperatorSettings
    cutter: Cutter
    gathered: Gathered
    plan: Plan

    async def do(self, action: Action) -> None:
        match action:
            case EnsureRevision(revision, replicas):
                await self._ensure(revision, replicas)
            case Scale(revision, replicas):
                await self._scale(revision, replicas)
            case SetRoute():
                await self._set_route(action.routing)
            case RemoveRoute():
                await self._delete(HTTP_ROUTE, self.gathered.read.family.route)
            case PointService(revision):
                await self.put(SERVICE, plain_service(self._owner, revision), self._service(self._owner.name))
            case CutOff(revision):
                await self._cut_off(revision)
            case Remove(revision, forget):
                await self._remove(revision, forget=forget)

    # --- actions ---

    async def _ensure(self, revision: Revision, replicas: int) -> None:
        found = self.gathered.read.records.get(revision) or await self._write_record(revision)
        child = names.child(self._owner.name, revision)
        await self.put(SERVICE, revision_service(self._owner, revision), self._service(child))
        await self.put(DEPLOYMENT, deployment(found, replicas), self._deployment(revision))

    async def _scale(self, revision: Revision, replicas: int) -> None:
        live = self._deployment(revision)
        if live is None:
            return
        found = self.gathered.read.records.get(revision)
        if found is not None:
            await self.put(DEPLOYMENT, deployment(found, replicas), live)
            return
        # Without its record the Deployment cannot be rendered, but the number of replicas can be set.
        patch = {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "spec": {"replicas": replicas}}
        self.cache.put(DEPLOYMENT, await self.cluster.merge(DEPLOYMENT, self._owner.namespace, name_of(live), patch))

    async def _set_route(self, routing: Routing) -> None:
        traffic = self.gathered.read.spec.traffic
        if traffic.gateway is None:
            return
        if routing.lists(BLOCKED):
            await self._ensure_blocked_service()
        hold = hold_annotation(self.plan.state.holds)
        live = self.gathered.read.family.route
        # A hold is written even to a route that must not be written; the host names of others must not come with it.
        forbidden = any(problem.blocks_route for problem in self.gathered.read.problems)
        route = http_route(self._owner, traffic, routing, hold=hold, within=live if forbidden else None)
        await self.put(HTTP_ROUTE, route, live)

    async def _cut_off(self, revision: Revision) -> None:
        family = self.gathered.read.family
        pods = [pod for pod in family.pods if labels_of(pod).get(names.REVISION_LABEL) == revision]
        await self.cutter.cut_off(family.key, family.uid, revision, pods, scale_down=lambda: self._scale(revision, 0))

    async def _remove(self, revision: Revision, *, forget: bool) -> None:
        await self._delete(DEPLOYMENT, self._deployment(revision))
        await self._delete(SERVICE, self._service(names.child(self._owner.name, revision)))
        if forget:
            child = names.child(self._owner.name, revision)
            await self._delete(CONTROLLER_REVISION, self.gathered.read.family.records.get(child))
            await self._delete_fuse(revision)

    async def _delete_fuse(self, revision: Revision) -> None:
        """Delete the Secret of the fuse. Somebody else's Secret of that name stays."""
        name = names.fuse_secret(self._owner.name, revision)
        found = await self.cluster.find(SECRET, self._owner.namespace, name)
        if found is not None and is_controlled_by(found, self._owner.uid):
            await self.cluster.delete(SECRET, self._owner.namespace, name, uid=uid_of(found))

    # --- records ---

    async def _write_record(self, revision: Revision) -> Record:
        read, pinned = self.gathered.read, self.gathered.pinned
        if pinned is None or pinned.revision != revision:
            raise RecordLostError(
                f"revision {revision} of {read.family.key} cannot be started: its record (ControllerRevision "
                f"{names.child(self._owner.name, revision)}) was deleted; point the alias at a version to recreate it"
            )
        if pinned.lora.to_read or pinned.lora.problem is not None:
            raise UnavailableError(
                f"revision {revision} of {read.family.key} cannot be started before its adapters have been read"
            )
        token = await self._fuse_token(revision)
        body = record(
            self._owner,
            pinned.inputs,
            pinned.artifact,
            read.spec,
            self.settings,
            fuse_sha256=hashlib.sha256(token.encode()).hexdigest(),
            others=pinned.others,
            lora_rank=pinned.lora.rank,
            # The record of what runs was lost: it is watched for holds where it was pulled from, not where the spec
            # would pull from now.
            registry=lost.registry if (lost := read.unrecorded.get(revision)) is not None else None,
        )
        try:
            written = await self.cluster.create(CONTROLLER_REVISION, self._owner.namespace, body)
        except AlreadyExistsError:
            # Written by an earlier pass that stopped here, or missing in a stale read. It is immutable, so use it.
            written = await self._own(CONTROLLER_REVISION, name_of(body))
            if labels_of(written).get(names.NAME_LABEL) != self._owner.name:
                # Without its label no watch shows it, and each pass would find it missing again.
                labels = {"metadata": {"labels": body["metadata"]["labels"]}}
                written = await self.cluster.merge(CONTROLLER_REVISION, self._owner.namespace, name_of(body), labels)
        self.cache.put(CONTROLLER_REVISION, written)
        try:
            return Record.parse(written)
        except RecordError as error:
            raise RecordLostError(str(error)) from None

    async def _fuse_token(self, revision: Revision) -> str:
        """Return the token of the revision's fuse. It is created once, since the record holds its hash."""
        token = secrets.token_urlsafe(32)
        body = fuse_secret(self._owner, revision, token)
        try:
            await self.cluster.create(SECRET, self._owner.namespace, body)
        except AlreadyExistsError:
            return token_of(await self._own(SECRET, name_of(body)))
        return token

    async def _own(self, kind: Kind, name: str) -> Object:
        """Read the object that has the name. Raises ForeignObjectError unless the ModelDeployment owns it."""
        found = await self.cluster.get(kind, self._owner.namespace, name)
        self._check_own(kind, found)
        return found

    # --- objects ---

    async def put(self, kind: Kind, wanted: Object, live: Object | None) -> bool:
        """Write `wanted` unless `live` already matches it. Returns whether it was written."""
        if is_as_wanted(kind, live, wanted):
            return False
        namespace = self._owner.namespace
        if live is None:
            existing = await self.cluster.find(kind, namespace, name_of(wanted))
            if existing is not None:
                self._check_own(kind, existing)
                live = existing
        try:
            written = await self.cluster.apply(kind, namespace, wanted, read=live)
        except ConflictError:
            # Removing exposure of a held revision is right whatever the other writer changed.
            if not self.plan.urgent or live is None:
                raise
            written = await self.cluster.apply(kind, namespace, wanted)
        self.cache.put(kind, written)
        return True

    async def _delete(self, kind: Kind, live: Object | None) -> None:
        if live is None:
            return
        await self.cluster.delete(kind, self._owner.namespace, name_of(live), read=live)
        if not live["metadata"].get("finalizers"):
            self.cache.put(kind, live, deleted=True)

    async def _ensure_blocked_service(self) -> bool:
        name = names.child(self._owner.name, BLOCKED)
        return await self.put(SERVICE, blocked_service(self._owner), self._service(name))

    def _check_own(self, kind: Kind, found: Object) -> None:
        if not is_controlled_by(found, self._owner.uid):
            raise ForeignObjectError(
                f"{kind} {self._owner.namespace}/{name_of(found)} already exists and is not owned by this "
                f"{names.KIND}, so it is not changed: delete it, or choose another name for the {names.KIND}"
            )

    @property
    def _owner(self) -> Owner:
        return self.gathered.read.owner

    def _service(self, name: str) -> Object | None:
        return self.gathered.read.family.services.get(name)

    def _deployment(self, revision: Revision) -> Object | None:
        return self.gathered.read.family.deployments.get(names.child(self._owner.name, revision))
