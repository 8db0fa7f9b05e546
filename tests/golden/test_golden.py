"""Whole rollouts as logs that a person can read; `pytest tests/golden --update-golden` rewrites them."""

import difflib
from pathlib import Path

import pytest

from golden.scenarios import SCENARIOS, Scenario
from golden.simulator import World

HERE = Path(__file__).parent
SEEDS = range(3)

each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@each_scenario
def test_a_rollout_goes_as_its_golden_log_says(scenario: Scenario, request: pytest.FixtureRequest) -> None:
    world = told(scenario)
    log = f"# {(scenario.tell.__doc__ or '').strip()}\n" + "\n".join(world.log) + "\n"
    golden = HERE / f"{scenario.name}.log"
    if request.config.getoption("--update-golden"):
        golden.write_text(log)
        return
    assert golden.exists(), f"{golden.name} is missing; write it with --update-golden and read it"
    before = golden.read_text()
    difference = "\n".join(difflib.unified_diff(before.splitlines(), log.splitlines(), "golden", "now", lineterm=""))
    assert log == before, f"another course of events; read it, then --update-golden\n{difference}"


@each_scenario
def test_the_end_does_not_depend_on_the_order_of_events(scenario: Scenario) -> None:
    expected = told(scenario).end_state()
    for seed in SEEDS:
        assert told(scenario, seed).end_state() == expected, f"seed {seed} ends elsewhere"


def told(scenario: Scenario, seed: int | None = None) -> World:
    """The world after the story."""
    world = World(scenario.policy, seed)
    scenario.tell(world)
    return world


def test_every_golden_log_belongs_to_a_scenario() -> None:
    assert {path.stem for path in HERE.glob("*.log")} == {scenario.name for scenario in SCENARIOS}
