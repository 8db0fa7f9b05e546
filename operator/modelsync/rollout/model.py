"""What the planner may know (`Observed`), what it keeps (`State`) and what it answers (`Plan`).

Everything here is frozen and hashable: the model check puts millions of these into sets. Times are aware UTC
datetimes; durations are `timedelta`; a weight is whole per cent. A fact that is not known is `None`, never `False`.
Nothing here may read a clock, do I/O, or name a Kubernetes object: `modelsync.cluster` translates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, TypeAlias

from modelsync.api.hold import HoldAction, HoldMark
from modelsync.api.reasons import Reason
from modelsync.api.requests import Requests
from modelsync.api.routing import HeaderMatch, Routing, Rule, Weights

Revision: TypeAlias = str
"""`v7-3fa9c1d2`: the version's name and 8 hex digits of the hash of all that makes a pod (DESIGN §1)."""

Weight: TypeAlias = int
"""Whole per cent, 0 to 100."""

BLOCKED: Revision = "blocked"
"""Stands for the Service that selects nothing: clients get 503 and no answer of any version."""


# --- what is wished: the spec, defaults filled in -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetWeight:
    """Rollout step: the canary gets this share."""

    weight: Weight


@dataclass(frozen=True, slots=True)
class Pause:
    """Rollout step: wait `duration`, or without one until a person promotes."""

    duration: timedelta | None = None


@dataclass(frozen=True, slots=True)
class SetMatch:
    """Rollout step: requests with any one of these headers go to the canary, until another `SetMatch` or its end."""

    match: tuple[HeaderMatch, ...]


Step: TypeAlias = SetWeight | Pause | SetMatch


@dataclass(frozen=True, slots=True)
class Policy:
    """What of `spec` the planner goes by. `steps` is today's; a running canary keeps the snapshot it began with."""

    replicas: int
    steps: tuple[Step, ...]
    progress_deadline: timedelta
    keep_previous_replicas: int
    keep_previous_for: timedelta
    hold_action: HoldAction
    settle: timedelta
    shutdown_timeout: timedelta
    gateway: bool
    suspend: bool
    history_limit: int
    test_header: bool = False  # a header may name the revision
    sessions: bool = False  # during a canary clients stay with the revision that answered them


# --- what the registry said --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """One of the artifacts that a revision is made of. `key`: `model`, `adapter/legal`, … (`api.references`)."""

    key: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """The revision that the aliases' answers make with today's spec.

    `content` identifies what was resolved (model, base, adapters, side artifacts) apart from the spec: two revisions
    with the same content differ only by spec. `digests` are what a hold may name, `parts` what they belong to, the
    model first.
    """

    revision: Revision
    version: str
    content: str
    digests: tuple[str, ...]
    parts: tuple[Part, ...] = ()


class RegistryOutcome(StrEnum):
    """How the last look ended. Only `RESOLVED` moves anything; the others keep what is (`ModelResolved=Unknown`),
    but `MISSING`, `DENIED` and `REFUSED` name something that a person has to put right."""

    PENDING = "Pending"  # not asked yet
    RESOLVED = "Resolved"
    MISSING = "Missing"  # project, collection, alias or version is not there, or may not be seen
    DENIED = "Denied"  # 401, 403
    THROTTLED = "Throttled"
    UNREACHABLE = "Unreachable"  # network, 5xx, HTML
    REFUSED = "Refused"  # we did not ask: server not allowed, Secret missing or not labelled, bad CA bundle
    WITHDRAWN = "Withdrawn"  # the version that the alias names is deleted


@dataclass(frozen=True, slots=True)
class RegistryView:
    """The alias as last answered. `candidate` is of the last positive answer (after a restart: of `status.resolved`);
    `asked_at` is when the question of the last positive answer was sent, `None` when this process has none yet."""

    outcome: RegistryOutcome
    candidate: Candidate | None = None
    asked_at: datetime | None = None
    message: str = ""
    since: datetime | None = None  # when the outcome became what it is
    retry_at: datetime | None = None  # throttled until
    server: str = ""  # base URL of who is asked; empty: nobody is


@dataclass(frozen=True, slots=True)
class HoldRead:
    """A positive read of all hold marks on one digest. `alias_mark_elsewhere`: some other version of the collection
    carries a hold alias, so a latched hold by alias does not end (DESIGN §4: it ends when no version carries one)."""

    digest: str
    marks: tuple[HoldMark, ...]
    alias_mark_elsewhere: bool
    asked_at: datetime
    server: str = ""  # base URL of who was asked


# --- what the cluster holds ----------------------------------------------------------------------------------------


