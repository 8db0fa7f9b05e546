"""Checks every interleaving of a small world against every invariant (docs/design/README.md, "Invariants").

The planner is the production one. `MODELSYNC_MODEL_BUDGET=large` searches far more than fits into CI.
"""

import os
import sys

import pytest

from model.mutants import MUTANTS, Mutant
from model.runs import LARGE, RUNS, Run, execute

SEARCHES = (*RUNS, *LARGE) if os.environ.get("MODELSYNC_MODEL_BUDGET") == "large" else RUNS


@pytest.mark.parametrize("run", SEARCHES, ids=lambda run: run.name)
def test_no_interleaving_violates_an_invariant(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    result = execute(run)
    with capsys.disabled():
        summary = f"{result.states:,} states, {result.edges:,} edges, {result.seconds:.1f} s of CPU"
        sys.stdout.write(f"\n  {run.name}: {summary} ")
    assert result.complete
    assert not result.found, "\n" + str(result.found[0])


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planner_broken_on_purpose_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    if mutant.patch is not None:
        mutant.patch(monkeypatch)
    result = execute(Run(mutant.name, mutant.setting, mutant.budget), limit=150_000)
    assert [found.name for found in result.found] == [mutant.violates], [str(found) for found in result.found]
    assert result.found[0].log, "the counterexample has no log"
