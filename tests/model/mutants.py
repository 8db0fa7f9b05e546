"""Mutants: planners that are broken on purpose, at least one for each invariant, which the search must detect.

Each replaces one piece of the production planner by a plausible mistake.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from model.search import GOAL, QUIET
from model.world import BLIND, SHARED, Budget, Setting
from modelsync.api.routing import Routing, Rule, RuleKind, Weights
from modelsync.rollout import capacity, failing, goal, holds, requests, steps, traffic
from modelsync.rollout.facts import _OUTCOMES, Facts
from modelsync.rollout.model import BLOCKED, CutOff, Revision, State
from modelsync.rollout.plan_builder import PlanBuilder

Patch = Callable[[Any], None]
"""Breaks the planner, through pytest's monkeypatch."""


PRODUCTION = Setting()


@dataclass(frozen=True)
class Mutant:
    """A mutant, the invariant that it must violate, and the budget in which the search must find it."""

    name: str
    violates: str
    patch: Patch | None
    budget: Budget
    setting: Setting = PRODUCTION


def _replicas_ignore_holds(patch: Any) -> None:
    def wanted(facts: Facts, state: State) -> dict[Revision, int]:
        return {state.stable: facts.policy.replicas} if state.stable is not None else {}

    patch.setattr(capacity, "wanted_replicas", wanted)


def _only_models_are_held(patch: Any) -> None:
    def held(facts: Facts, revision: Revision) -> bool:
        return bool(facts.held_digests.intersection(facts.view(revision).digests[:1]))

    patch.setattr(Facts, "held", held)


def _no_cut(patch: Any) -> None:
    patch.setattr(capacity, "cut_off", lambda facts: ())


def _base_ignores_holds(patch: Any) -> None:
    patch.setattr(traffic, "serving_base", lambda facts, state: state.stable)


def _deployed_is_ready(patch: Any) -> None:
    patch.setattr(Facts, "ready", lambda facts, revision: facts.view(revision).replicas)


def _impatient_route(patch: Any) -> None:
    def at_once(facts: Facts, state: State, routing: Routing, builder: PlanBuilder) -> Routing | None:
        return None if facts.live_routing == routing else routing

    patch.setattr(traffic, "next_write", at_once)


def _impatient_removal(patch: Any) -> None:
    patch.setattr(Facts, "may_shrink", lambda facts, revision: not facts.exposed(revision))


def _removes_what_is_routed(patch: Any) -> None:
    patch.setattr(Facts, "may_shrink", lambda facts, revision: True)
    patch.setattr(Facts, "referenced", lambda facts, revision: False)
    keep = traffic.wanted

    def forgets_the_canary(facts: Facts, state: State, builder: PlanBuilder) -> Routing:
        live = facts.live_routing
        if live is not None and state.canary is None and state.target is None and len(live.weights) > 1:
            return live
        return keep(facts, state, builder)

    patch.setattr(traffic, "wanted", forgets_the_canary)


def _sums_wrongly(patch: Any) -> None:
    right = traffic.wanted

    def wrong(facts: Facts, state: State, builder: PlanBuilder) -> Routing:
        routing = right(facts, state, builder)
        (first, _), *others = routing.weights
        return replace(routing, weights=((first, 100), *others)) if others else routing

    patch.setattr(traffic, "wanted", wrong)


def _promotes_by_step_count(patch: Any) -> None:
    right = steps._step

    def early(facts: Facts, state: State, canary: Any, builder: PlanBuilder) -> Any:
        if canary.step >= len(canary.steps):
            return replace(state, canary=None, promoted=(*state.promoted, canary.revision))
        return right(facts, state, canary, builder)

    patch.setattr(steps, "_step", early)


def _service_follows_the_alias(patch: Any) -> None:
    patch.setattr(traffic, "wanted_service", lambda facts, state, routing: facts.named or BLOCKED)


def _unknown_is_false(patch: Any) -> None:
    patch.setattr(Facts, "known_unheld", lambda facts, revision: not facts.held(revision))


def _exams_are_not_judged(patch: Any) -> None:
    patch.setattr(failing, "_exam", lambda facts, revision: None)


def _clock_never_starts(patch: Any) -> None:
    patch.setattr(steps, "_start_clock", lambda facts, canary: None)


def _promote_in_two_writes(patch: Any) -> None:
    """Derives the route from the live route instead of the intent, so an abort leaves it unchanged."""
    right = traffic.wanted

    def forgetful(facts: Facts, state: State, builder: PlanBuilder) -> Routing:
        live = facts.live_routing
        if live is not None and state.canary is None and state.target is None and live.weights[0][1] != 100:
            return live
        return right(facts, state, builder)

    patch.setattr(traffic, "wanted", forgetful)


def _rules_ignore_holds(patch: Any) -> None:
    def unjudged(facts: Facts, weights: Weights) -> tuple[Rule, ...]:
        previous = facts.observed.state.previous
        listed = [revision for revision, weight in weights if weight < 100]
        if previous is not None:
            listed.append(previous.revision)
        return tuple(Rule(revision, RuleKind.TEST) for revision in dict.fromkeys(listed) if facts.ready(revision))

    patch.setattr(traffic, "_tests", unjudged)


