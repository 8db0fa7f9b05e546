"""Facts derived from one `Observed` and the latched holds, each defined once.

The planner's rules are written in terms of these facts. This module makes no decisions and must never keep state
between passes.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from modelsync.api.hold import OnStale
from modelsync.api.reasons import Reason
from modelsync.api.routing import HeaderMatch, RuleKind
from modelsync.rollout.model import (
    BLOCKED,
    Exam,
    ExamOutcome,
    Hold,
    HoldRead,
    Observed,
    RegistryOutcome,
    Revision,
    RevisionView,
    TroubleKind,
    Weight,
)

REFUSAL_GRACE = timedelta(seconds=10)
"""How long a gateway may reject a route before the ModelDeployment is Stalled."""

FLAP_GRACE = timedelta(seconds=15)
"""How long the stable may have no ready pod before a canary takes over. A shorter outage is a flap
(docs/design/README.md, "Failing")."""

READY_AGAIN = timedelta(seconds=30)
"""How long a canary that lost all its pods must be ready before it gets traffic again
(docs/design/README.md, "Failing")."""

CRASHES_LOADING = 3
"""Restarts before the container was ever ready after which the model is at fault, rather than a node or volume that
is still starting."""

PATIENCE = timedelta(minutes=30)
"""How long infrastructure trouble may last before the ModelDeployment is Stalled. Equal to the cap of the backoff
(docs/design/README.md, "Failing")."""

INFRASTRUCTURE = frozenset(TroubleKind) - {TroubleKind.CRASHED, TroubleKind.CRASHED_LOADING}
"""Never the model's fault: Kubernetes retries without a limit."""

_CRASHES = frozenset({TroubleKind.CRASHED, TroubleKind.CRASHED_LOADING})
_FAILED_OUTCOMES = frozenset({ExamOutcome.FAILED, ExamOutcome.INVALID})
_SECOND = timedelta(seconds=1)


