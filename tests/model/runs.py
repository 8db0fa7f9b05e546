"""The searches: start states, settings, and budgets of disturbances."""

from dataclasses import dataclass, replace
from functools import partial

from model.goals import lacks
from model.invariants import ViolatedError, check_actions
from model.search import Result, search
from model.world import (
    BLIND,
    NAMES,
    SETTLED,
    SHARED,
    WARM,
    Budget,
    Engine,
    Rev,
    Route,
    Setting,
    World,
)
from modelsync.api.hold import HoldAction
from modelsync.rollout import plan
from modelsync.rollout.model import BLOCKED, Observed, Plan, Previous, RegistryOutcome, State

V1, V2, V3 = NAMES


def starts(engine: Engine, budget: Budget) -> list[World]:
    """Start states: nothing yet; one version serving; two promoted, with the earlier one warm or cold."""
    setting = engine.setting
    serving = Rev(recorded=True, deployed=True, replicas=setting.replicas, ready=setting.replicas)
    warm = Rev(recorded=True, deployed=True, replicas=1, ready=1)
    cold = Rev(recorded=True)
    nothing = Rev()
    return [
        _world(engine, State(), (nothing,) * 3, None, budget),
        _world(engine, State(promoted=(V1,)), (serving, nothing, nothing), V1, budget),
        _world(
            engine,
            State(promoted=(V1, V2), previous=Previous(V1, WARM)),
            (warm, serving, nothing),
            V2,
            budget,
        ),
        _world(engine, State(promoted=(V1, V2)), (cold, serving, nothing), V2, budget),
    ]


def _world(engine: Engine, state: State, revs: tuple[Rev, ...], serves: str | None, budget: Budget) -> World:
    alias = NAMES.index(serves) if serves is not None else 0
    digests = engine.setting.digests
    recorded = {each for rev, parts in zip(revs, engine.setting.parts, strict=True) if rev.recorded for each in parts}
    known = tuple(False if digest in recorded else None for digest in digests)
    return World(
        intent=engine.intent(state),
        revs=revs,
        route=Route(((serves, 100),), SETTLED) if serves is not None and engine.setting.gateway else None,
        service=serves,
        alias=alias,
        answered=alias if serves is not None else None,
        outcome=RegistryOutcome.RESOLVED if serves is not None else RegistryOutcome.PENDING,
        asked=serves is not None,
        reads=known if serves is not None else (None,) * len(digests),
        marks=(False,) * len(digests),
        pending=None,
        zombie=None,
        stamped=True,
        budget=budget,
        replicas=engine.setting.replicas,
    )


def on_edge(setting: Setting, before: World, after: World) -> None:
    """Invariants on the actual world that every write must keep, whatever it was planned on.

    They catch late writes of an old leader, and writes that were planned on a stale observation.
    """
    if before.revs is not after.revs:
        for name, old, new in zip(NAMES, before.revs, after.revs, strict=True):
            gone = old.deployed and not new.deployed
            if gone and after.route is not None and any(backend == name and w for backend, w in after.route[0]):
                raise ViolatedError(
                    "nothing_exposed_is_deleted", f"{name} is removed while the live route sends it traffic"
                )
            if gone and after.route is not None and any(rule.revision == name for rule in after.route.rules):
                raise ViolatedError("nothing_exposed_is_deleted", f"{name} is removed while a rule leads to it")
            if gone and after.service == name:
                raise ViolatedError(
                    "nothing_exposed_is_deleted", f"{name} is removed while the plain Service selects it"
                )
    if before.route is not after.route and after.route is not None and after.route[1] == 0:
        held = {hold.mark.digest for hold in before.state.holds}
        old_weights = dict(before.route[0]) if before.route is not None else {}
        for backend, weight in after.route[0]:
            if backend == BLOCKED or not weight:
                continue
            index = NAMES.index(backend)
            if held.intersection(setting.parts[index]) and weight > old_weights.get(backend, 0):
                raise ViolatedError("exposure_of_a_held_revision_never_grows", f"a late write gives {backend} {weight}")
            if not after.revs[index].deployed and weight > old_weights.get(backend, 0):
                raise ViolatedError("no_new_weight_without_ready_pods", f"{backend} gets {weight}, but does not exist")
        old_rules = before.route.rules if before.route is not None else ()
        for rule in after.route.rules:
            index = NAMES.index(rule.revision)
            if held.intersection(setting.parts[index]) and rule not in old_rules:
                raise ViolatedError("exposure_of_a_held_revision_never_grows", f"a late write adds {rule}")
            if not after.revs[index].deployed and rule not in old_rules:
                raise ViolatedError(
                    "no_rule_without_ready_pods", f"a late write adds {rule}, but the revision does not exist"
                )


