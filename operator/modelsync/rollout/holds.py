"""Holds: seen once, they stay until the registry positively shows them gone (DESIGN §4).

Nothing here may end a hold for silence of the registry, for an alias that moved to another version, or for an answer
that is older than the one which showed it.
"""

from modelsync.rollout.model import Hold, HoldRead, Observed


def latched(observed: Observed) -> tuple[Hold, ...]:
    """The holds that are in force, oldest first."""
    before = observed.state.holds
    reads = observed.holds
    if not before and not any(read.marks for read in reads.values()):
        return before
    # A digest that no revision contains can serve nowhere, and needs an answer of its own before it could again.
    known_digests = {digest for view in observed.revisions.values() for digest in view.digests}
    if observed.registry.candidate is not None:
        known_digests.update(observed.registry.candidate.digests)
    kept = [
        hold for hold in before if hold.mark.digest in known_digests and not _lifted(hold, reads.get(hold.mark.digest))
    ]
    known = {hold.mark for hold in kept}
    new = [
        Hold(mark, reads[digest].asked_at)
        for digest in sorted(reads)
        if digest in known_digests
        for mark in reads[digest].marks
        if mark not in known
    ]
    return tuple(kept + sorted(new, key=lambda hold: hold.since)) if new or len(kept) != len(before) else before


def _lifted(hold: Hold, read: HoldRead | None) -> bool:
    if read is None or read.asked_at <= hold.since or hold.mark in read.marks:
        return False
    return not (hold.mark.via == "Alias" and read.alias_mark_elsewhere)
