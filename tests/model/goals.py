"""The state that a quiet world must reach, defined independently of the planner.

The version that the alias names serves or, if it may not, the one that may serve instead.
"""

from model.world import NAMES, SETTLED, Route, Setting, World
from modelsync.api.hold import HoldAction
from modelsync.api.routing import RuleKind
from modelsync.rollout.model import BLOCKED


def lacks(setting: Setting, world: World) -> str | None:
    """Why `world` is not in its goal state; None if it is."""
    if world.pending is not None or world.zombie is not None:
        return "a write is pending"
    if world.answered != world.alias or not world.asked or world.stale:
        return "the registry has not been queried"
    state = world.state
    marked = {digest for digest, marked in zip(setting.digests, world.marks, strict=True) if marked}
    held = {name for name, parts in zip(NAMES, setting.parts, strict=True) if marked.intersection(parts)}
    latched = {hold.mark.digest for hold in state.holds}
    if latched:  # each may cover what nobody knows the content of
        held |= {name for index, name in enumerate(NAMES) if world.revs[index].vanished and index != world.answered}
    known = {digest for parts, rev in zip(setting.parts, world.revs, strict=True) if rev.recorded for digest in parts}
    if marked & known - latched or latched - marked:
        return "the holds in the status are not those of the registry"
    if world.replicas == 0:
        return _idles(setting, world)
    if world.suspend:
        return "spec.suspend is still true"
    named = NAMES[world.alias]
    failed = {failure.revision for failure in state.failed}
    if named not in held | failed:
        return _serves(setting, world, named)
    return _second_best(setting, world, held)


def _second_best(setting: Setting, world: World, held: set[str]) -> str | None:
    """The named version may not serve: the stable does, or the fallback of a hold, or nothing."""
    stable = world.state.stable
    if stable is not None and stable not in held:
        return _serves(setting, world, stable)
    recorded = {name for name, rev in zip(NAMES, world.revs, strict=True) if rev.recorded}
    others = [name for name in world.state.promoted if name not in held and name in recorded]
    if others and setting.action is HoldAction.FALLBACK:
        return f"{others[-1]} could serve instead of the held version"
    if world.service != BLOCKED:
        return "the plain Service is not blocked"
    if setting.gateway and (world.route is None or world.route.content != (((BLOCKED, 1),), ())):
        return "the route is not blocked"
    return None


def _idles(setting: Setting, world: World) -> str | None:
    if world.state.canary is not None or world.state.target is not None:
        return "a move is still in progress"
    if any(rev.replicas for rev in world.revs):
        return "pods are still requested"
    if world.service not in (None, BLOCKED):
        return "the plain Service is not blocked"
    if setting.gateway and world.route is not None and world.route[0] != ((BLOCKED, 1),):
        return "the route is not blocked"
    return None


def _all_to(route: Route | None, name: str) -> bool:
    """Whether the settled route sends all traffic to `name`, except for test-header rules."""
    if route is None or route.stage != SETTLED or any(rule.kind is not RuleKind.TEST for rule in route.rules):
        return False
    return {backend: weight for backend, weight in route.weights if weight} == {name: 100}


def _serves(setting: Setting, world: World, name: str) -> str | None:
    state = world.state
    rev = world.revs[NAMES.index(name)]
    if state.canary is not None or state.target is not None:
        return "a move is still in progress"
    if state.stable != name:
        return f"{name} is not the stable"
    if setting.gateway and not _all_to(world.route, name):
        return f"the route does not send everything to {name}"
    if world.service != name:
        return f"the plain Service does not select {name}"
    if rev.replicas != world.replicas or rev.ready != rev.replicas:
        return f"{name} does not have all its pods"
    return None
