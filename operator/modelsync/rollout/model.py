"""The planner's input (`Observed`), memory (`State`) and output (`Plan`).

All types are frozen and hashable, because the model check puts millions of them into sets. Times are aware UTC
datetimes, durations are `timedelta`, weights are whole per cent. An unknown fact is `None`, never `False`. This module
must never read a clock, do I/O, or name a Kubernetes object: `modelsync.cluster` translates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, TypeAlias

from modelsync.api.hold import HoldAction, HoldMark, OnStale
from modelsync.api.reasons import Reason
from modelsync.api.requests import Requests
from modelsync.api.routing import HeaderMatch, Routing, Rule, Weights

Revision: TypeAlias = str
"""`v7-3fa9c1d2`: the version's name and the first 8 hex digits of a hash of everything that defines its pods
(docs/design/README.md, "Revisions")."""

Weight: TypeAlias = int
"""Whole per cent, 0 to 100."""

BLOCKED: Revision = "blocked"
"""The Service that selects no pods: clients get 503, and no version receives their requests."""


# --- the spec, with defaults filled in ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetWeight:
    """Rollout step: set the canary's share of the traffic."""

    weight: Weight


@dataclass(frozen=True, slots=True)
class Pause:
    """Rollout step: wait for `duration`, or without one until a user promotes."""

    duration: timedelta | None = None


@dataclass(frozen=True, slots=True)
class SetMatch:
    """Rollout step: send requests with any of these headers to the canary, until the next `SetMatch` or its end."""

    match: tuple[HeaderMatch, ...]


Step: TypeAlias = SetWeight | Pause | SetMatch


@dataclass(frozen=True, slots=True)
class Policy:
    """The part of `spec` that the planner uses. A running canary keeps the `steps` that it started with."""

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
    sessions: bool = False  # during a canary, clients stay with the revision that served them
    max_staleness: timedelta = timedelta(minutes=5)  # how old the knowledge of hold marks may be
    on_stale: OnStale = OnStale.SERVE  # what becomes of what serves when it is older


# --- registry answers --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """One artifact of a revision. `key`: `model`, `adapter/legal`, … (`api.references`)."""

    key: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """The revision that results from the resolved aliases and the current spec.

    `content` identifies what was resolved (model, base, adapters, side artifacts) without the spec: two revisions with
    the same content differ only in their spec. `digests` are what a hold can cover; `parts` are the artifacts that they
    belong to, the model first.
    """

    revision: Revision
    version: str
    content: str
    digests: tuple[str, ...]
    parts: tuple[Part, ...] = ()


class RegistryOutcome(StrEnum):
    """Result of the last registry query.

    Only `RESOLVED` can start a move; the others change nothing (`ModelResolved=Unknown`). `MISSING`, `DENIED` and
    `REFUSED` need a user to fix something.
    """

    PENDING = "Pending"  # not queried yet
    RESOLVED = "Resolved"
    MISSING = "Missing"  # project, collection, alias or version does not exist or is not visible to the credential
    DENIED = "Denied"  # 401, 403
    THROTTLED = "Throttled"
    UNREACHABLE = "Unreachable"  # network, 5xx, HTML
    REFUSED = "Refused"  # not queried: server not allowed, Secret missing or not labelled, bad CA bundle
    WITHDRAWN = "Withdrawn"  # the version that the alias names was deleted


@dataclass(frozen=True, slots=True)
class RegistryView:
    """Result of the last query for the alias.

    `candidate` comes from the last positive answer (after a restart, from `status.resolved`). `asked_at` is when the
    request for that answer was sent, or `None` if this process has no answer yet.
    """

    outcome: RegistryOutcome
    candidate: Candidate | None = None
    asked_at: datetime | None = None
    message: str = ""
    since: datetime | None = None  # when the outcome last changed
    retry_at: datetime | None = None  # when throttling ends
    server: str = ""  # base URL of the server that is queried; empty: none
    watched: tuple[str, ...] = ()  # base URLs of other servers that are queried for holds on what serves


@dataclass(frozen=True, slots=True)
class HoldRead:
    """All hold marks on one digest, from a positive answer.

    `alias_mark_elsewhere`: another version of the collection has the hold alias. A latched hold by alias ends only when
    no version has that alias any more (docs/design/README.md, "Holds").
    """

    digest: str
    marks: tuple[HoldMark, ...]
    alias_mark_elsewhere: bool
    asked_at: datetime
    server: str = ""  # base URL of the server that was queried
    asked: float = field(default=0.0, compare=False)  # `asked_at` by a monotonic clock of this process; orders reads


# --- cluster state -------------------------------------------------------------------------------------------------


