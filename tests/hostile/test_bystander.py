"""Whatever a tenant tries, a bystander's hold acts within its usual bound, and the operator stays small and awake."""

import pytest

from hostile.arena import Arena, Measured
from hostile.scenarios import SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: f"{each.finding}: {each.name}")
def test_a_bystander_is_safe(scenario: Scenario, arena: Arena, results: list[tuple[Scenario, Measured]]) -> None:
    arena.begin()
    try:
        with scenario.attack(arena):
            held = arena.hold()
    finally:
        arena.tidy()
    measured = arena.peaks(held)
    results.append((scenario, measured))
    arena.lift()
    assert not measured.died, "the operator has ended"
    assert not measured.unhealthy, "the kubelet would end the operator"
    assert measured.safe is not None, "the route was never safe"
    assert measured.safe <= scenario.safe
    assert measured.peak_bytes <= scenario.peak_bytes
    assert measured.lag <= scenario.lag
