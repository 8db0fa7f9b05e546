"""Reports what the scenarios measured: a table for a person at the end of the run, and JSON for a machine."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from apiserver import ApiServer
from hostile.arena import Arena, Measured
from hostile.scenarios import MIB, Scenario

RESULTS = pytest.StashKey[list[tuple[Scenario, Measured]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option for the numbers."""
    parser.addoption("--hostile-json", type=Path, help="write what the scenarios measured here too")


def pytest_configure(config: pytest.Config) -> None:
    """Nothing has been measured."""
    config.stash[RESULTS] = []


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config) -> list[tuple[Scenario, Measured]]:
    """What was measured, for the report at the end."""
    return pytestconfig.stash[RESULTS]


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """The bystander, the tenant and the operator."""
    api = ApiServer()
    api.install_definition()
    with ExitStack() as stack:
        yield Arena.open(api, stack, tmp_path_factory.mktemp("operator") / "operator.log")


def pytest_terminal_summary(config: pytest.Config) -> None:
    """Print the table, and write the numbers."""
    found = config.stash[RESULTS]
    if not found:
        return
    Console(width=150).print(_table(found))
    path: Path | None = config.getoption("--hostile-json")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([_facts(*each) for each in found], indent=2) + "\n", encoding="utf-8")


def _table(found: list[tuple[Scenario, Measured]]) -> Table:
    table = Table(title="A bystander's hold while a tenant attacks: measured (bound)", title_justify="left")
    for heading in ("finding", "what the tenant does", "hold seen", "route safe", "peak memory", "loop lag"):
        table.add_column(heading, justify="left" if heading == "what the tenant does" else "right")
    for scenario, measured in found:
        table.add_row(
            str(scenario.finding) if scenario.finding else "–",
            scenario.name,
            _seconds(measured.seen),
            f"{_seconds(measured.safe)} ({scenario.safe:.0f} s)",
            f"{measured.peak_bytes / MIB:.0f} MiB ({scenario.peak_bytes / MIB:.0f})",
            f"{measured.lag:.2f} s ({scenario.lag:.0f} s)",
        )
    return table


def _seconds(value: float | None) -> str:
    return f"{value:.2f} s" if value is not None else "never"


def _facts(scenario: Scenario, measured: Measured) -> dict[str, Any]:
    bounds = {"safe": scenario.safe, "peak_bytes": scenario.peak_bytes, "lag": scenario.lag}
    facts = {"finding": scenario.finding, "name": scenario.name, "bounds": bounds}
    return {**facts, **asdict(measured)}
