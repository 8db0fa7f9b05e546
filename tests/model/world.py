"""A world around the production planner that is small enough to visit every state of it.

It has three versions, a registry, a gateway, pods, and an operator that plans on a live read and then writes one object
after another. Between any two writes the world may change, the operator may crash, or another may take over while a
write of the old one is still pending. A stale cache only affects when a pass starts, so it adds no transition: a pass
may start at any time, or not at all.

`NOW` never advances. Each time is in one of a few classes that the planner can distinguish (a pause runs or is over; a
registry answer is older or newer than a wait), and each change of class is an event of its own. This allows more
interleavings than real clocks, and keeps the world finite.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import NamedTuple, TypeAlias, TypeVar

from modelsync.api.hold import HoldAction, HoldMark, HoldSource, OnStale
from modelsync.api.requests import Requests
from modelsync.api.routing import HeaderMatch, Rule
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
    Pause,
    Plan,
    PointService,
    Policy,
    RegistryOutcome,
    RegistryView,
    Remove,
    RemoveRoute,
    RevisionView,
    RouteView,
    Scale,
    SetMatch,
    SetRoute,
    SetWeight,
    State,
    Trouble,
    TroubleKind,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ASKED = NOW - timedelta(seconds=5)  # when the last registry answer was requested
BEFORE_ASKED = NOW - timedelta(seconds=10)
JUST_NOW = NOW - timedelta(seconds=1)  # later than the last registry request
LONG_AGO = NOW - timedelta(hours=2)  # longer than any deadline
READY_FOR_LONG = NOW - timedelta(seconds=31)
DOWN_FOR_LONG = NOW - timedelta(seconds=20)
PAUSE = timedelta(minutes=10)
PAUSE_OVER = NOW - PAUSE - timedelta(seconds=1)
WARM = NOW + timedelta(hours=1)
WARM_NO_MORE = JUST_NOW

SEGMENT = (HeaderMatch("x-user-group", "internal"),)
NAMES = ("v1-aaaaaaaa", "v2-bbbbbbbb", "v3-cccccccc")
APART = (("d1",), ("d2",), ("d3",))
"""Parts of each version: a separate model each."""
SHARED = (("m1", "a1"), ("m1", "a2"), ("m2", "a2"))
"""A model and an adapter: from v1 to v2 the adapter changes, from v2 to v3 the model. Either can be held."""
_INDEX = {name: index for index, name in enumerate(NAMES)}

PENDING, ACCEPTED, SETTLED = 0, 1, 2
GONE, DRAINS, CUT = 0, 1, 2


class Rev(NamedTuple):
    """A revision in the cluster.

    `ready_class`: 0 the registry was queried since it became ready, 1 not queried since, 2 ready for `READY_AGAIN`.
    `lost`: no ready pod for longer than a flap. `ending`: pods that still run after they were scaled down.
    `failed_exam`: one of its pods failed the version's exam, and is not ready until it is replaced.
    """

    recorded: bool = False
    deployed: bool = False
    replicas: int = 0
    ready: int = 0
    ready_class: int = 0
    lost: bool = False
    crashed: bool = False
    failed_exam: bool = False
    ending: int = GONE
    silent: bool = False  # its pods have blown their fuses, and are never ready again
    vanished: bool = False  # its record is gone, and nothing shows what it contains


class Budget(NamedTuple):
    """How often each disturbance may still occur."""

    moves: int = 0
    holds: int = 0
    flaps: int = 0
    crashes: int = 0  # of the operator: killed, failover, rejected status write
    outages: int = 0  # of the registry
    scales: int = 0  # of spec.replicas, to any of `Setting.totals`
    suspends: int = 0
    requests: int = 0  # of a user: promote, promote-full, abort, retry
    exams: int = 0  # a pod fails the version's exam
    deadlines: int = 0  # the current move exceeds its progress deadline
    silences: int = 0  # marks are not read for longer than `hold.maxStaleness`
    vanishes: int = 0  # a record is deleted


Write: TypeAlias = "Intent | Action"

T = TypeVar("T")


class Intent:
    """An interned `State`: one object for all equal ones, compared by identity because hashing would be too slow."""

    __slots__ = ("value",)

    def __init__(self, value: State) -> None:
        self.value = value


class PendingPass:
    """The remaining writes of a pass, and what they were planned on. Interned: one object for all equal ones."""

    __slots__ = ("read", "urgent", "writes")

    def __init__(
        self, writes: tuple[Write, ...], urgent: bool, read: tuple[Intent, object, object, tuple[Rev, ...]]
    ) -> None:
        self.writes = writes
        self.urgent = urgent
        self.read = read  # status, route, service, revisions


class Route(NamedTuple):
    """Backends with their weights, the gateway's progress with them (`stage`), and the rules before them."""

    weights: tuple[tuple[str, int], ...]
    stage: int
    rules: tuple[Rule, ...] = ()

    @property
    def content(self) -> object:
        """What a write of the route is planned on."""
        return (self.weights, self.rules)