class TroubleKind(StrEnum):
    """Why a revision's pods do not serve. The first two are the model's fault, the rest infrastructure's."""

    CRASHED = "Crashed"  # a container exited with an error after it had been ready
    CRASHED_LOADING = "CrashedLoading"  # a container exited with an error before it was ever ready; see `Trouble.count`
    CONTENT_REFUSED = "ContentRefused"  # the files do not match the version's digests, or must not be loaded
    PULL_FAILED = "PullFailed"  # the files could not be downloaded (registry, network, disk)
    IMAGE = "Image"  # ErrImagePull, ImagePullBackOff, InvalidImageName
    UNSCHEDULABLE = "Unschedulable"  # no node has the required GPUs, memory or labels
    REFUSED = "Refused"  # quota, admission or Pod Security rejected the pods
    OTHER = "Other"  # sandbox, volume, missing Secret or ConfigMap


@dataclass(frozen=True, slots=True)
class Trouble:
    """The most severe problem of a revision's pods now."""

    kind: TroubleKind
    message: str
    count: int = 1  # restarts of the affected container
    since: datetime | None = None  # when it last happened; for a crash, when the container exited


@dataclass(frozen=True, slots=True)
class Verified:
    """What the init containers verified, from their termination messages, summed over all artifacts."""

    digest: str  # of the model
    files: int
    size: int  # bytes
    seconds: float
    artifacts: int = 1


class ExamOutcome(StrEnum):
    """State of the version's exam (`modelsync/golden.jsonl`) in the pods of a revision."""

    RUNNING = "Running"
    PASSED = "Passed"
    FAILED = "Failed"  # some answers differ from the expected ones
    INVALID = "Invalid"  # the file cannot be read


@dataclass(frozen=True, slots=True)
class Exam:
    """The exam as reported by the pods: the worst finished result, because no pod of a good version fails."""

    outcome: ExamOutcome
    passed: int = 0
    total: int = 0
    seconds: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True)
class RevisionView:
    """One revision as observed in the cluster.

    `ready` counts the ready endpoints of its own Service, which is the number that traffic can rely on. `pods` counts
    pods that still run, including terminating ones. Without `digests` nobody knows what it contains: it has no record,
    and neither its Deployment nor its pods show what they pulled.
    """

    revision: Revision
    version: str
    content: str
    digests: tuple[str, ...]
    recorded: bool = True  # its immutable record exists
    deployed: bool = False  # its Deployment and Service exist
    replicas: int = 0  # `spec.replicas` of the Deployment
    ready: int = 0
    pods: int = 0
    ready_since: datetime | None = None  # since when at least one endpoint has been ready
    unready_since: datetime | None = None  # since when no endpoint has been ready
    lacking_since: datetime | None = None  # since when fewer are ready than requested, and not suspended
    progress_at: datetime | None = None  # last sign of progress: pod created, container started, files pulled, ready
    pulling: bool = False  # an init container is downloading now
    trouble: Trouble | None = None
    verified: Verified | None = None
    exam: Exam | None = None  # None: the version has no exam, or no pod has reported a result yet
    cut: bool = False  # every remaining pod is terminating with the short grace period of a `CutOff`
    recorded_at: datetime | None = None  # when the record was written; the history limit deletes the oldest
    parts: tuple[Part, ...] = ()  # as `Candidate.parts`
    unread_since: datetime | None = None  # since when its marks have not been read, if this process never read them


@dataclass(frozen=True, slots=True)
class RouteView:
    """The live HTTPRoute, even if the spec no longer asks for one.

    `weights` contains every backend in order, including zero weights, with `BLOCKED` for the blocked Service. `rules`
    precede the weighted backends. `drifted`: the route differs from the rendered one in some other way.
    """

    weights: Weights
    accepted: bool | None  # Accepted and ResolvedRefs on every parent at this generation; None: not reported yet
    accepted_since: datetime | None = None  # when this process first saw `accepted` at this generation
    refused_since: datetime | None = None  # when this process first saw a parent reject it; None also if unknown
    message: str = ""  # of a parent that rejects it
    drifted: bool = False
    rules: tuple[Rule, ...] = ()

    @property
    def routing(self) -> Routing:
        """The route's content, for comparison with the wanted routing."""
        return Routing(self.weights, self.rules)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem that a user must fix, found before planning: the spec asks for something invalid or forbidden."""

    reason: str
    message: str  # the field, its value, what is allowed, the next step
    blocks_route: bool = False  # the route must not be written (conflict, Gateway API missing)


# --- what the planner keeps in .status between passes ----------------------------------------------------------------


class MoveReason(StrEnum):
    """Why a move has no steps."""

    FIRST = "First"  # nothing serves
    ROLLBACK = "Rollback"  # the alias names a revision further down the stack
    FALLBACK = "Fallback"  # the stable is on hold
    RECOVERY = "Recovery"  # the stable lost all its pods and the canary takes over


@dataclass(frozen=True, slots=True)
class Target:
    """A move without steps."""

    revision: Revision
    reason: MoveReason
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Canary:
    """A move by steps.

    `step` is the index of the current step, `len(steps)` when only the promotion is left. `weight` is the share that
    the route should give it now, and `match` the segment of requests that it gets regardless of its weight; both are
    taken from a step once the pods for it are ready. `step_started_at` is when both had settled, and starts the clock
    of a pause. Both grow only after a registry answer that was requested after `look_after`. `flapped`: it lost all its
    pods while it had traffic, and must be ready for `READY_AGAIN` before it gets traffic again.
    """

    revision: Revision
    step: int
    weight: Weight
    steps: tuple[Step, ...]
    started_at: datetime
    step_started_at: datetime | None = None
    look_after: datetime | None = None
    flapped: bool = False
    promoted_by: str | None = None  # the user who skipped the remaining steps
    match: tuple[HeaderMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed revision. It is not retried until the alias moves away or a user requests a retry."""

    revision: Revision
    reason: str
    at: datetime
    message: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """A latched hold mark. `since` is when the answer that first showed it was requested."""

    mark: HoldMark
    since: datetime
    server: str = ""  # base URL of the last server to show it, which alone can end it; empty: from an older operator


