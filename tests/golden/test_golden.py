"""Whole rollouts as readable logs. `pytest tests/golden --update-golden` rewrites the logs."""

import difflib
from pathlib import Path

import pytest

from golden.scenarios import SCENARIOS, Scenario
from golden.simulator import World

HERE = Path(__file__).parent
SEEDS = range(3)

each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@each_scenario
def test_a_rollout_matches_its_golden_log(scenario: Scenario, request: pytest.FixtureRequest) -> None:
    world = play(scenario)
    log = f"# {(scenario.script.__doc__ or '').strip()}\n" + "\n".join(world.log) + "\n"
    golden = HERE / f"{scenario.name}.log"
    if request.config.getoption("--update-golden"):
        golden.write_text(log)
        return
    assert golden.exists(), f"{golden.name} is missing; create it with --update-golden and review it"
    before = golden.read_text()
    difference = "\n".join(difflib.unified_diff(before.splitlines(), log.splitlines(), "golden", "now", lineterm=""))
    assert log == before, f"the log differs; review the difference, then run with --update-golden\n{difference}"


@each_scenario
def test_the_end_does_not_depend_on_the_order_of_events(scenario: Scenario) -> None:
    expected = play(scenario).end_state()
    for seed in SEEDS:
        assert play(scenario, seed).end_state() == expected, f"seed {seed} has another end state"


def play(scenario: Scenario, seed: int | None = None) -> World:
    """The world after the scenario."""
    world = World(scenario.policy, seed)
    scenario.script(world)
    return world


def test_every_golden_log_belongs_to_a_scenario() -> None:
    assert {path.stem for path in HERE.glob("*.log")} == {scenario.name for scenario in SCENARIOS}