@dataclass(frozen=True)
class Run:
    """One search."""

    name: str
    setting: Setting
    budget: Budget


def execute(run: Run, limit: int = 10_000_000) -> Result:
    """Run the search."""
    engine = Engine(run.setting, plan)

    def check(observed: Observed, made: Plan) -> None:
        check_actions(observed, made)

    engine.check = check
    return search(engine, starts(engine, run.budget), at_goal=lacks, on_edge=partial(on_edge, run.setting), limit=limit)


_BLOCK = Setting(action=HoldAction.BLOCK)
_SERVICE = Setting(gateway=False)
_RULES = Setting(segment=True, test_header=True)
_STICKY = Setting(segment=True, sessions=True)
_PAIR = Setting(replicas=2)
_SCALED = Setting(totals=(0, 1, 2))
_IDLED = Setting(totals=(0, 1))
_IDLED_SERVICE = Setting(totals=(0, 1), gateway=False)
_OPEN_PAUSE = Setting(open_pause=True)
_DRAINS = Setting(drains=True)
_PARTS = Setting(parts=SHARED)

RUNS = (
    Run("steps: moves, holds, pods", Setting(), Budget(moves=1, holds=1, flaps=1)),
    Run("steps: two moves, a hold", Setting(), Budget(moves=2, holds=1)),
    Run("steps: a move, two holds", Setting(), Budget(moves=1, holds=2)),
    Run("steps: two moves, pods", Setting(), Budget(moves=2, flaps=1)),
    Run("steps: a move, pods twice", Setting(), Budget(moves=1, flaps=2)),
    Run("steps: a move, a hold, the registry unreachable", Setting(), Budget(moves=1, holds=1, outages=1)),
    Run("steps: a move, a hold, the operator killed or replaced", Setting(), Budget(moves=1, holds=1, crashes=1)),
    Run("steps: a move, pods, the operator killed or replaced", Setting(), Budget(moves=1, flaps=1, crashes=1)),
    Run("steps: a hold, pods, the operator killed or replaced twice", Setting(), Budget(holds=1, flaps=1, crashes=2)),
    Run("steps: a move, two holds, the operator killed or replaced", Setting(), Budget(moves=1, holds=2, crashes=1)),
    Run("Block: a move, a hold, pods", _BLOCK, Budget(moves=1, holds=1, flaps=1)),
    Run("Block: a move, two holds", _BLOCK, Budget(moves=1, holds=2)),
    Run("Block: a hold, the operator killed or replaced", _BLOCK, Budget(holds=1, crashes=1)),
    Run("no gateway: a move, a hold, pods", _SERVICE, Budget(moves=1, holds=1, flaps=1)),
    Run("no gateway: two moves, a hold", _SERVICE, Budget(moves=2, holds=1)),
    Run("no gateway: a move, a hold, the operator killed", _SERVICE, Budget(moves=1, holds=1, crashes=1)),
    Run("segment and test header: a move, a hold, pods", _RULES, Budget(moves=1, holds=1, flaps=1)),
    Run("segment and test header: a move, the operator killed or replaced", _RULES, Budget(moves=1, crashes=1)),
    Run("sessions: two moves, a hold", _STICKY, Budget(moves=2, holds=1)),
    Run("two replicas: a move, a hold, pods", _PAIR, Budget(moves=1, holds=1, flaps=1)),
    Run("replicas: a move, two changes", _SCALED, Budget(moves=1, scales=2)),
    Run("replicas: a change, a hold, pods", _SCALED, Budget(scales=1, holds=1, flaps=1)),
    Run("idle: a move, a hold, two changes", _IDLED, Budget(moves=1, holds=1, scales=2)),
    Run("idle: a change, the operator killed or replaced", _IDLED, Budget(scales=2, crashes=1)),
    Run("idle: a move, two changes, no gateway", _IDLED_SERVICE, Budget(moves=1, scales=2, holds=1)),
    Run("suspend: a move, a hold, pods", Setting(), Budget(moves=1, holds=1, suspends=1)),
    Run("user requests: a move, two requests", _OPEN_PAUSE, Budget(moves=1, requests=2)),
    Run("user requests: two moves, a request", _OPEN_PAUSE, Budget(moves=2, requests=1)),
    Run("parts: two moves, a hold", _PARTS, Budget(moves=2, holds=1)),
    Run("parts: a move, two holds", _PARTS, Budget(moves=1, holds=2)),
    Run("draining pods: a move, a hold", _DRAINS, Budget(moves=1, holds=1)),
    Run("exams: a move, a hold, a pod fails it", Setting(), Budget(moves=1, holds=1, exams=1)),
    Run("exams: a move, two of two pods fail it", _PAIR, Budget(moves=1, exams=2)),
    Run("deadlines: a move, pods", Setting(), Budget(moves=1, flaps=1, deadlines=1)),
    Run("deadlines: two moves", Setting(), Budget(moves=2, deadlines=1)),
    Run("silence: a move, a hold", BLIND, Budget(moves=1, holds=1, silences=1)),
    Run("silence: a move, the operator killed", BLIND, Budget(moves=1, silences=1, crashes=1)),
    Run("silence: a move, pods, no gateway", replace(BLIND, gateway=False), Budget(moves=1, flaps=1, silences=1)),
    Run("silence: rules, what serves goes on", _RULES, Budget(moves=1, silences=1)),
    Run("records: a move, a hold, one vanishes", Setting(failover=False), Budget(moves=1, holds=1, vanishes=1)),
)
"""The searches of CI: one or two minutes on one core."""