class World(NamedTuple):
    """The whole world.

    `alias` and `marks` are the registry's actual state. `answered` is the last answer for the alias (it survives in the
    status), `asked` whether this process has an answer, `reads` what it knows about holds (None: unknown). `replicas`
    and `suspend` are from the spec, `requests` are the user's annotations.
    """

    intent: Intent
    revs: tuple[Rev, ...]
    route: Route | None
    service: str | None
    alias: int
    answered: int | None
    outcome: RegistryOutcome
    asked: bool
    reads: tuple[bool | None, ...]
    marks: tuple[bool, ...]
    pending: PendingPass | None
    zombie: PendingPass | None
    stamped: bool
    budget: Budget
    replicas: int
    suspend: bool = False
    requests: Requests = Requests()
    behind: tuple[Intent, tuple[Rev, ...], Route | None, str | None] | None = None  # a cache that is one write behind
    stale: tuple[bool, ...] = ()  # whose marks were last read too long ago, also by a process before; empty: none

    @property
    def state(self) -> State:
        """The planner's state."""
        return self.intent.value


@dataclass(frozen=True)
class Setting:
    """What is varied between runs: the spec, and safeguards of the operator.

    `totals` are the values that `spec.replicas` may change to. `parts` are the digests of each version. With `drains`,
    pods that are scaled down still run for a while. With `open_pause`, a user has to promote. `stamp` and `live_reads`
    are safeguards that are always on in production; mutants switch them off.
    """

    gateway: bool = True
    replicas: int = 1
    totals: tuple[int, ...] = ()
    drains: bool = False
    open_pause: bool = False
    action: HoldAction = HoldAction.FALLBACK
    on_stale: OnStale = OnStale.SERVE
    segment: bool = False  # a step with a match before the shares
    test_header: bool = False
    sessions: bool = False
    parts: tuple[tuple[str, ...], ...] = APART
    stamp: bool = True
    live_reads: bool = True
    failover: bool = True  # off where late writes of an old leader would only enlarge the search
    planner: Callable[[Observed], Plan] | None = None

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """All digests that can be held."""
        return tuple(dict.fromkeys(digest for parts in self.parts for digest in parts))

    def policy(self, replicas: int, *, suspend: bool) -> Policy:
        """The planner's policy."""
        return Policy(
            replicas=replicas,
            steps=(
                *((SetMatch(SEGMENT),) if self.segment else ()),
                SetWeight(50),
                Pause(None if self.open_pause else PAUSE),
            ),
            progress_deadline=timedelta(hours=1),
            keep_previous_replicas=1,
            keep_previous_for=timedelta(hours=1),
            hold_action=self.action,
            on_stale=self.on_stale,
            settle=timedelta(seconds=5),
            shutdown_timeout=timedelta(seconds=60),
            gateway=self.gateway,
            suspend=suspend,
            history_limit=2,
            test_header=self.test_header,
            sessions=self.sessions,
        )


BLIND = Setting(on_stale=OnStale.BLOCK, failover=False)
"""What serves is blocked while a hold on it could not be seen."""

Step = tuple[str, World, bool]
"""Description, the world afterwards, and whether it is a disturbance (else it also happens in a quiet world)."""

_CRASH = Trouble(TroubleKind.CRASHED, "crashed")
_FAILED_EXAM = Exam(ExamOutcome.FAILED)
_MARKS = {
    digest: HoldMark(digest, "c", digest.replace("d", "v"), HoldSource.VERSION_TAG, "hold")
    for digest in (*sum(APART, ()), *sum(SHARED, ()))
}
_READ = {
    (digest, marked, stale): HoldRead(
        digest, (mark,) if marked else (), alias_mark_elsewhere=False, asked_at=LONG_AGO if stale else ASKED
    )
    for digest, mark in _MARKS.items()
    for marked in (False, True)
    for stale in (False, True)
}
_READY_SINCE = (BEFORE_ASKED, JUST_NOW, READY_FOR_LONG)


