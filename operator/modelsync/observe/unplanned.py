"""What serves although no plan is made for it, and which of it is held. Takes no spec. Pure.

No plan is made for children without an owner (an orphaning delete, a restore from a backup), for those of a
ModelDeployment that is being deleted, and when the spec cannot be read. A hold acts on them all the same: what they
contain is read from the records, and from templates and pods where a record is missing. Nothing in here may raise,
whatever an object contains.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from modelsync.api import names
from modelsync.api.hold import HoldMark
from modelsync.api.kinds import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    SERVICE,
    Key,
    Kind,
    Object,
    by_name,
    controller_of,
    labels_of,
)
from modelsync.api.registry import Registry
from modelsync.observe.family import Family
from modelsync.resources.children import selected_revision
from modelsync.resources.pulled import pulled_artifacts, pulled_from, template_spec
from modelsync.resources.record import Record, RecordError
from modelsync.resources.revision import Artifact
from modelsync.resources.silenced import exposed_by_route
from modelsync.rollout.model import Hold, HoldRead, Revision

MAX_REVISIONS = 64
"""Revisions of one name that are watched, by name: a tenant who writes more must not slow the watch of others."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Content:
    """What a revision contains and where it was pulled from; empty when nothing shows it."""

    artifacts: tuple[Artifact, ...] = ()
    registry: Registry | None = None

    @property
    def digests(self) -> frozenset[str]:
        """The digests that a hold may be on."""
        return frozenset(each.digest for each in self.artifacts)


@dataclass(frozen=True, slots=True)
class Unplanned:
    """The objects of one name for which no plan is made; `latched` are the holds that a status still contains."""

    key: Key
    records: Mapping[str, Object] = field(default_factory=dict)
    deployments: Mapping[str, Object] = field(default_factory=dict)
    services: Mapping[str, Object] = field(default_factory=dict)
    pods: tuple[Object, ...] = ()
    route: Object | None = None
    latched: tuple[Hold, ...] = ()

    @property
    def serves(self) -> bool:
        """Whether anything can run, now or after somebody scales it up."""
        return bool(self.pods or self.deployments)

    @property
    def running(self) -> bool:
        """Whether there are pods, or will be."""
        return bool(self.pods) or any(_replicas(each) for each in self.deployments.values())

    def deployment(self, revision: Revision) -> Object | None:
        """The Deployment of `revision`, if there is one."""
        return self.deployments.get(names.child(self.key.name, revision))

    @property
    def exposed(self) -> frozenset[Revision]:
        """The revisions that have pods or may get some, or that clients reach by the route or the plain Service."""
        found = {labels_of(pod).get(names.REVISION_LABEL) for pod in self.pods}
        found |= {names.revision_of(self.key.name, name) for name in self.deployments}
        if (plain := self.services.get(self.key.name)) is not None:
            found.add(selected_revision(plain))
        if self.route is not None:
            found |= exposed_by_route(self.route, self.key.name)
        revisions = sorted(each for each in found if isinstance(each, str) and each not in ("", names.BLOCKED))
        return frozenset(revisions[:MAX_REVISIONS])

    @property
    def contents(self) -> Mapping[Revision, Content]:
        """What each exposed revision contains: by its record, else by what its template or its pods pull."""
        pods: dict[Revision, list[Object]] = defaultdict(list)
        for pod in self.pods:
            pods[labels_of(pod).get(names.REVISION_LABEL, "")].append(pod)
        return {revision: self._content(revision, pods[revision]) for revision in sorted(self.exposed)}

    def _content(self, revision: Revision, pods: Iterable[Object]) -> Content:
        name = names.child(self.key.name, revision)
        if (body := self.records.get(name)) is not None:
            try:
                record = Record.parse(body)
                return Content(tuple(record.parts.values()), record.registry)
            except RecordError as error:
                log.error("record.unreadable", problem=str(error))
        for spec in (template_spec(self.deployments.get(name)), *(pod.get("spec") for pod in pods)):
            if artifacts := pulled_artifacts(spec):
                return Content(artifacts, pulled_from(spec))
        return Content()


def unplanned_of(family: Family, latched: tuple[Hold, ...]) -> Unplanned:
    """All children of a ModelDeployment that is being deleted, or whose spec cannot be read."""
    return Unplanned(
        family.key, family.records, family.deployments, family.services, family.pods, family.route, latched
    )


def orphans_beside(family: Family) -> Unplanned:
    """The orphans that have the labels of a ModelDeployment, but do not belong to it."""
    deployed = {labels_of(each).get(names.REVISION_LABEL) for each in family.deployments.values()}
    orphans = orphans_of(family.key, family.foreign, (), family.foreign_route, living=(family.uid,))
    if not orphans.deployments:
        return orphans
    revisions = {labels_of(each).get(names.REVISION_LABEL) for each in orphans.deployments.values()} - deployed
    pods = tuple(pod for pod in family.pods if labels_of(pod).get(names.REVISION_LABEL) in revisions)
    return replace(orphans, pods=pods)


def orphans_of(
    key: Key,
    children: Mapping[Kind, Iterable[Object]],
    pods: Iterable[Object],
    route: Object | None,
    *,
    living: Collection[str] = (),
) -> Unplanned:
    """The objects of `key` that neither a ModelDeployment with a uid in `living` nor anybody else controls."""
    found = {
        kind: by_name(obj for obj in children.get(kind, ()) if _is_orphan(obj, living))
        for kind in (CONTROLLER_REVISION, DEPLOYMENT, SERVICE)
    }
    return Unplanned(
        key,
        records=found[CONTROLLER_REVISION],
        deployments=found[DEPLOYMENT],
        services=found[SERVICE],
        pods=tuple(pods),
        route=route if route is not None and _is_ours(route, key) and _is_orphan(route, living) else None,
    )


@dataclass(frozen=True, slots=True)
class Held:
    """Why a revision is held; `mark` is None if its content is unknown."""

    mark: HoldMark | None


def held_revisions(
    found: Unplanned, reads: Iterable[Mapping[str, HoldRead]], shown: Iterable[Hold]
) -> Mapping[Revision, Held]:
    """The exposed revisions that a latched hold or a mark covers; `shown` are marks that others see.

    A latched hold is not lifted here: without a plan nothing could serve again. A revision of unknown content counts
    as held while any hold is latched.
    """
    marks = {hold.mark.digest: hold.mark for hold in (*found.latched, *shown)}
    for each in reads:
        marks |= {digest: read.marks[0] for digest, read in each.items() if read.marks}
    held = {}
    for revision, content in found.contents.items():
        if marked := sorted(content.digests & marks.keys()):
            held[revision] = Held(marks[marked[0]])
        elif found.latched and not content.digests:
            held[revision] = Held(None)
    return held


def _is_orphan(obj: Object, living: Collection[str]) -> bool:
    """Whether nothing controls it, or a ModelDeployment that no longer exists. What others control is theirs."""
    controller = controller_of(obj)
    return controller is None or (controller.get("kind") == names.KIND and controller.get("uid") not in living)


def _is_ours(obj: Object, key: Key) -> bool:
    return labels_of(obj).get(names.NAME_LABEL) == key.name


def _replicas(deployment: Object) -> bool:
    spec = deployment.get("spec")
    return not isinstance(spec, dict) or spec.get("replicas", 1) != 0