class TroubleKind(StrEnum):
    """Why a revision's pods do not serve. The first two are the model's own fault, the rest infrastructure's."""

    CRASHED = "Crashed"  # a container ended with an error after it had been ready
    CRASHED_LOADING = "CrashedLoading"  # it ended with an error before it was ever ready; see `Trouble.count`
    CONTENT_REFUSED = "ContentRefused"  # the puller proved that the bytes are not the version's
    PULL_FAILED = "PullFailed"  # the puller could not get the bytes (registry, network, disk)
    IMAGE = "Image"  # ErrImagePull, ImagePullBackOff, InvalidImageName
    UNSCHEDULABLE = "Unschedulable"  # no node with the GPUs, memory or labels
    REFUSED = "Refused"  # quota, admission or Pod Security refused the pods
    OTHER = "Other"  # sandbox, volume, missing Secret or ConfigMap


@dataclass(frozen=True, slots=True)
class Trouble:
    """The worst thing seen on a revision's pods now."""

    kind: TroubleKind
    message: str
    count: int = 1  # restarts of the container it happened in
    since: datetime | None = None  # when it last happened; of a crash, when the container ended


@dataclass(frozen=True, slots=True)
class Verified:
    """What the pullers proved, from the init containers' termination messages, all artifacts together."""

    digest: str  # of the model
    files: int
    size: int  # bytes
    seconds: float
    artifacts: int = 1


class ExamOutcome(StrEnum):
    """How the version's own exam (`modelsync/golden.jsonl`) stands in the pods of a revision."""

    RUNNING = "Running"
    PASSED = "Passed"
    FAILED = "Failed"  # answers are not as expected
    INVALID = "Invalid"  # the file cannot be read


@dataclass(frozen=True, slots=True)
class Exam:
    """The exam as the pods tell it; of several the worst that is over, for no pod of a fit version fails it."""

    outcome: ExamOutcome
    passed: int = 0
    total: int = 0
    seconds: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True)
class RevisionView:
    """One revision as the cluster has it. `ready` counts ready endpoints of its own Service, the number that traffic
    may rely on; `pods` counts pods that still run, terminating ones included."""

    revision: Revision
    version: str
    content: str
    digests: tuple[str, ...]
    recorded: bool = True  # its immutable record exists
    deployed: bool = False  # its Deployment and Service exist
    replicas: int = 0  # wanted by the Deployment
    ready: int = 0
    pods: int = 0
    ready_since: datetime | None = None  # at least one endpoint has been ready since
    unready_since: datetime | None = None  # none has been ready since
    lacking_since: datetime | None = None  # fewer are ready than asked for, and no suspension is on, since
    progress_at: datetime | None = None  # last sign of progress: pod created, container started, files pulled, ready
    pulling: bool = False  # an init container is transferring now
    trouble: Trouble | None = None
    verified: Verified | None = None
    exam: Exam | None = None  # None: it brings none, or nobody has told yet
    cut: bool = False  # every pod that still runs is ending with the short grace of a `CutOff`
    recorded_at: datetime | None = None  # when the record was written: the history limit forgets the oldest
    parts: tuple[Part, ...] = ()  # as `Candidate.parts`