class Engine:
    """Computes the successors of a world under one setting, and caches the plans."""

    def __init__(self, setting: Setting, planner: Callable[[Observed], Plan]) -> None:
        self.setting = setting
        self._candidates = tuple(
            Candidate(name, name[:2], "+".join(parts), parts) for name, parts in zip(NAMES, setting.parts, strict=True)
        )
        self._policies: dict[tuple[int, bool], Policy] = {}
        self.planner = setting.planner or planner
        self.check: Callable[[Observed, Plan], None] = lambda observed, plan: None
        self._plans: dict[object, tuple[PendingPass | None, bool]] = {}
        self._views: dict[tuple[int, Rev, bool, bool], RevisionView] = {}
        self._none_stale = (False,) * len(setting.digests)
        self._intents: dict[State, Intent] = {}
        self._pending_passes: dict[object, PendingPass] = {}

    # --- the planner's input and output ---

    def policy(self, world: World) -> Policy:
        """The policy of the current spec."""
        key = (world.replicas, world.suspend)
        found = self._policies.get(key)
        if found is None:
            found = self._policies[key] = self.setting.policy(world.replicas, suspend=world.suspend)
        return found

    def observe(self, world: World) -> Observed:
        """The observation of a live read."""
        stale = world.stale or self._none_stale
        revisions = {
            NAMES[index]: self._view(
                index, rev, named=index == world.answered, unread=any(stale) and self._is_unread(world, index)
            )
            for index, rev in enumerate(world.revs)
            if rev.recorded or rev.deployed or rev.ending
        }
        route = None
        if world.route is not None:
            weights, stage, rules = world.route
            since = None if stage == PENDING else JUST_NOW if stage == ACCEPTED else BEFORE_ASKED
            route = RouteView(weights, accepted=None if stage == PENDING else True, accepted_since=since, rules=rules)
        candidate = self._candidates[world.answered] if world.answered is not None else None
        holds = {
            digest: _READ[digest, marked, old]
            for digest, marked, old in zip(self.setting.digests, world.reads, stale, strict=True)
            if marked is not None
        }
        return Observed(
            now=NOW,
            generation=1,
            policy=self.policy(world),
            requests=world.requests,
            state=world.state,
            registry=RegistryView(world.outcome, candidate, ASKED if world.asked else None),
            holds=holds,
            revisions=revisions,
            route=route,
            service=world.service,
        )

    def _is_unread(self, world: World, index: int) -> bool:
        """Whether no process has read its marks for too long, and this one never did."""
        places = [self.setting.digests.index(digest) for digest in self.setting.parts[index]]
        unread = world.revs[index].vanished or any(world.reads[place] is None for place in places)
        return unread and any(world.stale[place] for place in places)

    def _view(self, index: int, rev: Rev, *, named: bool, unread: bool) -> RevisionView:
        """`named`: the registry names it, which shows what it contains. `unread`: for too long."""
        key = (index, rev, named, unread)
        view = self._views.get(key)
        if view is None:
            known = named or not rev.vanished
            view = RevisionView(
                revision=NAMES[index],
                version=NAMES[index][:2],
                content="+".join(self.setting.parts[index]) if known else "",
                digests=self.setting.parts[index] if known else (),
                unread_since=LONG_AGO if unread else None,
                recorded=rev.recorded,
                deployed=rev.deployed,
                replicas=rev.replicas,
                ready=rev.ready,
                pods=rev.replicas + (rev.ending != GONE),
                cut=rev.ending == CUT and not rev.replicas,
                ready_since=_READY_SINCE[rev.ready_class] if rev.ready else None,
                unready_since=None if rev.ready or not rev.deployed else DOWN_FOR_LONG if rev.lost else JUST_NOW,
                trouble=_CRASH if rev.crashed else None,
                exam=_FAILED_EXAM if rev.failed_exam else None,
            )
            self._views[key] = view
        return view

    def plan(self, world: World) -> tuple[PendingPass | None, bool]:
        """The writes of a pass, and whether it requests a registry query. Raises what `check` raises."""
        key = (
            world.intent,
            world.revs,
            world.route,
            world.service,
            world.answered,
            world.outcome,
            world.asked,
            world.reads,
            world.replicas,
            world.suspend,
            world.requests,
            world.stale,
        )
        found = self._plans.get(key)
        if found is None:
            observed = self.observe(world)
            made = self.planner(observed)
            self.check(observed, made)
            intent = self.intent(canonical(made.state))
            writes: tuple[Write, ...] = made.actions if intent is world.intent else (intent, *made.actions)
            read = (world.intent, world.route and world.route.content, world.service, world.revs)
            found = (self._pending_pass(writes, made.urgent, read) if writes else None, made.look)
            self._plans[key] = found
        return found

    def intent(self, state: State) -> Intent:
        """The interned object for `state`."""
        found = self._intents.get(state)
        if found is None:
            found = self._intents[state] = Intent(state)
        return found

    def _pending_pass(
        self, writes: tuple[Write, ...], urgent: bool, read: tuple[Intent, object, object, tuple[Rev, ...]]
    ) -> PendingPass | None:
        if not writes:
            return None
        key = (writes, urgent, read)
        found = self._pending_passes.get(key)
        if found is None:
            found = self._pending_passes[key] = PendingPass(writes, urgent, read)
        return found

    # --- transitions ---

    def steps(self, world: World) -> Iterator[Step]:
        """Every transition out of `world`.

        Between a plan and its writes, only pods and the operator's process change: anything else would not be observed
        before the next pass, so it is equivalent to happening after the writes.
        """
        yield from self._pods_fail(world)
        yield from self._process_fails(world)
        if world.pending is None:
            yield from self._registry_moves(world)
            yield from self._people(world)
            yield from self._time_and_pods(world)
            yield from self._registry_answers(world)
        yield from self._operator(world)

    def _registry_moves(self, world: World) -> Iterator[Step]:
        """A change in the registry together with the answer that shows it.

        A change that has not been observed yet is equivalent to one that happens later.
        """
        budget = world.budget
        if budget.moves:
            less = budget._replace(moves=budget.moves - 1)
            for index in range(len(NAMES)):
                if index != world.alias:
                    moved = world._replace(alias=index, budget=less)
                    yield f"alias -> {NAMES[index][:2]}, and the registry answers", self._answered(moved), True
        if budget.holds:
            less = budget._replace(holds=budget.holds - 1)
            for index, marked in enumerate(world.marks):
                moved = world._replace(marks=_put(world.marks, index, not marked), budget=less)
                change = "lifted" if marked else "set"
                yield (
                    f"hold on {_MARKS[self.setting.digests[index]].version} {change}, and the registry answers",
                    self._answered(moved),
                    True,
                )
        if budget.outages and world.outcome is RegistryOutcome.RESOLVED:
            less = budget._replace(outages=budget.outages - 1)
            yield "registry unreachable", world._replace(outcome=RegistryOutcome.UNREACHABLE, budget=less), True
        yield from self._marks_unknown(world)

    def _marks_unknown(self, world: World) -> Iterator[Step]:
        """The registry is silent for long, or only about one digest; or somebody deletes a record."""
        budget = world.budget
        if budget.silences:
            less = budget._replace(silences=budget.silences - 1)
            silent = (True,) * len(self.setting.digests)
            after = world._replace(stale=silent, outcome=RegistryOutcome.UNREACHABLE, budget=less)
            yield "the registry is silent for longer than maxStaleness", after, True
            for index, digest in enumerate(self.setting.digests):
                one = _put(world.stale or self._none_stale, index, True)
                yield f"the marks on {digest} are not read for longer", world._replace(stale=one, budget=less), True
        if budget.vanishes:
            less = budget._replace(vanishes=budget.vanishes - 1)
            for index, rev in enumerate(world.revs):
                if rev.recorded:
                    left = rev.deployed or rev.ending
                    gone = rev._replace(recorded=False, vanished=True) if left else Rev()
                    revs = _put(world.revs, index, gone)
                    yield f"the record of {NAMES[index][:2]} vanishes", world._replace(revs=revs, budget=less), True

    def _people(self, world: World) -> Iterator[Step]:
        """A user changes the spec or annotates, and in a quiet world resumes or promotes."""
        budget = world.budget
        if budget.scales:
            less = budget._replace(scales=budget.scales - 1)
            for total in self.setting.totals:
                if total != world.replicas:
                    yield f"spec.replicas: {total}", world._replace(replicas=total, budget=less), True
        if world.suspend:
            yield "spec.suspend: false", world._replace(suspend=False), False
        elif budget.suspends:
            less = budget._replace(suspends=budget.suspends - 1)
            yield "spec.suspend: true", world._replace(suspend=True, budget=less), True
        if budget.requests:
            less = budget._replace(requests=budget.requests - 1)
            for kind in ("promote", "promote_full", "abort", "retry"):
                for index, rev in enumerate(world.revs):
                    if rev.recorded and getattr(world.requests, kind) != NAMES[index]:
                        asked = replace(world.requests, **{kind: NAMES[index]})
                        step = f"user request: {kind} {NAMES[index][:2]}"
                        yield step, world._replace(requests=asked, budget=less), True
        canary = world.state.canary
        if self.setting.open_pause and canary is not None and canary.step == 1 and canary.step_started_at is not None:
            asked = replace(world.requests, promote=f"{canary.revision}/{not (world.requests.promote or '')[12:]}")
            if world.requests.promote == world.state.handled.promote:
                yield "a user ends the pause", world._replace(requests=asked), False

    def _pods_fail(self, world: World) -> Iterator[Step]:
        budget = world.budget
        if budget.exams:
            less = budget._replace(exams=budget.exams - 1)
            for index, rev in enumerate(world.revs):
                if rev.replicas and not rev.failed_exam:
                    ready = min(rev.ready, rev.replicas - 1)
                    failed = rev._replace(
                        ready=ready, failed_exam=True, ready_class=rev.ready_class if ready else 0, lost=False
                    )
                    revs = _put(world.revs, index, failed)
                    yield f"a pod of {NAMES[index][:2]} fails its exam", world._replace(revs=revs, budget=less), True
        if not budget.flaps:
            return
        less = budget._replace(flaps=budget.flaps - 1)
        for index, rev in enumerate(world.revs):
            if rev.ready:
                down = rev._replace(ready=0, ready_class=0, lost=False)
                revs = _put(world.revs, index, down)
                yield f"pods of {NAMES[index][:2]} lost", world._replace(revs=revs, budget=less), True
                revs = _put(world.revs, index, down._replace(crashed=True))
                yield f"pods of {NAMES[index][:2]} crash", world._replace(revs=revs, budget=less), True

    def _process_fails(self, world: World) -> Iterator[Step]:
        budget, pending = world.budget, world.pending
        if not budget.crashes or pending is None:
            return
        fresh = world._replace(
            pending=None,
            budget=budget._replace(crashes=budget.crashes - 1),
            outcome=RegistryOutcome.PENDING,
            asked=False,
            reads=(None,) * len(world.reads),
        )
        yield "operator killed", fresh, True
        if isinstance(first := pending.writes[0], CutOff):
            index = _INDEX[first.revision]
            cut = world.revs[index]._replace(ready=0, ready_class=0, silent=bool(world.revs[index].replicas))
            after = fresh._replace(revs=_put(world.revs, index, cut))
            yield f"operator killed after blowing the fuses of {NAMES[index][:2]}", after, True
        if world.zombie is None and self.setting.failover:
            late = self._pending_pass(pending.writes[:1], pending.urgent, pending.read)
            yield "failover while a write is pending", fresh._replace(zombie=late, stamped=False), True
        if isinstance(pending.writes[0], Intent):
            left = self._pending_pass(pending.writes[1:], pending.urgent, pending.read) if pending.urgent else None
            yield "status write rejected", world._replace(pending=left, budget=fresh.budget), True

    def _time_and_pods(self, world: World) -> Iterator[Step]:
        for index, rev in enumerate(world.revs):
            name = NAMES[index][:2]
            if rev.failed_exam:
                revs = _put(world.revs, index, rev._replace(failed_exam=False))
                yield f"the pod of {name} that failed its exam is replaced", world._replace(revs=revs), False
            if rev.ready < rev.replicas - rev.failed_exam and not rev.silent:
                up = rev._replace(ready=rev.ready + 1, lost=False, crashed=False)
                if not rev.ready:
                    up = up._replace(ready_class=1)
                yield f"a pod of {name} is ready", world._replace(revs=_put(world.revs, index, up)), False
            if rev.ending:
                yield (
                    f"pods of {name} have terminated",
                    world._replace(revs=_put(world.revs, index, _ended(rev))),
                    False,
                )
            if rev.deployed and not rev.ready and not rev.lost and self._base(world) == index:
                lost = rev._replace(lost=True)
                yield f"{name} is down for 15 s", world._replace(revs=_put(world.revs, index, lost)), False
        yield from self._deadlines(world)
        canary = world.state.canary
        if canary is not None:
            index = _INDEX[canary.revision]
            rev = world.revs[index]
            if canary.flapped and rev.ready and rev.ready_class != 2:
                revs = _put(world.revs, index, rev._replace(ready_class=2))
                yield f"{NAMES[index][:2]} is ready for 30 s", world._replace(revs=revs), False
            in_pause = canary.step < len(canary.steps) and isinstance(canary.steps[canary.step], Pause)
            if in_pause and canary.step_started_at == JUST_NOW:
                over = replace(world.state, canary=replace(canary, step_started_at=PAUSE_OVER))
                yield "the pause is over", world._replace(intent=self.intent(over)), False
        previous = world.state.previous
        if previous is not None and previous.until == WARM:
            state = replace(world.state, previous=replace(previous, until=WARM_NO_MORE))
            yield "the previous was warm for long enough", world._replace(intent=self.intent(state)), False
        if world.route is not None and world.route[1] != SETTLED:
            stage = world.route.stage
            step = "the route is accepted" if stage == PENDING else "the route has settled"
            yield step, world._replace(route=world.route._replace(stage=stage + 1)), False

    def _deadlines(self, world: World) -> Iterator[Step]:
        """The current move started, and last waited, longer ago than its deadline."""
        canary, target, budget = world.state.canary, world.state.target, world.budget
        if not budget.deadlines:
            return
        state = world.state
        if canary is not None and canary.started_at != LONG_AGO:
            state = replace(state, canary=replace(canary, started_at=LONG_AGO, look_after=LONG_AGO))
        elif target is not None and target.started_at != LONG_AGO:
            state = replace(state, target=replace(target, started_at=LONG_AGO))
        else:
            return
        less = budget._replace(deadlines=budget.deadlines - 1)
        yield "the deadline has passed", world._replace(intent=self.intent(state), budget=less), True

    def _base(self, world: World) -> int | None:
        return _INDEX[world.state.stable] if world.state.stable is not None else None

    def _registry_answers(self, world: World) -> Iterator[Step]:
        after = self._answered(world)
        if after != world:
            yield "the registry answers", after, False

    def _answered(self, world: World) -> World:
        """The world after an answer for the alias and for every known revision."""
        asked = {
            digest
            for index, rev in enumerate(world.revs)
            if rev.recorded or index == world.alias
            for digest in self.setting.parts[index]
        }
        reads = tuple(
            marked if digest in asked else None
            for digest, marked in zip(self.setting.digests, world.marks, strict=True)
        )
        state = _asked_again(world.state)
        return world._replace(
            answered=world.alias,
            outcome=RegistryOutcome.RESOLVED,
            asked=True,
            reads=reads,
            intent=world.intent if state is world.state else self.intent(state),
            revs=tuple(rev._replace(ready_class=0) if rev.ready_class == 1 else rev for rev in world.revs),
            stale=(),
        )

    def _operator(self, world: World) -> Iterator[Step]:
        if world.zombie is not None:
            late = world.zombie.writes[0]
            done = self._write(world._replace(zombie=None), late, world.zombie)
            if done is not None:
                yield f"the old leader writes {_write_line(late)}", done, False
            yield "the old leader gives up", world._replace(zombie=None), False
        if world.pending is not None:
            write, rest = world.pending.writes[0], world.pending.writes[1:]
            left = world._replace(pending=self._pending_pass(rest, world.pending.urgent, world.pending.read))
            done = self._write(_overtaking(left, write), write, world.pending)
            if done is not None and not self.setting.live_reads:
                done = done._replace(behind=(world.intent, world.revs, world.route, world.service))
            yield _write_line(write), done if done is not None else world._replace(pending=None), False
            return
        pending, _ = self.plan(world)
        if pending is None and self.setting.live_reads:
            return
        acts = pending is not None and any(not isinstance(write, Intent) for write in pending.writes)
        if acts and not world.stamped and self.setting.stamp:
            # The stamp changes the ModelDeployment and every child, so writes planned before it get a conflict. A child
            # that does not exist cannot be stamped; a create times out before another operator may lead.
            yield "the new leader stamps", world._replace(stamped=True, zombie=None), False
            return
        if pending is not None:
            yield "plan", world._replace(pending=pending), False
        if not self.setting.live_reads and world.behind is not None:
            intent, revs, route, service = world.behind
            stale = world._replace(intent=intent, revs=revs, route=route, service=service)
            pending, _ = self.plan(stale)
            if pending is not None:
                yield "plan on the stale cache", world._replace(pending=pending), False

    def _write(self, world: World, write: Write, pending: PendingPass) -> World | None:
        """The world after the write; None if the object has changed since it was read.

        A write in between causes a conflict even if the value is the same again: see `_overtaking`.
        """
        state, routing, service, revs = pending.read
        if isinstance(write, Intent):
            return world._replace(intent=write) if _same(state, world.intent) else None
        match write:
            case SetRoute(new, _, rules):
                if (world.route and world.route.content) != routing:
                    return None
                return world._replace(route=Route(new, PENDING, rules))
            case RemoveRoute():
                return world._replace(route=None)
            case PointService(name):
                return world._replace(service=name) if world.service == service else None
            case EnsureRevision(name, replicas):
                index = _INDEX[name]
                if world.revs[index].deployed:
                    if not world.revs[index].vanished or index != world.answered:
                        return None
                    world = world._replace(
                        revs=_put(world.revs, index, world.revs[index]._replace(recorded=True, vanished=False))
                    )
                    return self._scaled(world, index, replicas)
                rev = Rev(recorded=True, deployed=True, replicas=replicas, lost=False, ending=world.revs[index].ending)
                return world._replace(revs=_put(world.revs, index, rev))
            case Scale(name, replicas):
                index = _INDEX[name]
                return self._scaled(world, index, replicas) if _unchanged(world, revs, index) else None
            case CutOff(name):
                index = _INDEX[name]
                return self._scaled(world, index, 0, CUT)
            case Remove(name, forget):
                index = _INDEX[name]
                if not _unchanged(world, revs, index):
                    return None
                ending = self._scaled(world, index, 0).revs[index].ending
                recorded = not forget and not world.revs[index].vanished
                vanished = bool(ending) and world.revs[index].vanished
                return world._replace(revs=_put(world.revs, index, Rev(recorded, ending=ending, vanished=vanished)))
        raise AssertionError(write)

    def _scaled(self, world: World, index: int, replicas: int, way: int = DRAINS) -> World:
        rev = world.revs[index]
        ending = rev.ending
        if self.setting.drains and (replicas < rev.replicas or (ending and way == CUT)):
            ending = max(ending, way)
        ready = min(rev.ready, replicas)
        rev = rev._replace(
            replicas=replicas,
            ready=ready,
            ready_class=rev.ready_class if ready else 0,
            crashed=rev.crashed and replicas > 0,
            failed_exam=rev.failed_exam and replicas > 0,
            ending=ending,
            silent=rev.silent and replicas > 0,
        )
        return world._replace(revs=_put(world.revs, index, rev))