def _rules_outlive_pods(patch: Any) -> None:
    right = traffic._tests

    def sluggish(facts: Facts, weights: Weights) -> tuple[Rule, ...]:
        live = facts.live_routing
        held_back = [rule for rule in (live.rules if live is not None else ()) if rule.kind is RuleKind.TEST]
        known = {revision for revision, _ in weights}
        kept = (rule for rule in held_back if not facts.held(rule.revision) and rule.revision in known)
        return tuple(dict.fromkeys((*right(facts, weights), *kept)))

    patch.setattr(traffic, "_tests", sluggish)
    patch.setattr(traffic, "_listed_for_tests", lambda facts, state, weights: _previous_listed(state, weights))


def _previous_listed(state: State, weights: Weights) -> Weights:
    previous = state.previous.revision if state.previous is not None else None
    return () if previous is None or any(revision == previous for revision, _ in weights) else ((previous, 0),)


def _rules_do_not_wait(patch: Any) -> None:
    right = traffic._without_what_has_to_settle

    def hasty(facts: Facts, state: State, routing: Routing, live: Routing) -> Routing:
        return replace(right(facts, state, routing, live), rules=routing.rules)

    patch.setattr(traffic, "_without_what_has_to_settle", hasty)


def _restless(patch: Any) -> None:
    right = capacity.wanted_replicas

    def other(facts: Facts, state: State) -> dict[Revision, int]:
        wanted = right(facts, state)
        if state.previous is not None and state.canary is None:
            wanted[state.previous.revision] = 1 - min(1, facts.view(state.previous.revision).replicas)
        return wanted

    patch.setattr(capacity, "wanted_replicas", other)


def _one_pod_carries_all(patch: Any) -> None:
    patch.setattr(Facts, "needed", lambda facts, weight: 1)
    patch.setattr(Facts, "carried", lambda facts, revision, weight, beside: weight)


def _the_stable_shrinks_at_will(patch: Any) -> None:
    patch.setattr(capacity, "_may_lose_pods", lambda facts, state, revision: revision == state.stable)


def _idle_is_a_number_like_others(patch: Any) -> None:
    patch.setattr(goal, "_idle", lambda facts: None)


def _suspension_is_forgotten(patch: Any) -> None:
    patch.setattr(Facts, "forward_blocker", property(lambda facts: _OUTCOMES[facts.observed.registry.outcome]))


def _requests_are_not_echoed(patch: Any) -> None:
    right = requests.answer

    def answer(facts: Facts, state: State, builder: PlanBuilder) -> State:
        return replace(right(facts, state, builder), handled=state.handled)

    patch.setattr(requests, "answer", answer)


def _deadline_by_the_clock_alone(patch: Any) -> None:
    def deadline(facts: Facts, state: State, revision: Revision, started: datetime) -> datetime:
        return started + facts.policy.progress_deadline

    patch.setattr(failing, "deadline", deadline)


def _draining_pods_are_forgotten(patch: Any) -> None:
    def cut_off(facts: Facts) -> tuple[CutOff, ...]:
        return tuple(CutOff(name) for name, view in facts.views.items() if view.replicas and facts.held(name))

    patch.setattr(capacity, "cut_off", cut_off)


def _old_knowledge_counts_as_new(patch: Any) -> None:
    patch.setattr(Facts, "barred", lambda facts, revision: False)


def _forward_on_old_knowledge(patch: Any) -> None:
    patch.setattr(Facts, "_forward_would_be_blind", property(lambda facts: False))


def _unknown_content_is_not_held(patch: Any) -> None:
    def held(facts: Facts, revision: Revision) -> bool:
        return not facts.held_digests.isdisjoint(facts.view(revision).digests)

    patch.setattr(Facts, "held", held)


def _a_hold_ends_before_its_cut(patch: Any) -> None:
    patch.setattr(holds, "_unfinished", lambda observed: set())