@dataclass(frozen=True, slots=True)
class RouteView:
    """The live HTTPRoute, also when the spec asks for none any more. `weights` holds every backend in order, zero
    weights included, `BLOCKED` for the blocked Service; `rules` what comes before them; `drifted` is set when the route
    differs from what we render in any other way."""

    weights: Weights
    accepted: bool | None  # Accepted and ResolvedRefs on every parent at this generation; None: not yet said
    accepted_since: datetime | None = None  # this process saw `accepted` at this generation first
    refused_since: datetime | None = None  # this process saw a parent say no first; None also where that is not known
    message: str = ""  # of a parent that says no
    drifted: bool = False
    rules: tuple[Rule, ...] = ()

    @property
    def routing(self) -> Routing:
        """What the route says, to be compared with what is wanted."""
        return Routing(self.weights, self.rules)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a person must put right, found before planning: what the spec asks and may not or cannot have."""

    reason: str
    message: str  # field, value, what is allowed, next step
    blocks_route: bool = False  # no route may be written (conflict, Gateway API missing)


# --- what the planner keeps between passes, in .status ---------------------------------------------------------------


class MoveReason(StrEnum):
    """Why a move has no steps."""

    FIRST = "First"  # nothing serves
    ROLLBACK = "Rollback"  # the alias names a revision further down the stack
    FALLBACK = "Fallback"  # the stable is held
    RECOVERY = "Recovery"  # the stable lost all its pods, and the canary takes over


@dataclass(frozen=True, slots=True)
class Target:
    """A move to a revision without steps."""

    revision: Revision
    reason: MoveReason
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Canary:
    """A move by steps. `step` is what it works on, `len(steps)` when only the promotion is left. `weight` is the share
    that the route is to give it now: a step's share is taken over when the pods for it are ready; likewise `match`, the
    segment of requests that go to it whatever its weight. `step_started_at` is when both had settled, and the clock of
    a pause. Both grow only on a registry answer that was asked for later than `look_after`. `flapped`: it lost all pods
    under traffic, and has to be ready for a while again."""

    revision: Revision
    step: int
    weight: Weight
    steps: tuple[Step, ...]
    started_at: datetime
    step_started_at: datetime | None = None
    look_after: datetime | None = None
    flapped: bool = False
    promoted_by: str | None = None  # a person skipped what is left
    match: tuple[HeaderMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A revision that is not tried again until its alias has left it or a person says retry."""

    revision: Revision
    reason: str
    at: datetime
    message: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold mark, latched. `since` is when the answer that first showed it was asked for."""

    mark: HoldMark
    since: datetime
    server: str = ""  # base URL of who showed it last, and alone can show it gone; empty: written before this was told


@dataclass(frozen=True, slots=True)
class Previous:
    """The stable before, kept warm."""

    revision: Revision
    until: datetime


@dataclass(frozen=True, slots=True)
class State:
    """Intent: written to `.status` before anything acts on it, and enough to go on after a crash."""

    target: Target | None = None
    canary: Canary | None = None
    promoted: tuple[Revision, ...] = ()  # the lineage stack, newest last; the last one is the stable
    failed: tuple[Failure, ...] = ()
    holds: tuple[Hold, ...] = ()
    previous: Previous | None = None
    handled: Requests = field(default_factory=Requests)

    @property
    def stable(self) -> Revision | None:
        """The revision promoted last."""
        return self.promoted[-1] if self.promoted else None


# --- in and out ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Observed:
    """All that `plan` may know. Gathered live before anything is written (DESIGN §5)."""

    now: datetime
    generation: int
    policy: Policy
    requests: Requests
    state: State
    registry: RegistryView
    holds: Mapping[str, HoldRead]  # by digest; a digest that is missing is unknown, not clear
    revisions: Mapping[Revision, RevisionView]
    route: RouteView | None  # None: there is none (or no gateway is asked for)
    service: Revision | None  # what the plain Service selects; BLOCKED; None: there is none
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class EnsureRevision:
    """Write the immutable record (once), the revision's Service, and its Deployment with `replicas`."""

    revision: Revision
    replicas: int


@dataclass(frozen=True, slots=True)
class Scale:
    """Give an existing Deployment another number of replicas."""

    revision: Revision
    replicas: int


@dataclass(frozen=True, slots=True)
class SetRoute:
    """Write the HTTPRoute with exactly these backends and rules. Weights add up to 100, or it is `((BLOCKED, 1),)` and
    there are no rules."""

    weights: Weights
    reason: str
    rules: tuple[Rule, ...] = ()

    @property
    def routing(self) -> Routing:
        """What the route will say."""
        return Routing(self.weights, self.rules)


@dataclass(frozen=True, slots=True)
class PointService:
    """Let the plain Service select this revision, or `BLOCKED`."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class CutOff:
    """A held revision: blow the fuse in each of its pods, then delete them with a short grace and scale to 0."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    """Delete the HTTPRoute: the spec asks for no gateway any more."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete Deployment and Service; with `forget` the record too (beyond the history limit)."""

    revision: Revision
    forget: bool = False


Action: TypeAlias = EnsureRevision | Scale | SetRoute | RemoveRoute | PointService | CutOff | Remove


@dataclass(frozen=True, slots=True)
class Event:
    """A transition worth telling: becomes an events.k8s.io/v1 Event."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    note: str
    revision: Revision | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Something that has to happen before more moves. `until`: when it ends by itself, where that is known."""

    reason: Reason
    revision: Revision | None = None
    until: datetime | None = None


class Outcome(StrEnum):
    """How a move ended."""

    PROMOTED = "Promoted"
    TAKEN_BACK = "TakenBack"
    SUPERSEDED = "Superseded"
    FAILED = "Failed"
    HELD = "Held"


@dataclass(frozen=True, slots=True)
class Finished:
    """A move that ended in this pass, for the history."""

    revision: Revision
    outcome: Outcome
    reason: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now.

    `state` is written to `.status` first when it differs from the observed one; then, in order, `actions`. Without
    `urgent` a refused status write ends the pass; with it (a hold) the actions are done all the same (DESIGN §4).
    `requeue_after` is when to look again though nothing happens. `look`: the next move needs a registry answer that
    is asked for from now on. `waits` says what has to happen before more moves, most telling first; `finished` what
    came to its end in this pass.
    """

    state: State
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    requeue_after: timedelta | None = None
    look: bool = False
    urgent: bool = False
    waits: tuple[Wait, ...] = ()
    finished: tuple[Finished, ...] = ()
