"""Breadth-first search over every interleaving, and the checks on the resulting graph.

Safety is checked on every transition. Liveness is checked on the finished graph: from every state the goal can be
reached by steps without disturbances (backward reachability), and no cycle of such steps contains a write (strongly
connected components). Together: without disturbances the goal is reached, and then nothing is written.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from model.invariants import ViolatedError
from model.world import Engine, Setting, World, state_line
from modelsync.rollout.model import Observed, Plan

GOAL = "the_goal_is_reached"
QUIET = "a_quiet_world_is_not_written_to"


@dataclass
class Counterexample:
    """The shortest path to a violation, as a log."""

    name: str
    what: str
    log: list[str]

    def __str__(self) -> str:
        return f"{self.name}: {self.what}\n" + "\n".join(self.log)


@dataclass
class Result:
    """Result of a search."""

    states: int = 0
    edges: int = 0
    seconds: float = 0.0
    complete: bool = True
    found: list[Counterexample] = field(default_factory=list)


def search(
    engine: Engine,
    starts: Iterable[World],
    *,
    at_goal: Callable[[Setting, World], str | None],
    on_edge: Callable[[World, World], None],
    limit: int = 10_000_000,
) -> Result:
    """Visit every state reachable from `starts`, or `limit` of them. Stops at the first unsafe transition.

    `at_goal` returns why a state is not a goal state, or None if it is one.
    """
    started = time.process_time()
    result = Result()
    index: dict[World, int] = {}
    worlds: list[World] = []
    parents: list[tuple[int, str]] = []
    quiet: list[list[int]] = []
    writes: list[list[bool]] = []
    queue: deque[int] = deque()

    def number(world: World, parent: int, step: str) -> int:
        known = index.get(world)
        if known is not None:
            return known
        index[world] = known = len(worlds)
        worlds.append(world)
        parents.append((parent, step))
        quiet.append([])
        writes.append([])
        queue.append(known)
        return known

    for start in starts:
        number(start, -1, "start")
    while queue:
        here = queue.popleft()
        world = worlds[here]
        try:
            for step, after, disturbance in engine.steps(world):
                result.edges += 1
                on_edge(world, after)
                there = number(after, here, step)
                if not disturbance:
                    quiet[here].append(there)
                    writes[here].append(step.startswith("plan"))
        except ViolatedError as violated:
            result.found.append(Counterexample(violated.name, str(violated), _log(worlds, parents, here)))
            break
        if len(worlds) >= limit:
            result.complete = False
            break
    result.states = len(worlds)
    if result.complete and not result.found:
        _liveness(engine, worlds, parents, quiet, writes, at_goal, result)
    result.seconds = time.process_time() - started
    return result


def _liveness(
    engine: Engine,
    worlds: list[World],
    parents: list[tuple[int, str]],
    quiet: list[list[int]],
    writes: list[list[bool]],
    at_goal: Callable[[Setting, World], str | None],
    result: Result,
) -> None:
    backward: list[list[int]] = [[] for _ in worlds]
    for here, successors in enumerate(quiet):
        for there in successors:
            backward[there].append(here)
    good = [at_goal(engine.setting, world) is None and engine.plan(world)[0] is None for world in worlds]
    queue = deque(number for number, is_good in enumerate(good) if is_good)
    while queue:
        for before in backward[queue.popleft()]:
            if not good[before]:
                good[before] = True
                queue.append(before)
    for number, is_good in enumerate(good):
        if not is_good:
            end = _run_quietly(worlds, quiet, number)
            lacks = at_goal(engine.setting, worlds[end]) or "the planner still plans writes"
            stuck = sum(not is_good for is_good in good)
            log = [*_log(worlds, parents, number), "without disturbances this ends as:", f"      {_shown(worlds[end])}"]
            result.found.append(Counterexample(GOAL, f"{lacks} ({stuck} states never reach the goal)", log))
            return
    component = _components(quiet)
    for here, successors in enumerate(quiet):
        for there, is_write in zip(successors, writes[here], strict=True):
            if is_write and component[here] == component[there] and here != there:
                log = _log(worlds, parents, here)
                result.found.append(Counterexample(QUIET, "the planner writes in an endless cycle", log))
                return


def _run_quietly(worlds: list[World], quiet: list[list[int]], number: int) -> int:
    """Follow quiet steps until they repeat."""
    seen: set[int] = set()
    while number not in seen and quiet[number]:
        seen.add(number)
        number = next((there for there in quiet[number] if there not in seen), number)
    return number


def _components(graph: list[list[int]]) -> list[int]:
    """Tarjan's strongly connected components, without recursion."""
    count = len(graph)
    order = [-1] * count
    low = [0] * count
    component = [-1] * count
    stack: list[int] = []
    clock = 0
    for root in range(count):
        if order[root] != -1:
            continue
        work = [(root, 0)]
        order[root] = low[root] = clock
        clock += 1
        stack.append(root)
        while work:
            here, place = work[-1]
            if place < len(graph[here]):
                work[-1] = (here, place + 1)
                there = graph[here][place]
                if order[there] == -1:
                    order[there] = low[there] = clock
                    clock += 1
                    stack.append(there)
                    work.append((there, 0))
                elif component[there] == -1:
                    low[here] = min(low[here], order[there])
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[here])
            if low[here] == order[here]:
                while True:
                    member = stack.pop()
                    component[member] = here
                    if member == here:
                        break
    return component


def _log(worlds: list[World], parents: list[tuple[int, str]], number: int) -> list[str]:
    lines: list[str] = []
    while number != -1:
        parent, step = parents[number]
        lines.append(f"      {_shown(worlds[number])}")
        lines.append(f"- {step}")
        number = parent
    return lines[::-1]


def _shown(world: World) -> str:
    route = "none"
    if world.route is not None:
        backends = ", ".join(
            [f"{rule.revision[:2]} {rule.kind}" for rule in world.route.rules]
            + [f"{name[:2]} {weight}" for name, weight in world.route.weights]
        )
        route = f"{backends} ({('written', 'accepted', 'settled')[world.route.stage]})"
    pods = ", ".join(
        f"v{number} {rev.ready}/{rev.replicas}{' crashed' if rev.crashed else ''}"
        for number, rev in enumerate(world.revs, 1)
        if rev.deployed
    )
    marks = [str(number) for number, marked in enumerate(world.marks, 1) if marked]
    parts = [
        f"alias v{world.alias + 1}",
        f"hold on {'/'.join(marks)}" if marks else "no hold",
        state_line(world.state),
        f"route {route}",
        f"service {world.service and world.service[:2]}",
        f"pods {pods or 'none'}",
    ]
    return " | ".join(parts)


__all__ = ["GOAL", "QUIET", "Counterexample", "Observed", "Plan", "Result", "search"]
