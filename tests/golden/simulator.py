"""Simulates a small cluster for the planner: pods that start, crash and terminate, a gateway, a registry, a clock.

Everything that a real cluster does between two passes is a timed event here; the planner is the production one. Events
are recorded in a readable log. With a seed, times get jitter, simultaneous events come in random order, and status
writes are rejected now and then: the end state must be the same.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from model.invariants import check_actions, check_world
from modelsync.api.hold import HoldAction, HoldMark, HoldSource
from modelsync.api.parts import MODEL
from modelsync.api.parts import adapter as adapter_key
from modelsync.api.requests import Requests
from modelsync.api.routing import Routing, RuleKind
from modelsync.api.status import ModelDeploymentStatus
from modelsync.report.report import report
from modelsync.rollout import plan
from modelsync.rollout.model import (
    BLOCKED,
    Action,
    Candidate,
    CutOff,
    EnsureRevision,
    Exam,
    ExamOutcome,
    HoldRead,
    Observed,
    Part,
    Pause,
    Plan,
    PointService,
    Policy,
    Problem,
    RegistryOutcome,
    RegistryView,
    Remove,
    RemoveRoute,
    RevisionView,
    RouteView,
    Scale,
    SetRoute,
    SetWeight,
    State,
    Trouble,
    TroubleKind,
    Verified,
)
from modelsync.rollout.state import load

START = datetime(2026, 1, 1, tzinfo=UTC)
COLLECTION = "acme/wandb-registry-model/chat"
SERVER = "https://wandb.example.com"

POLICY = Policy(
    replicas=2,
    steps=(
        SetWeight(5),
        Pause(timedelta(minutes=10)),
        SetWeight(50),
        Pause(timedelta(minutes=10)),
    ),
    progress_deadline=timedelta(minutes=30),
    keep_previous_replicas=1,
    keep_previous_for=timedelta(hours=1),
    hold_action=HoldAction.FALLBACK,
    settle=timedelta(seconds=5),
    shutdown_timeout=timedelta(seconds=60),
    gateway=True,
    suspend=False,
    history_limit=10,
)


_FAILED_EXAM = 'line 3 (capital): wanted as token 1 " Paris" at -0.20 ± 0.2, got " Rome" at -0.31'


@dataclass
class Behaviour:
    """How the pods of a version behave. Times in seconds."""

    pull: float = 20
    load: float = 10
    crashes_loading: bool = False
    crashes_after: float | None = None  # seconds of being ready
    never_ready: bool = False
    unschedulable: bool = False
    exam: ExamOutcome | None = None  # the result of the version's exam; None: it has no exam
    exam_takes: float = 5


@dataclass
class Pod:
    """One pod. `stage`: waiting, pulling, loading, examined, ready, crashed, ending."""

    number: int
    stage: str = "waiting"
    cut: bool = False
    restarts: int = 0
    alive: bool = True


@dataclass
class SimRevision:
    """One revision in the simulated cluster."""

    name: str
    version: str
    content: str
    deployed: bool = False
    replicas: int = 0
    pods: list[Pod] = field(default_factory=list)
    ready_since: datetime | None = None
    unready_since: datetime | None = None
    lacking_since: datetime | None = None
    progress_at: datetime | None = None
    trouble: Trouble | None = None
    verified: bool = False
    exam: Exam | None = None

    @property
    def ready(self) -> int:
        return sum(pod.stage == "ready" for pod in self.pods) if self.deployed else 0


class World:
    """The simulated cluster, the registry, and the operator's reconcile loop."""

    def __init__(self, policy: Policy = POLICY, seed: int | None = None) -> None:
        self.now = START
        self.policy = policy
        self.random = random.Random(seed) if seed is not None else None
        self.log: list[str] = []
        self.behaviours: dict[str, Behaviour] = {}
        self.spec_variant = ""
        self.revisions: dict[str, SimRevision] = {}
        self.route: RouteView | None = None
        self.service: str | None = None
        self.status = ModelDeploymentStatus()
        self.generation = 1
        self.requests = Requests()
        self.problems: tuple[Problem, ...] = ()
        self.alias: str | None = None
        self.answered: str | None = None
        self.marks: dict[str, HoldMark] = {}
        self.reads: dict[str, HoldRead] = {}
        self.reachable = True
        self.outcome = RegistryOutcome.PENDING
        self.outcome_since = START
        self.unread_since: dict[str, datetime] = {}
        self.asked_at: datetime | None = None
        self.looking = False
        self.writes = 0
        self._events: list[tuple[datetime, float, int, Callable[[], None]]] = []
        self._count = 0
        self._phase = ""
        self._waits = ""
        self._known = "True"
        self._pods = 0
        self._wake: datetime | None = None
        self._poll_every(30)

    # --- actions of a scenario ---

    def move_alias(self, version: str) -> None:
        """Move the alias to another version; the webhook triggers a query."""
        self.alias = version
        self.record(f"alias -> {version}")
        self.look()

    def hold(self, version: str) -> None:
        """Set the regulatory-hold tag on a version; `adapter-v2` is version v2 of the adapter."""
        place = COLLECTION.replace("chat", "legal") if version.startswith("adapter-") else COLLECTION
        named = version.removeprefix("adapter-")
        self.marks[version] = HoldMark(f"digest-{version}", place, named, HoldSource.VERSION_TAG, "regulatory-hold")
        self.record(f"hold on {version}")
        self.look()

    def lift(self, version: str) -> None:
        """Remove the tag."""
        del self.marks[version]
        self.record(f"hold on {version} lifted")
        self.look()

    def registry(self, *, reachable: bool) -> None:
        """Make the registry unreachable or reachable."""
        self.reachable = reachable
        self.record(f"registry {'is reachable again' if reachable else 'is unreachable'}")
        if not reachable:
            self._answered(RegistryOutcome.UNREACHABLE)
        self.look()

    def restart(self) -> None:
        """Start a new operator process, which knows the cluster but has no registry answers yet."""
        self.record("the operator restarts")
        self.reads, self.asked_at, self.unread_since = {}, None, {}
        self._answered(RegistryOutcome.PENDING)
        self.reconcile()
        self.look()

    def change_spec(self, variant: str = "", **policy: object) -> None:
        """Change the spec of the pods (`variant`) or of the rollout."""
        self.generation += 1
        self.spec_variant = variant or self.spec_variant
        self.policy = replace(self.policy, **policy)  # type: ignore[arg-type]
        changes = ", ".join([f"pods {variant}"] * bool(variant) + [f"{key}={value}" for key, value in policy.items()])
        self.record(f"spec: {changes}")
        self.reconcile()

    def request(self, **requests: str | None) -> None:
        """Annotate the ModelDeployment with user requests."""
        self.requests = replace(self.requests, **requests)
        self.record("annotate " + ", ".join(f"{key}={value}" for key, value in requests.items()))
        self.reconcile()

    def lose_pods(self, version: str) -> None:
        """Make all pods of a version unready; they recover automatically after reloading the model."""
        revision = self.revisions[self.name_of(version)]
        self.record(f"all pods of {version} lost")
        for pod in revision.pods:
            if pod.stage == "ready":
                pod.stage = "loading"
                self._later(self.behaviour(version).load, partial(self._pod_ready, revision, pod))
        self._readiness(revision)
        self.reconcile()

    def kill_node(self, version: str) -> None:
        """Lose all pods of a version, together with their node, permanently."""
        self.behaviours[version] = replace(self.behaviour(version), unschedulable=True)
        revision = self.revisions[self.name_of(version)]
        self.record(f"the node of {version} died")
        for pod in revision.pods:
            pod.stage = "waiting"
        revision.trouble = Trouble(TroubleKind.UNSCHEDULABLE, "no node has room", since=self.now)
        self._readiness(revision)
        self.reconcile()

    def behaviour(self, version: str) -> Behaviour:
        return self.behaviours.setdefault(version, Behaviour())

    def name_of(self, version: str) -> str:
        model, adapter = _split(version)
        digits = model.removeprefix("v") * 8
        if adapter:
            digits = digits[:4] + adapter.removeprefix("v") * 4
        return f"{model}-{digits[: 8 - len(self.spec_variant)]}{self.spec_variant}"

    # --- time ---

    def run(self, *, minutes: float = 0, seconds: float = 0, until: Callable[["World"], bool] | None = None) -> None:
        """Let time pass, or run until a condition is true."""
        end = self.now + timedelta(minutes=minutes, seconds=seconds)
        passes = 0
        while True:
            if until is not None and until(self):
                return
            wakes = [self._wake] if self._wake else []
            moment = min([event[0] for event in self._events[:1]] + wakes, default=None)
            if moment is None or moment > end:
                break
            passes += 1
            assert passes < 5000, "endless events: the planner does not converge\n" + "\n".join(self.log[-40:])
            self.now = max(self.now, moment)
            if self._wake is not None and self._wake <= self.now:
                self._wake = None
                self.reconcile()
            else:
                _, _, _, happen = heapq.heappop(self._events)
                happen()
        self.now = end
        assert until is None, "the condition never became true:\n" + "\n".join(self.log[-40:])

    def _later(self, seconds: float, happen: Callable[[], None]) -> None:
        self._count += 1
        jitter, order = 0.0, 0.0
        if self.random is not None:
            jitter = self.random.random() * seconds * 0.3
            order = self.random.random()
        moment = self.now + timedelta(seconds=seconds + jitter)
        heapq.heappush(self._events, (moment, order, self._count, happen))

    # --- the registry ---

    def _poll_every(self, seconds: float) -> None:
        def poll() -> None:
            self.look()
            self._later(seconds, poll)

        self._later(seconds, poll)

    def look(self) -> None:
        """Query the registry; the answer arrives 0.2 s later."""
        if self.looking:
            return
        self.looking = True
        asked = self.now

        def answer() -> None:
            self.looking = False
            if not self.reachable:
                self._answered(RegistryOutcome.UNREACHABLE)
            elif self.alias is not None:
                self._answered(RegistryOutcome.RESOLVED)
                self.answered = self.alias
                self.asked_at = asked
                versions = {revision.version for revision in self.revisions.values()} | {self.alias}
                for digest in sorted({part.digest for version in versions for part in _parts(version)}):
                    marks = tuple(mark for mark in self.marks.values() if mark.digest == digest)
                    self.reads[digest] = HoldRead(
                        digest, marks, alias_mark_elsewhere=False, asked_at=asked, server=SERVER
                    )
            self.reconcile()

        self._later(0.2, answer)

    def _answered(self, outcome: RegistryOutcome) -> None:
        if outcome is not self.outcome:
            self.outcome, self.outcome_since = outcome, self.now

    # --- the operator ---

    def observe(self) -> Observed:
        candidate = None
        if self.answered is not None:
            parts = _parts(self.answered)
            candidate = Candidate(
                self.name_of(self.answered),
                parts[0].version,
                f"content-{self.answered}",
                tuple(part.digest for part in parts),
                parts,
            )
        return Observed(
            now=self.now,
            generation=self.generation,
            policy=self.policy,
            requests=self.requests,
            state=load(self.status),
            registry=RegistryView(self.outcome, candidate, self.asked_at, since=self.outcome_since, server=SERVER),
            holds=dict(self.reads),
            revisions={name: self._view(revision) for name, revision in self.revisions.items()},
            route=self.route,
            service=self.service,
            problems=self.problems,
        )

    def _view(self, revision: SimRevision) -> RevisionView:
        parts = _parts(revision.version)
        digest = parts[0].digest
        return RevisionView(
            revision=revision.name,
            version=parts[0].version,
            content=revision.content,
            digests=tuple(part.digest for part in parts),
            parts=parts,
            deployed=revision.deployed,
            replicas=revision.replicas,
            ready=revision.ready,
            pods=sum(pod.alive for pod in revision.pods),
            cut=all(pod.cut for pod in revision.pods),
            ready_since=revision.ready_since if revision.ready else None,
            unready_since=None if revision.ready else revision.unready_since,
            lacking_since=self._lacking_since(revision),
            unread_since=self._unread_since(revision),
            progress_at=revision.progress_at,
            pulling=any(pod.stage == "pulling" for pod in revision.pods),
            trouble=revision.trouble if revision.deployed else None,
            verified=Verified(digest, 12, 1000, 20.0) if revision.verified else None,
            exam=revision.exam if any(pod.stage != "ending" for pod in revision.pods) else None,
        )

    def _unread_since(self, revision: SimRevision) -> datetime | None:
        """As `observe.revisions` says it: this process remembers, and the status what a process before knew."""
        if all(part.digest in self.reads for part in _parts(revision.version)):
            self.unread_since.pop(revision.name, None)
            return None
        since = self.unread_since.setdefault(revision.name, self.now)
        return min(since, self.status.holds_known_at or since)

    def _lacking_since(self, revision: SimRevision) -> datetime | None:
        if revision.ready >= revision.replicas or self.policy.suspend:
            revision.lacking_since = None
        else:
            revision.lacking_since = revision.lacking_since or self.now
        return revision.lacking_since

    def reconcile(self) -> None:
        """Observe, plan and apply, until nothing is left to do."""
        for _ in range(20):
            observed = self.observe()
            made = plan(observed)
            check_actions(observed, made)
            status = report(observed, made, self.status, name="chat").status
            if made.state != observed.state or status != self.status:
                if self.random is not None and self.random.random() < 0.1 and not made.urgent:
                    self._wake = self.now + timedelta(seconds=1)  # rejected: the pass ends
                    return
                self._write_status(status, made)
            for event in made.events:
                self.record(f"  event {event.type} {event.reason}: {event.note}")
            for action in made.actions:
                if self.random is not None and self.random.random() < 0.05:
                    break  # the operator is killed between two writes
                self._apply(action)
            if made.look:
                self.look()
            if not made.actions and made.state == observed.state:
                self._wake = self.now + made.requeue_after if made.requeue_after is not None else None
                check_world(self.observe())
                if plan(self.observe()).actions:
                    raise AssertionError("a second plan of the same world has actions")
                return
        raise AssertionError("the planner does not converge\n" + "\n".join(self.log[-40:]))

    def _write_status(self, status: ModelDeploymentStatus, made: Plan) -> None:
        self.status = ModelDeploymentStatus.model_validate(status.wire())
        assert load(self.status) == made.state, "the intent does not survive the round trip through the status"
        self.writes += 1
        ready = next(condition for condition in status.conditions if condition.type == "Ready")
        phase = f"{status.phase}, Ready={ready.status} {ready.reason}"
        if phase != self._phase:
            self._phase = phase
            self.record(f"  = {phase}: {ready.message}")
        known = next(condition for condition in status.conditions if condition.type == "HoldsKnown")
        if known.status != self._known and known.status != "Unknown":
            self._known = known.status
            self.record(f"  ! HoldsKnown={known.status} {known.reason}: {known.message}")
        waits = f"waits for {status.waiting.message} ({status.waiting.who})" if status.waiting is not None else ""
        if waits != self._waits:
            self._waits = waits
            if waits:
                self.record(f"  . {waits}")

    def _apply(self, action: Action) -> None:
        self.writes += 1
        match action:
            case EnsureRevision(name, replicas):
                revision = self.revisions.get(name)
                if revision is None:
                    assert self.answered is not None
                    revision = SimRevision(name, self.answered, f"content-{self.answered}")
                    self.revisions[name] = revision
                revision.deployed = True
                revision.unready_since = self.now
                revision.trouble = None
                self.record(f"  > bring up {name} with {replicas} pods")
                self._scale(revision, replicas)
            case Scale(name, replicas):
                self.record(f"  > scale {name} {self.revisions[name].replicas} -> {replicas}")
                self._scale(self.revisions[name], replicas)
            case SetRoute(weights, _, rules):
                self.record(f"  > route {routing_line(action.routing)}")
                # As if read back: equal, but other objects.
                self.route = RouteView(tuple(each for each in weights), accepted=None, rules=tuple(rules))
                self._later(1, self._accepter(self.route))
            case RemoveRoute():
                self.record("  > route removed")
                self.route = None
            case PointService(name):
                self.record(f"  > service {name}")
                self.service = name
            case CutOff(name):
                revision = self.revisions[name]
                self.record(f"  > cut off {name}")
                revision.replicas = 0
                for pod in revision.pods:
                    pod.stage, pod.cut = "ending", True
                self._later(2, lambda: self._pods_gone(revision, list(revision.pods)))
                self._readiness(revision)
            case Remove(name, forget):
                if forget:
                    self.record(f"  > forget {name}")
                    del self.revisions[name]
                else:
                    self.record(f"  > remove {name}")
                    self._scale(self.revisions[name], 0)
                    self.revisions[name].deployed = False
                    self.revisions[name].trouble = None

    def _accepter(self, route: RouteView) -> Callable[[], None]:
        def accept() -> None:
            if self.route is route:
                self.route = replace(route, accepted=True, accepted_since=self.now)
                self.reconcile()

        return accept

    # --- pods ---

    def _scale(self, revision: SimRevision, replicas: int) -> None:
        revision.replicas = replicas
        live = [pod for pod in revision.pods if pod.stage != "ending"]
        for _ in range(replicas - len(live)):
            self._pods += 1
            self._start(revision, Pod(self._pods))
        surplus = live[replicas:]
        for pod in surplus:
            pod.stage = "ending"
        if surplus:
            self._later(65, lambda: self._pods_gone(revision, surplus))
        self._readiness(revision)

    def _start(self, revision: SimRevision, pod: Pod) -> None:
        revision.pods.append(pod)
        revision.progress_at = self.now
        behaviour = self.behaviour(revision.version)
        if behaviour.unschedulable:
            revision.trouble = Trouble(TroubleKind.UNSCHEDULABLE, "no node has room", since=self.now)
            return
        pod.stage = "pulling"
        self._later(behaviour.pull, lambda: self._pulled(revision, pod))

    def _pulled(self, revision: SimRevision, pod: Pod) -> None:
        if pod.stage != "pulling":
            return
        pod.stage = "loading"
        revision.verified = True
        revision.progress_at = self.now
        self._later(self.behaviour(revision.version).load, lambda: self._pod_ready(revision, pod))
        self.reconcile()

    def _pod_ready(self, revision: SimRevision, pod: Pod) -> None:
        behaviour = self.behaviour(revision.version)
        if pod.stage not in ("loading", "crashed", "examined") or behaviour.never_ready or behaviour.unschedulable:
            return
        if behaviour.crashes_loading:
            pod.stage = "crashed"
            pod.restarts += 1
            revision.trouble = Trouble(
                TroubleKind.CRASHED_LOADING, "the weights do not fit the config", pod.restarts, self.now
            )
            self._later(20 * 2**pod.restarts, lambda: self._pod_ready(revision, pod))
        elif behaviour.exam is not None and pod.stage == "loading":
            pod.stage = "examined"
            revision.exam = revision.exam or Exam(ExamOutcome.RUNNING)
            self._later(behaviour.exam_takes, lambda: self._examined(revision, pod))
        else:
            pod.stage = "ready"
            revision.progress_at = self.now
            if behaviour.crashes_after is not None:
                self._later(behaviour.crashes_after, lambda: self._crash(revision, pod))
        self._readiness(revision)
        self.reconcile()

    def _examined(self, revision: SimRevision, pod: Pod) -> None:
        behaviour = self.behaviour(revision.version)
        if pod.stage != "examined" or behaviour.exam is None:
            return
        passed = behaviour.exam is ExamOutcome.PASSED
        message = "12 of 12 answers are as expected" if passed else _FAILED_EXAM
        revision.exam = Exam(behaviour.exam, 12 if passed else 11, 12, behaviour.exam_takes, message)
        self.record(f"the exam of {revision.name}: {behaviour.exam}")
        if passed:
            self._pod_ready(revision, pod)
        else:
            self.reconcile()

    def _crash(self, revision: SimRevision, pod: Pod) -> None:
        if pod.stage != "ready":
            return
        pod.stage = "crashed"
        pod.restarts += 1
        self.record(f"a pod of {revision.name} crashed")
        revision.trouble = Trouble(TroubleKind.CRASHED, "CUDA error: illegal memory access", pod.restarts, self.now)
        self._readiness(revision)
        self.reconcile()

    def _pods_gone(self, revision: SimRevision, pods: list[Pod]) -> None:
        for pod in pods:
            pod.alive = False
        before = len(revision.pods)
        revision.pods = [pod for pod in revision.pods if pod.alive]
        if len(revision.pods) != before:
            self.reconcile()

    def _readiness(self, revision: SimRevision) -> None:
        if revision.ready:
            if revision.ready_since is None:
                revision.ready_since = self.now
            revision.unready_since = None
            if revision.trouble is not None and revision.ready >= revision.replicas:
                revision.trouble = None
        else:
            revision.ready_since = None
            revision.unready_since = revision.unready_since or self.now
        line = f"pods of {revision.name}: {revision.ready}/{revision.replicas} ready"
        if not self.log or not self.log[-1].endswith(line):
            self.record(line)

    # --- the log ---

    def record(self, what: str) -> None:
        """Append a line to the log."""
        passed = self.now - START
        minutes, seconds = divmod(int(passed.total_seconds()), 60)
        self.log.append(f"{minutes:4d}:{seconds:02d}  {what}")

    def end_state(self) -> tuple[object, ...]:
        """The part of the state that must not depend on the order of events."""
        state: State = load(self.status)
        serving = {name: revision.replicas for name, revision in self.revisions.items() if revision.deployed}
        return (
            state.promoted,
            state.canary and state.canary.revision,
            state.target and state.target.revision,
            tuple(sorted(failure.revision for failure in state.failed)),
            self.route.routing if self.route is not None else None,
            self.service,
            tuple(sorted(serving.items())),
            self.status.phase,
        )


def routing_line(routing: Routing) -> str:
    """Rules and shares in one line."""
    words = {RuleKind.SEGMENT: "segment", RuleKind.TEST: "test header", RuleKind.SESSION: "sessions"}
    rules = [f"{rule.revision} {words[rule.kind]}" for rule in routing.rules]
    return ", ".join([*rules, *(f"{name} {weight}" for name, weight in routing.weights)])


def _split(version: str) -> tuple[str, str]:
    """Splits `v1+v2`: v1 of the model with v2 of an adapter."""
    model, _, adapter = version.partition("+")
    return model, adapter


def _parts(version: str) -> tuple[Part, ...]:
    model, adapter = _split(version)
    found = [Part(MODEL, model, f"digest-{model}")]
    if adapter:
        found.append(Part(adapter_key("legal"), adapter, f"digest-adapter-{adapter}"))
    return tuple(found)


__all__ = ["BLOCKED", "POLICY", "Behaviour", "World"]
