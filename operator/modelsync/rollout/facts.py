"""What follows from one `Observed` and the latched holds, each fact in one place under one name.

Only questions, no decisions: every rule of the planner is written in these words. Nothing here may keep anything
beyond a pass.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from modelsync.api.reasons import Reason
from modelsync.api.routing import HeaderMatch, RuleKind
from modelsync.rollout.model import (
    BLOCKED,
    Exam,
    ExamOutcome,
    Hold,
    Observed,
    RegistryOutcome,
    Revision,
    RevisionView,
    TroubleKind,
    Weight,
)

REFUSAL_GRACE = timedelta(seconds=10)
"""How long a gateway may refuse a route before a person is called."""

FLAP_GRACE = timedelta(seconds=15)
"""How long a stable may be without a ready pod before a canary takes over: shorter ones are flaps (DESIGN §4)."""

READY_AGAIN = timedelta(seconds=30)
"""How long a canary that lost its pods has to be ready before it gets traffic again (DESIGN §4)."""

CRASHES_LOADING = 3
"""Restarts before it was ever ready after which the model is to blame, and not the start of a node or a volume."""

PATIENCE = timedelta(minutes=30)
"""How long trouble of the infrastructure may last before a person is called (DESIGN §3: the backoff's cap)."""

INFRASTRUCTURE = frozenset(TroubleKind) - {TroubleKind.CRASHED, TroubleKind.CRASHED_LOADING}
"""Never the model's fault: retried by Kubernetes for as long as it takes."""

_CRASHES = frozenset({TroubleKind.CRASHED, TroubleKind.CRASHED_LOADING})
_FLUNKED = frozenset({ExamOutcome.FAILED, ExamOutcome.INVALID})
_SECOND = timedelta(seconds=1)


class Facts:
    """Answers about one pass. Cheap to make: nothing is computed before it is asked for."""

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
        """The revision as the cluster has it; one that it does not have yet is all zeros."""
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
        """Ready endpoints of the revision's own Service."""
        view = self.views.get(revision)
        return view.ready if view is not None and view.deployed else 0

    def held(self, revision: Revision) -> bool:
        """A hold is on something that the revision contains."""
        return bool(self.held_digests) and not self.held_digests.isdisjoint(self.view(revision).digests)

    def clear(self, revision: Revision) -> bool:
        """Known not to be held. Neither `held` nor `clear`: the registry has not said, and exposure must not grow."""
        digests = self.view(revision).digests
        return bool(digests) and all(
            digest in self.observed.holds and digest not in self.held_digests for digest in digests
        )

    def crashing(self, revision: Revision) -> bool:
        """Its containers end with errors."""
        trouble = self.view(revision).trouble
        return trouble is not None and trouble.kind in _CRASHES

    def flunked(self, revision: Revision) -> Exam | None:
        """The version's own exam, if it is failed or cannot be read: its pods will never be ready."""
        exam = self.view(revision).exam
        return exam if exam is not None and exam.outcome in _FLUNKED else None

    def infrastructure_trouble(self, revision: Revision) -> bool:
        """Something other than the model keeps its pods from serving."""
        trouble = self.view(revision).trouble
        return trouble is not None and trouble.kind in INFRASTRUCTURE

    def patience_ends(self, revision: Revision) -> datetime | None:
        """When trouble on its pods calls for a person; None while there is none."""
        view = self.view(revision)
        if view.trouble is None:
            return None
        began = view.progress_at or view.trouble.since
        return None if began is None else began + PATIENCE

    def crashed_since(self, revision: Revision, started: datetime) -> bool:
        """The model itself failed, after `started`. Container times have whole seconds, hence the rounding."""
        trouble = self.view(revision).trouble
        if trouble is None or trouble.kind not in _CRASHES:
            return False
        if trouble.kind is TroubleKind.CRASHED_LOADING and trouble.count < CRASHES_LOADING:
            return False
        return trouble.since is None or trouble.since + _SECOND > started

    def down_for_long(self, revision: Revision) -> bool:
        """No pod of it is ready, and that is no flap any more."""
        if self.ready(revision):
            return False
        view = self.views.get(revision)
        if view is None or not (view.recorded or view.deployed):
            return True  # it can never come back
        return view.unready_since is not None and view.unready_since + FLAP_GRACE <= self.now

    def pods_reason(self, revision: Revision) -> Reason:
        """What its pods are doing while they are waited for."""
        return Reason.PULLING if self.view(revision).pulling else Reason.STARTING

    # --- numbers of pods ---

    @property
    def idle(self) -> bool:
        """Nothing is to run: `spec.replicas` is 0."""
        return self.policy.replicas == 0

    @property
    def full(self) -> int:
        """Pods that carry all traffic; at least one, whatever the policy says."""
        return max(1, self.policy.replicas)

    def needed(self, weight: Weight) -> int:
        """Pods that carry `weight` per cent; at least one, which is what a model is tried with."""
        return max(1, -(-weight * self.policy.replicas // 100))

    def carried(self, revision: Revision, weight: Weight, beside: Revision) -> Weight:
        """The part of `weight` that the revision's ready pods can carry; `beside` has the rest.

        By the pods that the spec asks for, and where there are fewer (the total has grown, a node is gone) by those
        that are there: what one of two pods has carried must not fall on the other because ten are asked for.
        """
        ready = self.ready(revision)
        if ready == 0 or ready >= self.needed(weight):
            return weight if ready else 0
        there = min(self.full, ready + self.ready(beside))
        return min(weight, 100 * ready // there)

    # --- traffic ---

    def live(self, revision: Revision) -> Weight:
        """Its weight in the live route; without a gateway, all or nothing by the plain Service."""
        if not self.policy.gateway:
            return 100 if self.observed.service == revision else 0
        if self.route is not None:
            for backend, weight in self.route.weights:
                if backend == revision:
                    return weight
        return 0

    def live_match(self, revision: Revision) -> tuple[HeaderMatch, ...]:
        """The segment that goes to it by the live route."""
        rules = self.route.rules if self.route is not None else ()
        return next((rule.match for rule in rules if rule.revision == revision and rule.kind is RuleKind.SEGMENT), ())

    def exposed(self, revision: Revision) -> bool:
        """Clients may reach it: by the route, also one that is no longer asked for, or by the plain Service."""
        route = self.observed.route
        return self.serving(revision) or (route is not None and any(rule.revision == revision for rule in route.rules))

    def serving(self, revision: Revision) -> bool:
        """Clients reach it who did not name it themselves: a test header is not missed by anybody else."""
        if self.observed.service == revision:
            return True
        route = self.observed.route
        return route is not None and (
            any(backend == revision and weight for backend, weight in route.weights)
            or any(rule.revision == revision and rule.kind is not RuleKind.TEST for rule in route.rules)
        )

    def referenced(self, revision: Revision) -> bool:
        """Something still names its Service or pods, if only with weight 0."""
        route = self.observed.route
        return self.exposed(revision) or (
            route is not None and any(backend == revision for backend, _ in route.weights)
        )

    def may_shrink(self, revision: Revision) -> bool:
        """It has no traffic, and the data plane knows (DESIGN §3: weight 0, accepted, settled, only then pods go)."""
        if self.serving(revision):
            return False
        return self.observed.route is None or self.settled

    @property
    def refusal_counts_at(self) -> datetime | None:
        """When a gateway's no becomes one that a person has to see to; None: no gateway says no. Some say it for a
        moment of a route to a Service whose endpoints they have not seen yet."""
        if self.route is None or self.route.accepted is not False:
            return None
        return (self.route.refused_since or self.now - REFUSAL_GRACE) + REFUSAL_GRACE

    @property
    def blocked(self) -> bool:
        """Nothing is exposed, on purpose."""
        if not self.policy.gateway:
            return self.observed.service == BLOCKED
        return self.route is not None and self.route.weights == ((BLOCKED, 1),)

    # --- the registry ---

    def _named(self) -> Revision | None:
        """The revision that the alias means: one further down the stack with this content, as it ran (DESIGN §3, rule
        4), else the one that today's spec makes of it."""
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
    def not_forward(self) -> Reason | None:
        """What stops every forward move now; going back and holds do not ask."""
        if self.policy.suspend:
            return Reason.SUSPENDED
        if self.observed.problems:
            return Reason.PENDING
        return _OUTCOMES[self.observed.registry.outcome]

    def fresh(self, revision: Revision, after: datetime | None) -> bool:
        """The registry was asked for the alias and for holds on the revision later than `after`."""
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