MUTANTS = (
    Mutant(
        "a held stable gets its pods back",
        "exposure_of_a_held_revision_never_grows",
        _replicas_ignore_holds,
        Budget(holds=1),
    ),
    Mutant(
        "a hold on an adapter is ignored",
        "exposure_of_a_held_revision_ends_at_once",
        _only_models_are_held,
        Budget(holds=1),
        Setting(parts=SHARED),
    ),
    Mutant(
        "a lifted hold leaves pods with a blown fuse",
        GOAL,
        _a_hold_ends_before_its_cut,
        Budget(holds=2, crashes=1),
        Setting(failover=False),
    ),
    Mutant(
        "knowledge of any age counts",
        "what_may_be_held_unseen_is_blocked",
        _old_knowledge_counts_as_new,
        Budget(silences=1),
        BLIND,
    ),
    Mutant(
        "a rollout goes on although a hold could not be seen",
        "nothing_moves_forward_unseen",
        _forward_on_old_knowledge,
        Budget(moves=1, silences=1),
    ),
    Mutant(
        "a record that vanishes ends a hold",
        "a_vanished_record_ends_no_hold",
        _unknown_content_is_not_held,
        Budget(holds=1, vanishes=1, moves=1),
    ),
    Mutant("held pods are left running", "exposure_of_a_held_revision_ends_at_once", _no_cut, Budget(holds=1)),
    Mutant(
        "the route ignores a hold on the stable",
        "exposure_of_a_held_revision_ends_at_once",
        _base_ignores_holds,
        Budget(holds=1),
    ),
    Mutant("a Deployment counts as ready", "no_new_weight_without_ready_pods", _deployed_is_ready, Budget(moves=1)),
    Mutant(
        "the route does not wait for the gateway",
        "a_share_grows_only_in_a_settled_route",
        _impatient_route,
        Budget(moves=1),
    ),
    Mutant(
        "pods are removed together with the route write",
        "pods_go_only_when_the_data_plane_knows",
        _impatient_removal,
        Budget(moves=2),
    ),
    Mutant(
        "a revision that the route still lists is removed",
        "nothing_exposed_is_deleted",
        _removes_what_is_routed,
        Budget(moves=2),
    ),
    Mutant(
        "the canary's share exceeds 100 in total",
        "weights_add_up_or_the_route_is_blocked",
        _sums_wrongly,
        Budget(moves=1),
    ),
    Mutant(
        "promotion counts steps, not traffic",
        "what_is_promoted_was_fully_promoted",
        _promotes_by_step_count,
        Budget(moves=1),
    ),
    Mutant(
        "the plain Service follows the alias",
        "the_service_selects_one_thing",
        _service_follows_the_alias,
        Budget(moves=1),
    ),
    Mutant(
        "unknown is treated as not held",
        "unknown_holds_stop_growth",
        _unknown_is_false,
        Budget(moves=1, crashes=1),
    ),
    Mutant(
        "one pod is enough for any share",
        "no_share_beyond_what_ready_pods_carry",
        _one_pod_carries_all,
        Budget(moves=1),
        Setting(replicas=2),
    ),
    Mutant(
        "pods are removed as soon as spec.replicas is lowered",
        "the_stable_keeps_the_pods_of_its_share",
        _the_stable_shrinks_at_will,
        Budget(scales=1),
        Setting(gateway=True, totals=(0, 1)),
    ),
    Mutant(
        "a rollout starts while idle",
        "idle_starts_nothing",
        _idle_is_a_number_like_others,
        Budget(moves=1, scales=1),
        Setting(totals=(0, 1)),
    ),
    Mutant(
        "a suspended rollout proceeds",
        "suspended_nothing_moves_forward",
        _suspension_is_forgotten,
        Budget(moves=1, suspends=1),
    ),
    Mutant(
        "a request is acted on again in each pass",
        "a_request_acts_once_and_only_when_it_was_made",
        _requests_are_not_echoed,
        Budget(moves=1, requests=1),
        Setting(open_pause=True),
    ),
    Mutant(
        "the deadline ignores the pods",
        "only_what_waits_for_pods_misses_a_deadline",
        _deadline_by_the_clock_alone,
        Budget(moves=1, deadlines=1),
    ),
    Mutant(
        "draining pods are not cut off",
        "exposure_of_a_held_revision_ends_at_once",
        _draining_pods_are_forgotten,
        Budget(moves=2, holds=1),
        Setting(drains=True),
    ),
    Mutant(
        "a failed exam is ignored",
        "a_version_that_failed_its_exam_gains_nothing",
        _exams_are_not_judged,
        Budget(moves=1, exams=1),
    ),
    Mutant("the step's clock never starts", GOAL, _clock_never_starts, Budget(moves=1)),
    Mutant("an abort leaves the route unchanged", GOAL, _promote_in_two_writes, Budget(moves=2)),
    Mutant(
        "the test header ignores a hold",
        "unknown_holds_stop_growth",
        _rules_ignore_holds,
        Budget(moves=1, holds=1, crashes=1),
        Setting(test_header=True),
    ),
    Mutant(
        "a rule outlives the pods behind it",
        "no_rule_without_ready_pods",
        _rules_outlive_pods,
        Budget(moves=1, flaps=1),
        Setting(test_header=True),
    ),
    Mutant(
        "a segment does not wait for the gateway",
        "a_share_grows_only_in_a_settled_route",
        _rules_do_not_wait,
        Budget(moves=1),
        Setting(segment=True),
    ),
    Mutant("warm pods are scaled up and down endlessly", QUIET, _restless, Budget()),
    Mutant(
        "a new leader does not stamp",
        "no_new_weight_without_ready_pods",
        None,
        Budget(moves=2, crashes=1),
        Setting(stamp=False),
    ),
    Mutant(
        "writes are planned on a stale read",
        "no_new_weight_without_ready_pods",
        None,
        Budget(moves=3),
        Setting(live_reads=False),
    ),
)