def canonical(state: State) -> State:
    """The same intent with every time replaced by the representative of its class."""
    canary, target, previous = state.canary, state.target, state.previous
    if canary is not None:
        canary = replace(
            canary,
            started_at=min(canary.started_at, BEFORE_ASKED) if canary.started_at == LONG_AGO else BEFORE_ASKED,
            step_started_at=_running(canary.step_started_at),
            look_after=_waited(canary.look_after),
        )
    if target is not None:
        target = replace(target, started_at=_waited(target.started_at) or BEFORE_ASKED)
    if previous is not None:
        previous = replace(previous, until=WARM if previous.until > NOW else WARM_NO_MORE)
    return replace(
        state,
        canary=canary,
        target=target,
        previous=previous,
        failed=tuple(replace(failure, at=BEFORE_ASKED, message="") for failure in state.failed),
        holds=tuple(replace(hold, since=ASKED if hold.since >= ASKED else BEFORE_ASKED) for hold in state.holds),
    )


def _running(moment: datetime | None) -> datetime | None:
    if moment is None or moment == PAUSE_OVER:
        return moment
    return JUST_NOW


def _waited(moment: datetime | None) -> datetime | None:
    if moment is None or moment == LONG_AGO:
        return moment
    return JUST_NOW if moment > ASKED else BEFORE_ASKED


