"""Revisions, their pods and the route as the planner sees them, with the times that no object carries. Pure but for
`Sightings`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from modelsync.api import names
from modelsync.cluster import pods, references
from modelsync.cluster.kinds import Object, annotations_of, labels_of, uid_of
from modelsync.cluster.reading import Read
from modelsync.resources.route import read_route
from modelsync.rollout import model
from modelsync.rollout.model import Candidate, Exam, Revision, RevisionView, RouteView

SERVICE_NAME_LABEL = "kubernetes.io/service-name"


@dataclass(slots=True)
class Sightings:
    """Since when this process has seen something that no object carries a time of."""

    _since: dict[str, dict[tuple[str, ...], datetime]] = field(default_factory=lambda: defaultdict(dict))

    def since(self, uid: str, what: tuple[str, ...], now: datetime) -> datetime:
        """When `what` was first seen to hold of the ModelDeployment `uid`."""
        return self._since[uid].setdefault(what, now)

    def has(self, uid: str, what: tuple[str, ...]) -> bool:
        """Whether `what` was seen to hold."""
        return what in self._since[uid]

    def ended(self, uid: str, what: tuple[str, ...]) -> None:
        """`what` does not hold now."""
        self._since[uid].pop(what, None)

    def forget(self, uid: str) -> None:
        """The ModelDeployment is no more."""
        self._since.pop(uid, None)


def revision_views(
    found: Read, candidate: Candidate | None, sightings: Sightings, now: datetime, exams: Mapping[Revision, Exam]
) -> Mapping[Revision, RevisionView]:
    """Every revision that has a record, a Deployment or a pod."""
    family, name = found.family, found.owner.name
    by_revision: dict[Revision, list[Object]] = defaultdict(list)
    for pod in family.pods:
        by_revision[labels_of(pod).get(names.REVISION_LABEL, "")].append(pod)
    slices: dict[str, list[Object]] = defaultdict(list)
    for each in family.slices:
        slices[labels_of(each).get(SERVICE_NAME_LABEL, "")].append(each)
    present = {*found.records, *by_revision} | {
        revision for child in family.deployments if (revision := names.revision_of(name, child))
    }
    views = {}
    for revision in present - {"", names.BLOCKED}:
        record = found.records.get(revision)
        child = names.child(name, revision)
        deployment = family.deployments.get(child)
        view = pods.view(deployment, by_revision[revision], slices[child], now=now)
        ready_since, unready_since = _since(family.uid, revision, view, sightings, now)
        # Pods may be there before a record: those of an earlier ModelDeployment of the same name that still end.
        known = record or (candidate if candidate is not None and candidate.revision == revision else None)
        views[revision] = RevisionView(
            revision=revision,
            version=known.version if known else revision.partition("-")[0],
            content=known.content if known else "",
            digests=known.digests if known else (),
            parts=references.parts(record.parts) if record else candidate.parts if known and candidate else (),
            recorded=record is not None,
            deployed=deployment is not None and child in family.services,
            replicas=_replicas(deployment),
            ready=view.ready,
            pods=view.pods,
            cut=view.cut,
            ready_since=ready_since,
            unready_since=unready_since,
            lacking_since=_lacking_since(found, revision, _replicas(deployment) - view.ready, sightings, now),
            progress_at=view.progress_at,
            pulling=view.pulling,
            trouble=view.trouble,
            verified=view.verified,
            exam=exams.get(revision),
            recorded_at=record.created if record else None,
        )
    return views


def route_view(found: Read, sightings: Sightings, now: datetime) -> RouteView | None:
    """The live HTTPRoute; None when there is none."""
    route, uid = found.family.route, found.family.uid
    if route is None:
        return None
    live = read_route(route, found.owner, found.spec.traffic)
    if found.spec.traffic.gateway is None:
        # Nobody asks for it any more, and the planner has it removed; until then it carries traffic.
        return RouteView(weights=live.routing.weights, accepted=None, drifted=True, rules=live.routing.rules)
    accepted_since = None
    seen = ("accepted", uid_of(route), str(route["metadata"].get("generation")))
    # A route that was accepted before we came has settled since then, and not since we came.
    before = None if sightings.has(uid, ("route", uid_of(route))) else _accepted_before(route)
    sightings.since(uid, ("route", uid_of(route)), now)
    if live.accepted:
        accepted_since = sightings.since(uid, seen, min(before or now, now))
    else:
        sightings.ended(uid, seen)
    refused_since = None
    if live.accepted is False:
        refused_since = sightings.since(uid, ("refused", uid_of(route)), now)
    else:
        sightings.ended(uid, ("refused", uid_of(route)))
    hold = annotations_of(route).get(names.HOLD_ANNOTATION)
    return RouteView(
        weights=live.routing.weights,
        rules=live.routing.rules,
        accepted=live.accepted,
        accepted_since=accepted_since,
        refused_since=refused_since,
        message=live.message,
        drifted=live.drifted or hold != holds_told(found.state.holds),
    )


def holds_told(holds: Sequence[model.Hold]) -> str | None:
    """The holds in one line, for the annotation on the route; None when there is none."""
    told = sorted({f"{hold.mark.name} on {hold.mark.collection}:{hold.mark.version}" for hold in holds})
    return "; ".join(told) or None


def _since(
    uid: str, revision: Revision, view: pods.PodsView, sightings: Sightings, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """Since when there has been a ready endpoint, or none. Pods that are gone tell no time: then ours counts."""
    ready, unready = ("ready", revision), ("unready", revision)
    if view.ready:
        sightings.ended(uid, unready)
        seen = sightings.since(uid, ready, now)
        return min(view.ready_since or seen, seen), None
    sightings.ended(uid, ready)
    seen = sightings.since(uid, unready, now)
    return None, min(view.unready_since or seen, seen)


def _lacking_since(
    found: Read, revision: Revision, lacking: int, sightings: Sightings, now: datetime
) -> datetime | None:
    """Since when pods that are asked for have not been ready. Only this process can tell of a pod that is gone: another
    operator begins to count anew. The time of a suspension does not count."""
    uid, seen = found.family.uid, ("lacking", revision)
    if lacking > 0 and not found.spec.suspend:
        return sightings.since(uid, seen, now)
    sightings.ended(uid, seen)
    return None


def _accepted_before(route: Object) -> datetime | None:
    """When the gateway last wrote the status, by the API server's clock in whole seconds, rounded up."""
    written = [
        at
        for entry in route["metadata"].get("managedFields") or ()
        if entry.get("subresource") == "status" and (at := pods.parse_time(entry.get("time"))) is not None
    ]
    return max(written) + timedelta(seconds=1) if written else None


def _replicas(deployment: Object | None) -> int:
    replicas = ((deployment or {}).get("spec") or {}).get("replicas")
    return replicas if isinstance(replicas, int) else 0