LARGE = (
    Run("large: two moves, a hold, pods", Setting(), Budget(moves=2, holds=1, flaps=1)),
    Run("large: three moves, a hold", Setting(), Budget(moves=3, holds=1)),
    Run("large: two moves, two holds", Setting(), Budget(moves=2, holds=2)),
    Run("large: two moves, the operator killed or replaced", Setting(), Budget(moves=2, crashes=1)),
    Run("large: replicas: a move, two changes, pods", _SCALED, Budget(moves=1, scales=2, flaps=1)),
    Run("large: idle: a move, a change, the operator killed", _IDLED, Budget(moves=1, scales=1, crashes=1)),
    Run("large: suspend: a move, a hold, pods", Setting(), Budget(moves=1, holds=1, suspends=1, flaps=1)),
    Run("large: draining pods: two moves, a hold", _DRAINS, Budget(moves=2, holds=1)),
    Run("large: segment and test header, the operator killed", _RULES, Budget(moves=1, holds=1, crashes=1)),
    Run("large: exams: two moves, a pod fails it", Setting(), Budget(moves=2, exams=1)),
    Run("large: Block", _BLOCK, Budget(moves=2, holds=1, flaps=1)),
)
"""Larger searches, with `MODELSYNC_MODEL_BUDGET=large`: several minutes and 1 GB of memory."""