def _asked_again(state: State) -> State:
    """The state after a new answer: every wait that was newer than the last answer is now older."""
    canary, target = state.canary, state.target
    if canary is not None and canary.look_after == JUST_NOW:
        canary = replace(canary, look_after=BEFORE_ASKED)
    if target is not None and target.started_at == JUST_NOW:
        target = replace(target, started_at=BEFORE_ASKED)
    holds = state.holds
    if any(hold.since == ASKED for hold in holds):
        holds = tuple(replace(hold, since=BEFORE_ASKED) for hold in holds)
    if canary is state.canary and target is state.target and holds is state.holds:
        return state
    return replace(state, canary=canary, target=target, holds=holds)


def _overtaking(world: World, write: Write) -> World:
    """Drops the old leader's pending write if `write` changes the resourceVersion of the same object.

    A counter in each object would multiply the states. It is enough to know whether the object was written between the
    old leader's read and its one pending write; a write that can no longer succeed is dropped.
    """
    if world.zombie is not None and _object(world.zombie.writes[0]) == _object(write):
        return world._replace(zombie=None)
    return world


def _object(write: Write) -> str:
    """The object that is written: the status, the route, the plain Service, or the Deployment of a revision."""
    match write:
        case SetRoute() | RemoveRoute():
            return "route"
        case PointService():
            return "service"
        case EnsureRevision(revision) | Scale(revision) | CutOff(revision) | Remove(revision):
            return revision
    return "status"