class Facts:
    """Facts of one pass. Cheap to create: nearly everything is computed on demand."""

    __slots__ = (
        "held_digests", "live_routing", "named", "now", "observed", "policy", "route", "settled", "settles_at", "views",
    )  # fmt: skip

    def __init__(self, observed: Observed, holds: Iterable[Hold]) -> None:
        self.observed = observed
        self.now: datetime = observed.now
        self.policy = observed.policy
        self.views = observed.revisions
        self.held_digests = frozenset(hold.mark.digest for hold in holds)
        self.route = observed.route if observed.policy.gateway else None
        self.live_routing = self.route.routing if self.route is not None else None
        self.settles_at: datetime | None = None
        self.settled = not observed.policy.gateway
        if self.route is not None and self.route.accepted and self.route.accepted_since is not None:
            self.settles_at = self.route.accepted_since + observed.policy.settle
            self.settled = self.settles_at <= observed.now
        self.named = self._named()

    # --- revisions ---

    def view(self, revision: Revision) -> RevisionView:
        """The revision as observed in the cluster; all zeros if it does not exist there yet."""
        view = self.views.get(revision)
        if view is not None:
            return view
        candidate = self.observed.registry.candidate
        if candidate is not None and candidate.revision == revision:
            return RevisionView(
                revision,
                candidate.version,
                candidate.content,
                candidate.digests,
                recorded=False,
                parts=candidate.parts,
            )
        return RevisionView(revision, revision.partition("-")[0], "", (), recorded=False)

    def ready(self, revision: Revision) -> int:
        """Number of ready endpoints of the revision's own Service."""
        view = self.views.get(revision)
        return view.ready if view is not None and view.deployed else 0

    def held(self, revision: Revision) -> bool:
        """Whether a hold covers any artifact of the revision.

        If nobody knows what it contains, each hold may cover it: a record that vanishes must not end a hold.
        """
        if not self.held_digests or revision == BLOCKED:
            return False
        digests = self.view(revision).digests
        return not digests or not self.held_digests.isdisjoint(digests)

    def known_unheld(self, revision: Revision) -> bool:
        """Whether the registry has confirmed that no hold covers the revision.

        If neither this nor `held` is true, the hold state is unknown and exposure must not grow.
        """
        digests = self.view(revision).digests
        return bool(digests) and all(
            digest in self.observed.holds and digest not in self.held_digests for digest in digests
        )

    def known_at(self, revision: Revision) -> datetime | None:
        """When the marks on all its artifacts were last read; if this process has not read them, since when not.

        None for a revision that is not in the cluster and whose marks were never read.
        """
        oldest = self.oldest_read(revision)
        return oldest.asked_at if oldest is not None else self.view(revision).unread_since

    def oldest_read(self, revision: Revision) -> HoldRead | None:
        """Of the reads of its artifacts' marks the oldest one; None unless this process has read them all."""
        holds = self.observed.holds
        reads = [holds.get(digest) for digest in self.view(revision).digests]
        known = [read for read in reads if read is not None]
        return min(known, key=lambda read: read.asked_at) if known and len(known) == len(reads) else None

    def stale_at(self, revision: Revision) -> datetime | None:
        """When the knowledge of its marks is, or was, too old."""
        known_at = self.known_at(revision)
        return known_at + self.policy.max_staleness if known_at is not None else None

    def stale(self, revision: Revision) -> bool:
        """Whether the knowledge of its marks is older than allowed: it may be on hold, and nobody would see it."""
        stale_at = self.stale_at(revision)
        return stale_at is not None and stale_at <= self.now

    def barred(self, revision: Revision) -> bool:
        """Whether it must not serve until the registry reports its marks again. It keeps its pods."""
        return self.policy.on_stale is OnStale.BLOCK and revision != BLOCKED and self.stale(revision)

    def must_not_serve(self, revision: Revision) -> bool:
        """Whether it must have no traffic, because of a hold or because one would not be seen."""
        return self.held(revision) or self.barred(revision)

    @property
    def in_use(self) -> tuple[Revision, ...]:
        """The revisions whose marks matter now: what serves, what moves, and what the alias names."""
        state = self.observed.state
        exposed = [revision for revision in sorted(self.views) if self.exposed(revision)]
        found = dict.fromkeys((state.stable, *state.moving, *exposed, self.named))
        return tuple(revision for revision in found if revision is not None)

    def crashing(self, revision: Revision) -> bool:
        """Whether its containers exit with errors."""
        trouble = self.view(revision).trouble
        return trouble is not None and trouble.kind in _CRASHES

    def failed_exam(self, revision: Revision) -> Exam | None:
        """The version's exam if it failed or cannot be read, which means that its pods never become ready."""
        exam = self.view(revision).exam
        return exam if exam is not None and exam.outcome in _FAILED_OUTCOMES else None

    def infrastructure_trouble(self, revision: Revision) -> bool:
        """Whether something other than the model keeps its pods from serving."""
        trouble = self.view(revision).trouble
        return trouble is not None and trouble.kind in INFRASTRUCTURE

    def patience_ends(self, revision: Revision) -> datetime | None:
        """When the trouble of its pods has lasted for `PATIENCE`; None if there is no trouble."""
        view = self.view(revision)
        if view.trouble is None:
            return None
        since = view.progress_at or view.trouble.since
        return None if since is None else since + PATIENCE

    def crashed_since(self, revision: Revision, started: datetime) -> bool:
        """Whether the model crashed after `started`. Container times are whole seconds, so one second is added."""
        trouble = self.view(revision).trouble
        if trouble is None or trouble.kind not in _CRASHES:
            return False
        if trouble.kind is TroubleKind.CRASHED_LOADING and trouble.count < CRASHES_LOADING:
            return False
        return trouble.since is None or trouble.since + _SECOND > started

    def down_for_long(self, revision: Revision) -> bool:
        """Whether it has had no ready pod for longer than a flap (`FLAP_GRACE`)."""
        if self.ready(revision):
            return False
        view = self.views.get(revision)
        if view is None or not (view.recorded or view.deployed):
            return True  # it does not exist, so it cannot recover
        return view.unready_since is not None and view.unready_since + FLAP_GRACE <= self.now

    def pods_reason(self, revision: Revision) -> Reason:
        """Reason for waiting for its pods: pulling or starting."""
        return Reason.PULLING if self.view(revision).pulling else Reason.STARTING

    # --- numbers of pods ---

    @property
    def idle(self) -> bool:
        """Whether `spec.replicas` is 0."""
        return self.policy.replicas == 0

    @property
    def full_replicas(self) -> int:
        """Pods needed for all traffic; at least 1, also when `spec.replicas` is 0."""
        return max(1, self.policy.replicas)

    def needed(self, weight: Weight) -> int:
        """Pods needed for `weight` per cent of the traffic; at least 1, so that the model can be tried."""
        return max(1, -(-weight * self.policy.replicas // 100))

    def carried(self, revision: Revision, weight: Weight, beside: Revision) -> Weight:
        """The part of `weight` that the revision's ready pods can carry; `beside` gets the rest.

        Calculated from the pods that the spec asks for, or, if fewer are ready (the total was raised, a node was lost),
        from the ready pods. Otherwise raising the total to ten would move the load of one of two pods to the other.
        """
        ready = self.ready(revision)
        if ready == 0 or ready >= self.needed(weight):
            return weight if ready else 0
        total = min(self.full_replicas, ready + self.ready(beside))
        return min(weight, 100 * ready // total)

    # --- traffic ---

    def live_weight(self, revision: Revision) -> Weight:
        """Its weight in the live route; without a gateway, 100 if the plain Service selects it, else 0."""
        if not self.policy.gateway:
            return 100 if self.observed.service == revision else 0
        if self.route is not None:
            for backend, weight in self.route.weights:
                if backend == revision:
                    return weight
        return 0

    def live_match(self, revision: Revision) -> tuple[HeaderMatch, ...]:
        """The segment that the live route sends to it."""
        rules = self.route.rules if self.route is not None else ()
        return next((rule.match for rule in rules if rule.revision == revision and rule.kind is RuleKind.SEGMENT), ())

    def exposed(self, revision: Revision) -> bool:
        """Whether clients can reach it by the plain Service or the route, even a route that is no longer wanted."""
        route = self.observed.route
        return self.serving(revision) or (route is not None and any(rule.revision == revision for rule in route.rules))

    def serving(self, revision: Revision) -> bool:
        """Whether it gets traffic from clients that did not ask for it with the test header."""
        if self.observed.service == revision:
            return True
        route = self.observed.route
        return route is not None and (
            any(backend == revision and weight for backend, weight in route.weights)
            or any(rule.revision == revision and rule.kind is not RuleKind.TEST for rule in route.rules)
        )

    def referenced(self, revision: Revision) -> bool:
        """Whether the route or the plain Service still references it, even with weight 0."""
        route = self.observed.route
        return self.exposed(revision) or (
            route is not None and any(backend == revision for backend, _ in route.weights)
        )

    def may_shrink(self, revision: Revision) -> bool:
        """Whether it has no traffic in a route that is accepted and settled, so that its pods can be removed
        (docs/design/README.md, "Rolling out")."""
        if self.serving(revision):
            return False
        return self.observed.route is None or self.settled

    @property
    def refusal_counts_at(self) -> datetime | None:
        """When a rejection of the route by a gateway makes the ModelDeployment Stalled; None if no gateway rejects it.

        The delay is needed because some gateways briefly reject a route whose Service endpoints they have not seen yet.
        """
        if self.route is None or self.route.accepted is not False:
            return None
        return (self.route.refused_since or self.now - REFUSAL_GRACE) + REFUSAL_GRACE

    @property
    def blocked(self) -> bool:
        """Whether traffic is deliberately blocked."""
        if not self.policy.gateway:
            return self.observed.service == BLOCKED
        return self.route is not None and self.route.weights == ((BLOCKED, 1),)

    # --- the registry ---

    def _named(self) -> Revision | None:
        """The revision that the alias names: an earlier one in the stack with the same content, exactly as it ran
        (docs/design/README.md, "Which revision is wanted", rule 4), else the candidate built from the current spec."""
        candidate = self.observed.registry.candidate
        if candidate is None:
            return None
        promoted = self.observed.state.promoted
        if promoted and self.view(promoted[-1]).content != candidate.content:
            for revision in reversed(promoted[:-1]):
                view = self.views.get(revision)
                if view is not None and view.recorded and view.content == candidate.content:
                    return revision
        return candidate.revision

    @property
    def forward_blocker(self) -> Reason | None:
        """Why no forward move may proceed now, or None. Rollbacks and holds are not affected."""
        if self.policy.suspend:
            return Reason.SUSPENDED
        if self.observed.problems:
            return Reason.PENDING
        silent = _OUTCOMES[self.observed.registry.outcome]
        return silent or (Reason.HOLDS_STALE if self._forward_would_be_blind else None)

    @property
    def _forward_would_be_blind(self) -> bool:
        """Whether a hold on what would get traffic could not be seen, or nothing may serve because of that.

        A stable that goes on serving does not count: a move away from it is the only way out if its server is gone.
        """
        state = self.observed.state
        if any(self.stale(revision) for revision in (self.named, *state.moving) if revision is not None):
            return True
        return state.stable is not None and self.barred(state.stable)

    def fresh(self, revision: Revision, after: datetime | None) -> bool:
        """Whether the registry was queried for the alias and for holds on the revision after `after`."""
        if after is None:
            return True
        asked = self.observed.registry.asked_at
        if asked is None or asked <= after:
            return False
        return all(
            digest in self.observed.holds and self.observed.holds[digest].asked_at > after
            for digest in self.view(revision).digests
        )


_OUTCOMES: dict[RegistryOutcome, Reason | None] = {
    RegistryOutcome.PENDING: Reason.RESOLVING,
    RegistryOutcome.RESOLVED: None,
    RegistryOutcome.MISSING: Reason.MISSING,
    RegistryOutcome.DENIED: Reason.DENIED,
    RegistryOutcome.THROTTLED: Reason.THROTTLED,
    RegistryOutcome.UNREACHABLE: Reason.UNREACHABLE,
    RegistryOutcome.REFUSED: Reason.REFUSED,
    RegistryOutcome.WITHDRAWN: Reason.WITHDRAWN,
}