@dataclass(frozen=True, slots=True)
class Previous:
    """The previous stable, kept warm."""

    revision: Revision
    until: datetime


@dataclass(frozen=True, slots=True)
class State:
    """Intent. It is written to `.status` before it is acted on, and is enough to continue after a crash."""

    target: Target | None = None
    canary: Canary | None = None
    promoted: tuple[Revision, ...] = ()  # the stack of promoted revisions, newest last; the last is the stable
    failed: tuple[Failure, ...] = ()
    holds: tuple[Hold, ...] = ()
    previous: Previous | None = None
    handled: Requests = field(default_factory=Requests)

    @property
    def stable(self) -> Revision | None:
        """The revision that was promoted last."""
        return self.promoted[-1] if self.promoted else None

    @property
    def moving(self) -> tuple[Revision, ...]:
        """The canary's or the target's revision; empty if nothing moves."""
        return tuple(move.revision for move in (self.canary, self.target) if move is not None)

    @property
    def in_use(self) -> frozenset[Revision]:
        """The revisions that are promoted, moving or kept warm."""
        warm = (self.previous.revision,) if self.previous is not None else ()
        return frozenset((*self.promoted, *self.moving, *warm))


# --- input and output ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that `plan` may use. Read live before anything is written (docs/design/README.md, "Rules")."""

    now: datetime
    generation: int
    policy: Policy
    requests: Requests
    state: State
    registry: RegistryView
    holds: Mapping[str, HoldRead]  # by digest; if a digest is missing, its hold state is unknown
    revisions: Mapping[Revision, RevisionView]
    route: RouteView | None  # None: there is none (or the spec asks for no gateway)
    service: Revision | None  # what the plain Service selects, or BLOCKED; None: there is no Service
    problems: tuple[Problem, ...] = ()
    shown: tuple[Hold, ...] = ()  # marks on any digest that another credential or ModelDeployment sees
    gone: frozenset[HoldMark] = frozenset()  # latched marks that a read by any credential shows to be gone


@dataclass(frozen=True, slots=True)
class EnsureRevision:
    """Create the immutable record (once), the revision's Service, and its Deployment with `replicas`."""

    revision: Revision
    replicas: int


@dataclass(frozen=True, slots=True)
class Scale:
    """Change the number of replicas of an existing Deployment."""

    revision: Revision
    replicas: int


@dataclass(frozen=True, slots=True)
class SetRoute:
    """Write the HTTPRoute with exactly these backends and rules.

    The weights add up to 100, or are `((BLOCKED, 1),)` without rules.
    """

    weights: Weights
    reason: str
    rules: tuple[Rule, ...] = ()

    @property
    def routing(self) -> Routing:
        """The route's content after the write."""
        return Routing(self.weights, self.rules)


@dataclass(frozen=True, slots=True)
class PointService:
    """Make the plain Service select this revision, or `BLOCKED`."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class CutOff:
    """Cut off a held revision: blow the fuse in each pod, delete the pods with a short grace period, scale to 0."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    """Delete the HTTPRoute because the spec no longer asks for a gateway."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete the Deployment and the Service; with `forget` also the record (history limit)."""

    revision: Revision
    forget: bool = False


Action: TypeAlias = EnsureRevision | Scale | SetRoute | RemoveRoute | PointService | CutOff | Remove


@dataclass(frozen=True, slots=True)
class Event:
    """A transition to report as an events.k8s.io/v1 Event."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    note: str
    revision: Revision | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Something that must happen before the next move. `until`: when it ends automatically, if known."""

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
    """A move that ended in this pass; becomes a history entry."""

    revision: Revision
    outcome: Outcome
    reason: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now.

    If `state` differs from the observed one it is written to `.status` first, then `actions` run in order. A rejected
    status write ends the pass, unless the plan is `urgent` (a hold): then the actions run anyway
    (docs/design/README.md, "Holds"). `requeue_after` is when to plan again if nothing happens before. `look`: the next
    move needs a registry answer that is requested from now on. `waits` lists what must happen before the next move,
    most important first; `finished` lists the moves that ended in this pass.
    """

    state: State
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    requeue_after: timedelta | None = None
    look: bool = False
    urgent: bool = False
    waits: tuple[Wait, ...] = ()
    finished: tuple[Finished, ...] = ()