def _same(read: Intent, now: Intent) -> bool:
    """Whether the status is still as it was read. Times change their class in this model without a write."""
    return read is now or _ageless(read.value) == _ageless(now.value)


def _ageless(state: State) -> State:
    canary, target, previous = state.canary, state.target, state.previous
    if canary is not None:
        started = canary.step_started_at
        canary = replace(canary, started_at=NOW, look_after=None, step_started_at=None if started is None else JUST_NOW)
    if target is not None:
        target = replace(target, started_at=NOW)
    if previous is not None:
        previous = replace(previous, until=NOW)
    holds = tuple(replace(hold, since=NOW) for hold in state.holds)
    return replace(state, canary=canary, target=target, previous=previous, holds=holds)


def _unchanged(world: World, revs: tuple[Rev, ...], index: int) -> bool:
    """Whether the Deployment's spec is as it was read; readiness is in its status and does not count."""
    now, read = world.revs[index], revs[index]
    return (now.deployed, now.replicas) == (read.deployed, read.replicas)


def _ended(rev: Rev) -> Rev:
    return rev._replace(ending=GONE, vanished=rev.vanished and rev.deployed)


def _put(items: tuple[T, ...], index: int, item: T) -> tuple[T, ...]:
    return (*items[:index], item, *items[index + 1 :])


def _write_line(write: Write) -> str:
    if isinstance(write, Intent):
        return f"write status: {state_line(write.value)}"
    match write:
        case SetRoute(weights, _, rules):
            backends = [f"{rule.revision[:2]} {rule.kind}" for rule in rules]
            backends += [f"{name[:2] if name != BLOCKED else name} {weight}" for name, weight in weights]
            return "write route: " + ", ".join(backends)
        case PointService(name):
            return f"point service at {name[:2] if name != BLOCKED else name}"
        case _:
            return str(write)


def state_line(state: State) -> str:
    """The intent in one line."""
    parts = ["stack " + "/".join(name[:2] for name in state.promoted)]
    if state.canary is not None:
        canary = state.canary
        parts.append(f"canary {canary.revision[:2]} step {canary.step} at {canary.weight} %")
    if state.target is not None:
        parts.append(f"target {state.target.revision[:2]} ({state.target.reason})")
    if state.holds:
        parts.append("holds " + "/".join(hold.mark.version for hold in state.holds))
    if state.failed:
        parts.append("failed " + "/".join(failure.revision[:2] for failure in state.failed))
    if state.previous is not None:
        parts.append(f"previous {state.previous.revision[:2]}")
    return ", ".join(parts)
