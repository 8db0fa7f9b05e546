"""The only writer: actions of a plan as requests, each with the state that it was decided on as its precondition.

Children are written whole by server-side apply and only when they differ; what is not the ModelDeployment's own (by
owner uid) is never touched. The order of the actions is the planner's and is kept. Nothing is decided here.
"""

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from modelsync.api import names
from modelsync.api.kinds import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    MODEL_DEPLOYMENT,
    POD,
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
from modelsync.effects import fuse
from modelsync.effects.silences import Silences
from modelsync.observe.fuse import Acknowledgement
from modelsync.observe.gather import Gathered
from modelsync.observe.pods import CUT_GRACE
from modelsync.observe.route import hold_annotation
from modelsync.observe.upkeep import is_as_wanted, upkeep
from modelsync.resources.objects import Owner
from modelsync.resources.record import Record, RecordError, record
from modelsync.resources.route import http_route
from modelsync.resources.service import blocked_service, plain_service, revision_service
from modelsync.resources.workload import FUSE_TOKEN_KEY, deployment, fuse_secret
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
    """A name that we need is taken by an object that is not ours; it is left alone."""


class RecordLostError(ClusterError):
    """A revision is to be brought up again, but its record is gone or cannot be read."""


class Applier:
    """Writes to the cluster what plans say.

    `retry` has a key worked on again, after its back-off; `look` at once, when `silences` has something new of it.
    `acted` is told of each action of a plan whose writes the API server has acknowledged.
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        settings: OperatorSettings,
        *,
        silences: Silences,
        retry: Callable[[Key], object],
        look: Callable[[Key], object],
        acted: Callable[[Key, Observed, Plan, Action], None] = lambda *_: None,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._settings = settings
        self._silences = silences
        self._retry = retry
        self._look = look
        self._acted = acted
        self._cuts: dict[tuple[str, Revision], asyncio.Task[None]] = {}

    async def write_status(self, owner: Object, status: Mapping[str, Any]) -> None:
        """Write the status of the ModelDeployment that was read as `owner`. Raises ConflictError."""
        self._cache.put(MODEL_DEPLOYMENT, await self._cluster.replace_status(MODEL_DEPLOYMENT, owner, status))

    async def apply(self, gathered: Gathered, plan: Plan) -> tuple[Action, ...]:
        """Do the plan's actions in order; return those that were done or begun: cutting off goes on by itself, and a
        plan that asks for it meanwhile gets nothing new. Raises the first ClusterError.

        Of an urgent plan every action is tried, whatever became of the ones before. Cutting pods off takes a second
        when they do not answer, and goes on by itself: the routes of others that the same hold concerns must not wait.
        """
        work = _Pass(self._cluster, self._cache, self._settings, self._silences, gathered, plan)
        first: ClusterError | None = None
        done: list[Action] = []
        for action in plan.actions:
            if isinstance(action, CutOff):
                if self._begin_cut(work, action):
                    done.append(action)
                continue
            try:
                await work.do(action)
                done.append(action)
                self._acted(gathered.read.family.key, gathered.observed, plan, action)
            except ClusterError as error:
                if not plan.urgent:
                    raise
                log.error("apply.failed", action=repr(action), problem=str(error))
                first = first or error
        if first is not None:
            raise first
        return tuple(done)

    async def finish(self, timeout: timedelta) -> None:
        """Wait until pods that are being cut off are, but not for ever."""
        if self._cuts:
            await asyncio.wait(self._cuts.values(), timeout=timeout.total_seconds())

    def _begin_cut(self, work: "_Pass", action: CutOff) -> bool:
        """Cut off once at a time; a plan asks for it again until the pods are gone. Says whether it begins now."""
        family = work.gathered.read.family
        name = (family.uid, action.revision)
        if name in self._cuts:
            return False

        async def cut() -> None:
            try:
                await work.do(action)
                self._look(family.key)
            except Exception as error:  # a task of its own: nobody else would tell or try again
                log.error("apply.failed", revision=action.revision, action=repr(action), problem=str(error))
                self._retry(family.key)
            finally:
                del self._cuts[name]

        self._cuts[name] = asyncio.create_task(cut(), name=f"cut-{family.key}-{action.revision}")
        return True

    async def keep_up(self, gathered: Gathered, state: State) -> int:
        """Write what `upkeep` finds; say how many objects were written. Raises the first ClusterError."""
        work = _Pass(self._cluster, self._cache, self._settings, self._silences, gathered, Plan(state))
        written = 0
        for piece in upkeep(gathered, state):
            written += await work.put(piece.kind, piece.wanted, piece.live)
        return written

    async def stamp(self, gathered: Gathered, epoch: str) -> bool:
        """Mark the family as touched by this leadership, so that no write of the leader before can come late.

        Returns whether anything was stamped; what was read before is then out of date. Raises ClusterErrors.
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
    silences: Silences
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
        # Without its record nothing of it can be rendered; the number of pods can be set all the same.
        patch = {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "spec": {"replicas": replicas}}
        self.cache.put(DEPLOYMENT, await self.cluster.merge(DEPLOYMENT, self._owner.namespace, name_of(live), patch))

    async def _set_route(self, routing: Routing) -> None:
        traffic = self.gathered.read.spec.traffic
        if traffic.gateway is None:
            return
        if routing.lists(BLOCKED):
            await self._ensure_blocked_service()
        hold = hold_annotation(self.plan.state.holds)
        route = http_route(self._owner, traffic, routing, hold=hold)
        await self.put(HTTP_ROUTE, route, self.gathered.read.family.route)

    async def _cut_off(self, revision: Revision) -> None:
        pods = [pod for pod in self.gathered.read.family.pods if labels_of(pod).get(names.REVISION_LABEL) == revision]
        await self._blow_fuse(revision, [pod for pod in pods if self._is_to_be_silenced(revision, pod)])
        # Scaled first, or the ReplicaSet would make a new pod for each one that goes.
        results = [await _tried(self._scale(revision, 0))]
        results += await asyncio.gather(*(_tried(self._cut(pod)) for pod in pods))
        log.info("revision.cut_off", revision=revision, pods=len(pods))
        for error in filter(None, results):
            raise error

    async def _cut(self, pod: Object) -> None:
        name = name_of(pod)
        if not await self.cluster.delete(POD, self._owner.namespace, name, uid=uid_of(pod), grace=CUT_GRACE):
            # No watch has told: without this the plan would go on cutting a ghost.
            self.cache.put(POD, pod, deleted=True)

    def _is_to_be_silenced(self, revision: Revision, pod: Object) -> bool:
        running = (pod.get("status") or {}).get("phase") == "Running"
        return running and not self.silences.is_whole(self._owner.uid, revision, uid_of(pod))

    async def _blow_fuse(self, revision: Revision, pods: list[Object]) -> None:
        if not pods:
            return
        at = datetime.now(UTC)
        answers: Mapping[str, Acknowledgement | None] = {uid_of(pod): None for pod in pods}
        try:
            secret = await self.cluster.get(
                SECRET, self._owner.namespace, names.fuse_secret(self._owner.name, revision)
            )
            answers = {**answers, **await fuse.blow(pods, _token(secret))}
        except (ClusterError, ValueError, KeyError) as error:
            log.warning("fuse.unavailable", revision=revision, problem=str(error))
        self.silences.record(self._owner.uid, revision, at, answers)

    async def _remove(self, revision: Revision, *, forget: bool) -> None:
        await self._delete(DEPLOYMENT, self._deployment(revision))
        await self._delete(SERVICE, self._service(names.child(self._owner.name, revision)))
        if forget:
            child = names.child(self._owner.name, revision)
            await self._delete(CONTROLLER_REVISION, self.gathered.read.family.records.get(child))
            secret = names.fuse_secret(self._owner.name, revision)
            await self.cluster.delete(SECRET, self._owner.namespace, secret)

    # --- records ---

    async def _write_record(self, revision: Revision) -> Record:
        read, pinned = self.gathered.read, self.gathered.pinned
        if pinned is None or pinned.revision != revision:
            raise RecordLostError(
                f"revision {revision} of {read.family.key} cannot be brought up: its record (ControllerRevision "
                f"{names.child(self._owner.name, revision)}) is gone; point the alias at a version to make it anew"
            )
        if pinned.lora.to_read or pinned.lora.problem is not None:
            raise UnavailableError(
                f"revision {revision} of {read.family.key} cannot be brought up before its adapters have been read"
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
        )
        try:
            written = await self.cluster.create(CONTROLLER_REVISION, self._owner.namespace, body)
        except AlreadyExistsError:
            # Written by a pass that ended here, or not yet in what was read: it is immutable, so it counts.
            written = await self._own(CONTROLLER_REVISION, name_of(body))
        self.cache.put(CONTROLLER_REVISION, written)
        try:
            return Record.parse(written)
        except RecordError as error:
            raise RecordLostError(str(error)) from None

    async def _fuse_token(self, revision: Revision) -> str:
        """The token of the revision's fuse; made once, since the record holds its hash."""
        token = secrets.token_urlsafe(32)
        body = fuse_secret(self._owner, revision, token)
        try:
            await self.cluster.create(SECRET, self._owner.namespace, body)
        except AlreadyExistsError:
            return _token(await self._own(SECRET, name_of(body)))
        return token

    async def _own(self, kind: Kind, name: str) -> Object:
        """Read what took the name; raise ForeignObjectError unless it is our own."""
        found = await self.cluster.get(kind, self._owner.namespace, name)
        self._check_own(kind, found)
        return found

    # --- objects ---

    async def put(self, kind: Kind, wanted: Object, live: Object | None) -> bool:
        """Write `wanted` unless `live`, as it was read, has it all; say whether it was written."""
        if is_as_wanted(kind, live, wanted):
            return False
        namespace = self._owner.namespace
        if live is None:
            taken = await self.cluster.find(kind, namespace, name_of(wanted))
            if taken is not None:
                self._check_own(kind, taken)
                live = taken
        try:
            written = await self.cluster.apply(kind, namespace, wanted, read=live)
        except ConflictError:
            # Whatever came between: taking exposure from a held revision is right in every state.
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
                f"{kind} {self._owner.namespace}/{name_of(found)} is there already and is not this "
                f"{names.KIND}'s; it is left alone: delete it, or choose another name for the {names.KIND}"
            )

    @property
    def _owner(self) -> Owner:
        return self.gathered.read.owner

    def _service(self, name: str) -> Object | None:
        return self.gathered.read.family.services.get(name)

    def _deployment(self, revision: Revision) -> Object | None:
        return self.gathered.read.family.deployments.get(names.child(self._owner.name, revision))


def _token(secret: Object) -> str:
    """Raises KeyError or ValueError when it is not there."""
    return base64.b64decode(secret["data"][FUSE_TOKEN_KEY], validate=True).decode()


async def _tried(work: Awaitable[object]) -> ClusterError | None:
    try:
        await work
    except ClusterError as error:
        return error
    return None
