"""Nothing that happens to a spec, a key, a status, a record or an owner stops a hold (docs/design/README.md, "Holds").

Every order of two disturbances and one mark is tried against the production controller. The mutants take one mend out,
and each must be caught.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from model.watch_world import Counterexample, Setting, search
from modelsync.api.kinds import Key
from modelsync.cluster.families import CachedFamilies
from modelsync.controller import reconciler
from modelsync.controller.hold_guard import HoldGuard
from modelsync.observe import hold_watch, unplanned
from modelsync.observe.hold_watch import NO_MARKS
from modelsync.resources.pulled import Pulled

RUNS = {
    "the credential of the record": (Setting(), 2),
    "the operator's own credential": (Setting(own_credential=True), 2),
    "the same bytes, marked elsewhere": (Setting(twin=True), 1),
}


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with structlog.testing.capture_logs():
        yield


@pytest.mark.parametrize("name", RUNS)
def test_no_order_of_disturbances_hides_a_mark(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    setting, disturbances = RUNS[name]
    worlds = 0
    for found in search(setting, disturbances):
        assert not isinstance(found, Counterexample), f"\n{found}"
        worlds += 1
    with capsys.disabled():
        sys.stdout.write(f"\n  {name}: {worlds:,} worlds ")


async def _nothing(*_: Any, **__: Any) -> None:
    return


def _no_watches(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reconciler, "watches", lambda *_: ())


def _no_guard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HoldGuard, "act", _nothing)


def _no_own_credential(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hold_watch, "same_server", lambda *_: False)


def _no_shared_marks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HoldGuard, "marks", lambda *_: NO_MARKS)


def _no_content_without_a_record(patch: pytest.MonkeyPatch) -> None:
    def nothing(revision: str, _specs: object) -> Pulled:
        return Pulled(revision, (), {}, None)

    patch.setattr(Pulled, "by", nothing)


def _no_orphans(patch: pytest.MonkeyPatch) -> None:
    def empty(_self: CachedFamilies, key: Key) -> unplanned.Unplanned:
        return unplanned.Unplanned(key)

    patch.setattr(CachedFamilies, "orphans", empty)


@dataclass(frozen=True)
class Mutant:
    """A mend that is taken out, and the finding of issue 11 that it answered."""

    name: str
    finding: int
    setting: Setting
    patch: Callable[[pytest.MonkeyPatch], None]


MUTANTS = (
    Mutant("what serves is not watched beside the spec", 3, Setting(), _no_watches),
    Mutant("nothing acts without a plan", 3, Setting(), _no_guard),
    Mutant("the operator's own credential is not used", 3, Setting(own_credential=True), _no_own_credential),
    Mutant("a mark acts only where it was seen", 5, Setting(twin=True), _no_shared_marks),
    Mutant("without a record nobody knows what serves", 5, Setting(), _no_content_without_a_record),
    Mutant("orphans are nobody's", 14, Setting(), _no_orphans),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"finding {mutant.finding}: {mutant.name}")
def test_a_watch_broken_on_purpose_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.patch(monkeypatch)
    found = [each for each in search(mutant.setting, 2) if isinstance(each, Counterexample)]
    assert found, "nothing noticed"
