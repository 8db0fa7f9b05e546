"""What serves although no plan is made for it, and which of it is held. Takes no spec. Pure.

No plan is made for children without an owner (an orphaning delete, a restore from a backup), for those of a
ModelDeployment that is being deleted, and when the spec cannot be read. A hold acts on them all the same: what they
contain is read from the records, and from templates and pods where a record is missing. Nothing in here may raise,
whatever an object contains.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

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
from modelsync.resources.pulled import Pulled, template_spec
from modelsync.resources.record import Record, RecordError
from modelsync.resources.revision import Artifact
from modelsync.resources.silenced import exposed_by_route
from modelsync.rollout.model import Hold, HoldRead, Revision

MAX_RECORDS = 64
"""Records of one name that are read where nothing that runs shows the content: reading one takes a millisecond."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Content:
    """What a revision contains and where it was pulled from; empty when nothing shows it."""

    artifacts: tuple[Artifact, ...] = ()
    registry: Registry | None = None
    others: tuple[str, ...] = ()
    """Digests that it contains, too, but nobody can ask for."""

    @property
    def digests(self) -> frozenset[str]:
        """The digests that a hold may be on."""
        return frozenset((*self.others, *(each.digest for each in self.artifacts)))


@dataclass(frozen=True)
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
    def exposed(self) -> tuple[Revision, ...]:
        """The revisions that have pods or may get some, or that clients reach by the route or the plain Service.

        What runs comes first: where only some can be looked at, a tenant who adds names must not displace it.
        """
        running = {labels_of(pod).get(names.REVISION_LABEL) for pod in self.pods}
        may_run = {names.revision_of(self.key.name, name) for name in self.deployments}
        scaled_up = {
            names.revision_of(self.key.name, name) for name, each in self.deployments.items() if _replicas(each)
        }
        plain = self.services.get(self.key.name)
        selected = {selected_revision(plain)} if plain is not None else set()
        routed = exposed_by_route(self.route, self.key.name) if self.route is not None else set()
        ranked = {
            revision: (revision not in scaled_up, revision not in running, revision not in selected, str(revision))
            for revision in (*running, *may_run, *selected, *routed)
            if isinstance(revision, str) and revision not in ("", names.BLOCKED)
        }
        return tuple(sorted(ranked, key=lambda revision: ranked[revision]))

    @cached_property
    def contents(self) -> Mapping[Revision, Content]:
        """What each exposed revision contains, what runs first: what its template and its pods pull, or if they do not
        show it, what its record says."""
        pods: dict[Revision, list[Object]] = defaultdict(list)
        for pod in self.pods:
            pods[labels_of(pod).get(names.REVISION_LABEL, "")].append(pod)
        found, unread = {}, MAX_RECORDS
        for revision in self.exposed:
            template = template_spec(self.deployment(revision))
            pulled = Pulled.by(revision, (template, *(pod.get("spec") for pod in pods[revision])))
            found[revision] = Content(tuple(pulled.parts.values()), pulled.registry, pulled.digests)
            if not pulled.digests and unread:
                unread -= 1
                found[revision] = self._recorded(revision)
        return found

    def _recorded(self, revision: Revision) -> Content:
        body = self.records.get(names.child(self.key.name, revision))
        try:
            record = Record.parse(body) if body is not None else None
        except RecordError as error:
            log.error("record.unreadable", problem=str(error))
            record = None
        return Content(tuple(record.parts.values()), record.registry) if record is not None else Content()


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


def held_revisions(
    found: Unplanned, reads: Iterable[Mapping[str, HoldRead]], shown: Iterable[Hold]
) -> Mapping[Revision, HoldMark | None]:
    """The exposed revisions that a latched hold or a mark covers, with the mark, or None if the content is unknown.

    `shown` are marks that others see. A latched hold is not lifted here: without a plan nothing could serve again. A
    revision of unknown content counts as held while any hold is latched.
    """
    marks = {hold.mark.digest: hold.mark for hold in (*found.latched, *shown)}
    for each in reads:
        marks |= {digest: read.marks[0] for digest, read in each.items() if read.marks}
    held: dict[Revision, HoldMark | None] = {}
    for revision, content in found.contents.items():
        if marked := sorted(content.digests & marks.keys()):
            held[revision] = marks[marked[0]]
        elif found.latched and not content.digests:
            held[revision] = None
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
