"""Holds: seen once, they stay until the registry positively shows them gone (DESIGN §4).

Nothing here may end a hold for silence of the registry, for an alias that moved to another version, or for an answer
that is older than the one which showed it.
"""

from dataclasses import replace

from modelsync.api.hold import HoldSource
from modelsync.api.settings import same_server
from modelsync.rollout.model import Hold, HoldRead, Observed


def latched(observed: Observed) -> tuple[Hold, ...]:
    """The holds that are in force, oldest first."""
    before = observed.state.holds
    reads = observed.holds
    if not before and not any(read.marks for read in reads.values()):
        return before
    present, unfinished = _present(observed), _unfinished(observed)
    kept = [
        _seen_again(hold, reads.get(hold.mark.digest))
        for hold in before
        if hold.mark.digest in unfinished
        or (hold.mark.digest in present and not _lifted(hold, reads.get(hold.mark.digest)))
    ]
    known = {hold.mark for hold in kept}
    new = [
        Hold(mark, reads[digest].asked_at, reads[digest].server)
        for digest in sorted(reads)
        if digest in present
        for mark in reads[digest].marks
        if mark not in known
    ]
    found = tuple(kept + sorted(new, key=lambda hold: hold.since))
    return found if found != before else before


def _present(observed: Observed) -> set[str]:
    """Content that some revision has. A hold on any other is dropped: it can serve nowhere, and would need an answer of
    its own before it could again. Where it is not known what a revision contains, no hold is dropped."""
    digests = {digest for view in observed.revisions.values() for digest in view.digests}
    if observed.registry.candidate is not None:
        digests.update(observed.registry.candidate.digests)
    if not all(view.digests for view in observed.revisions.values()):
        digests.update(hold.mark.digest for hold in observed.state.holds)
    return digests


def _unfinished(observed: Observed) -> set[str]:
    """Content of revisions that held ones' pods are still to be taken from: they may have been told to fall silent, and
    such a pod never serves again. A hold that were dropped now would leave them there for good."""
    return {
        digest
        for view in observed.revisions.values()
        if view.replicas or (view.pods and not view.cut)
        for digest in view.digests
    }


def _seen_again(hold: Hold, read: HoldRead | None) -> Hold:
    """As the server that is asked now shows it, if it does: from then on that one can show it gone."""
    if read is None or hold.mark not in read.marks or not read.server or read.server == hold.server:
        return hold
    return replace(hold, server=read.server)


def _lifted(hold: Hold, read: HoldRead | None) -> bool:
    if read is None or read.asked_at <= hold.since or hold.mark in read.marks:
        return False
    if hold.server and read.server and not same_server(hold.server, read.server):
        # Another server never had the mark: its silence about it is no answer.
        return False
    return not (hold.mark.via is HoldSource.ALIAS and read.alias_mark_elsewhere)
