"""Whatever a tenant tries, a bystander's hold acts within its usual bound, and the operator stays small and awake."""

import pytest

from hostile.arena import Arena, Measured
from hostile.scenarios import SCENARIOS, Scenario

MARKED = [
    pytest.param(
        each,
        id=f"{each.finding}: {each.name}",
        marks=[pytest.mark.xfail(reason=f"finding {each.finding}: {each.broken}", strict=True)] if each.broken else [],
    )
    for each in SCENARIOS
]


@pytest.mark.parametrize("scenario", MARKED)
def test_a_bystander_is_safe(scenario: Scenario, arena: Arena, results: list[tuple[Scenario, Measured]]) -> None:
    arena.begin()
    try:
        with scenario.attack(arena):
            held = arena.hold()
    finally:
        arena.tidy()
    measured = arena.peaks(held)
    results.append((scenario, measured))
    arena.lift(afresh=scenario.broken is not None)
    assert not measured.died, "the operator has ended"
    assert not measured.unhealthy, "the kubelet would end the operator"
    assert measured.safe is not None, "the route was never safe"
    assert measured.safe <= scenario.safe
    assert measured.peak_bytes <= scenario.peak_bytes
    assert measured.lag <= scenario.lag
