"""Revisions and their pods as the planner sees them, with times that no object contains.

Pure except for `Sightings`.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from modelsync.api import names
from modelsync.api.kinds import Object, labels_of
from modelsync.observe import answers
from modelsync.observe.pods import with_pods
from modelsync.observe.sightings import Sightings
from modelsync.observe.spec_status import Read
from modelsync.rollout.model import Candidate, Exam, HoldRead, Revision, RevisionView


def revision_views(
    found: Read,
    candidate: Candidate | None,
    reads: Mapping[str, HoldRead],
    sightings: Sightings,
    now: datetime,
    exams: Mapping[Revision, Exam],
) -> Mapping[Revision, RevisionView]:
    """Every revision that has a record, a Deployment or a pod. `reads`: the marks that this process has read."""
    family, name = found.family, found.owner.name
    by_revision: dict[Revision, list[Object]] = defaultdict(list)
    for pod in family.pods:
        by_revision[labels_of(pod).get(names.REVISION_LABEL, "")].append(pod)
    slices: dict[str, list[Object]] = defaultdict(list)
    for each in family.slices:
        slices[labels_of(each).get(names.SERVICE_NAME_LABEL, "")].append(each)
    present = {*found.records, *by_revision} | {
        revision for child in family.deployments if (revision := names.revision_of(name, child))
    }
    views = {}
    for revision in present - {"", names.BLOCKED}:
        record = found.records.get(revision)
        child = names.child(name, revision)
        deployment = family.deployments.get(child)
        # Without a record: its record was deleted or cannot be read, or its pods are those of a deleted ModelDeployment
        # of the same name that are still terminating.
        pulled = found.unrecorded.get(revision)
        known = record or (candidate if candidate is not None and candidate.revision == revision else None)
        view = RevisionView(
            revision=revision,
            version=known.version if known else revision.partition("-")[0],
            content=known.content if known else "",
            digests=known.digests if known else pulled.digests if pulled else (),
            parts=answers.parts(record.parts) if record else candidate.parts if known and candidate else (),
            recorded=record is not None,
            recorded_at=record.created if record else None,
            deployed=deployment is not None and child in family.services,
            exam=exams.get(revision),
        )
        view = with_pods(view, deployment, by_revision[revision], slices[child], now=now)
        view = _with_first_sightings(found, view, sightings, now)
        views[revision] = replace(view, unread_since=_unread_since(found, view, reads, sightings, now))
    return views


def _with_first_sightings(found: Read, view: RevisionView, sightings: Sightings, now: datetime) -> RevisionView:
    """Adds since when there has been a ready endpoint, or none, by our own clock if the pods do not show it."""
    uid = found.family.uid
    ready, unready = ("ready", view.revision), ("unready", view.revision)
    if view.ready:
        sightings.ended(uid, unready)
        seen = sightings.since(uid, ready, now)
        view = replace(view, ready_since=min(view.ready_since or seen, seen))
    else:
        sightings.ended(uid, ready)
        seen = sightings.since(uid, unready, now)
        view = replace(view, unready_since=min(view.unready_since or seen, seen))
    lacking = view.replicas - view.ready
    return replace(view, lacking_since=_lacking_since(found, view.revision, lacking, sightings, now))


def _unread_since(
    found: Read, view: RevisionView, reads: Mapping[str, HoldRead], sightings: Sightings, now: datetime
) -> datetime | None:
    """Since when this process needs its marks and has not read them.

    An outage may be older than this process: the status then says when marks were last read, and a restart does not
    start that time again.
    """
    uid, seen = found.family.uid, ("unread", view.revision)
    is_read = bool(view.digests) and all(digest in reads for digest in view.digests)
    if is_read or view.revision not in found.revisions_in_play:
        sightings.ended(uid, seen)
        return None
    since = sightings.since(uid, seen, now)
    return min(since, found.status.holds_known_at or since)


def _lacking_since(
    found: Read, revision: Revision, lacking: int, sightings: Sightings, now: datetime
) -> datetime | None:
    """Since when wanted pods have not been ready. No object shows when a pod was deleted, so a new operator process
    starts to count again. Time while suspended does not count."""
    uid, seen = found.family.uid, ("lacking", revision)
    if lacking > 0 and not found.spec.suspend:
        return sightings.since(uid, seen, now)
    sightings.ended(uid, seen)
    return None
