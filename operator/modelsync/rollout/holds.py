"""Latched holds: once seen, a hold stays until the registry confirms that it is gone (docs/design/README.md, "Holds").

This module must never end a hold because the registry does not answer, because an alias moved to another version, or
because of an answer that is older than the one that showed the hold.
"""

from collections.abc import Iterable
from dataclasses import replace

from modelsync.api.hold import HoldSource
from modelsync.api.settings import same_server
from modelsync.rollout.model import Hold, HoldRead, Observed


def latched(observed: Observed) -> tuple[Hold, ...]:
    """The holds in force, oldest first."""
    before = observed.state.holds
    reads = observed.holds
    if not before and not observed.shown and not any(read.marks for read in reads.values()):
        return before
    present, unfinished = _present(observed), _unfinished(observed)
    kept = [
        _seen_again(hold, reads.get(hold.mark.digest))
        for hold in before
        if hold.mark.digest in unfinished
        or (
            hold.mark.digest in present
            and hold.mark not in observed.gone
            and not _lifted(hold, reads.get(hold.mark.digest), observed.shown)
        )
    ]
    known = {hold.mark for hold in kept} | observed.gone
    new = {
        mark: Hold(mark, reads[digest].asked_at, reads[digest].server)
        for digest in sorted(reads)
        if digest in present
        for mark in reads[digest].marks
        if mark not in known
    }
    new |= {
        hold.mark: hold for hold in observed.shown if hold.mark.digest in present and hold.mark not in {*known, *new}
    }
    found = tuple(kept + sorted(new.values(), key=lambda hold: hold.since))
    return found if found != before else before


def _present(observed: Observed) -> set[str]:
    """Digests that some revision contains.

    A hold on any other digest is dropped: that content cannot serve, and would need a new registry answer first. If the
    content of a revision is unknown, no hold is dropped.
    """
    digests = {digest for view in observed.revisions.values() for digest in view.digests}
    if observed.registry.candidate is not None:
        digests.update(observed.registry.candidate.digests)
    if not all(view.digests for view in observed.revisions.values()):
        digests.update(hold.mark.digest for hold in observed.state.holds)
    return digests


def _unfinished(observed: Observed) -> set[str]:
    """Digests of revisions with pods that have not been cut off yet.

    Such a pod may already have blown its fuse, after which it never serves again. Dropping the hold before the cut has
    ended would leave that pod running permanently.
    """
    running = [view for view in observed.revisions.values() if view.replicas or (view.pods and not view.cut)]
    digests = {digest for view in running for digest in view.digests}
    if not all(view.digests for view in running):
        # Every hold covers what nobody knows the content of (`Facts.held`).
        digests.update(hold.mark.digest for hold in observed.state.holds)
    return digests


def _seen_again(hold: Hold, read: HoldRead | None) -> Hold:
    """`hold`, with the current server if that server shows the mark: from then on it can confirm that it is gone."""
    if read is None or hold.mark not in read.marks or not read.server or read.server == hold.server:
        return hold
    return replace(hold, server=read.server)


def _lifted(hold: Hold, read: HoldRead | None, shown: Iterable[Hold]) -> bool:
    if read is None or read.asked_at <= hold.since or hold.mark in read.marks:
        return False
    if any(hold.mark == other.mark for other in shown):
        return False  # somebody else still sees it
    if hold.server and read.server and not same_server(hold.server, read.server):
        # The mark was set on another server, so its absence here proves nothing.
        return False
    return not (hold.mark.via is HoldSource.ALIAS and read.alias_mark_elsewhere)
