"""The account of a soak excuses only the effects of a hold; shares count only while one weight is in force."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from soak import FULL, Plan, Record, account
from soak.account import steps
from soak.route import RouteWatch, Wanted
from soak.story import Held
from traffic import Answer, Outcome, Traffic, Way
from traffic.shares import Window

OLD, NEW = "v1-00000001", "v2-00000002"
PLAN = replace(FULL, promotions=0, aborts=0, holds=0, weight_changes=0, canary_drains=0, rate=10.0)


def answer(sent: float, revision: str | None = OLD, outcome: Outcome | None = Outcome.OK, **more: Any) -> Answer:
    return Answer(stream=False, sent=sent, done=sent + 0.1, revision=revision, outcome=outcome, status=200, **more)


def record(
    answers: Iterable[Answer], *, plan: Plan = PLAN, holds: Sequence[Held] = (), wanted: Sequence[Wanted] = ()
) -> Record:
    traffic = Traffic(url="http://example.com/v1", host="chat", answers=sorted(answers, key=lambda a: a.sent))
    route = RouteWatch("soak", "chat")
    route.wanted = list(wanted)
    return Record(plan, traffic, route, started=0.0, ended=100.0, holds=list(holds))


def steady(**more: Any) -> list[Answer]:
    """Ten requests per second for ten seconds."""
    return [answer(number / 10, **more) for number in range(100)]


def test_a_soak_without_lost_requests_has_no_problems() -> None:
    found = account(record(steady()))
    assert found.problems == []
    assert found.numbers["requests"]["all"] == {"sent": 100, "ok": 100, "held": 0, "retried": 0, "lost": 0}


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.BLOCKED, Outcome.REFUSED, None])
def test_whatever_was_not_answered_without_a_hold_is_lost(outcome: Outcome | None) -> None:
    found = account(record([*steady(), answer(5.01, outcome=outcome)]))
    assert found.problems == ["1 requests were lost"]


def test_a_hold_excuses_its_own_version_around_its_own_time_only() -> None:
    hold = Held(OLD, 5.0)
    cut = answer(4.95, outcome=Outcome.LOST)
    refused = answer(6.0, outcome=Outcome.REFUSED)
    found = account(record([*steady(), cut, refused], holds=[hold]))
    assert (found.problems, list(found.cut)) == ([], [cut, refused])
    for lost in (
        answer(4.0, outcome=Outcome.LOST),  # it ended before the hold
        answer(7.5, outcome=Outcome.REFUSED),  # the held version was still reached
        answer(5.5, revision=NEW, outcome=Outcome.LOST),
        answer(5.5, revision=None, outcome=Outcome.BLOCKED),
    ):
        assert account(record([*steady(), lost], holds=[hold])).problems == ["1 requests were lost"]


def test_less_than_asked_for_is_a_problem() -> None:
    found = account(record(steady(), plan=replace(PLAN, promotions=2, weight_changes=3)))
    assert found.problems == [
        "0 weight changes instead of 3",
        "0 promotions instead of 2",
        "0 pods deleted gracefully instead of 2",
    ]
    assert account(record(steady(), plan=replace(PLAN, rate=100.0))).problems == ["only 10 requests a second were sent"]


def test_shares_that_are_not_the_wanted_ones_are_a_problem() -> None:
    wanted = [Wanted(0.0, {OLD: 90, NEW: 10})]
    right = [answer(number / 10, revision=NEW if number % 10 == 0 else OLD) for number in range(100)]
    wrong = [answer(number / 10, revision=NEW if number % 2 == 0 else OLD) for number in range(100)]
    assert account(record(right, wanted=wanted)).problems == []
    assert "shares" in account(record(wrong, wanted=wanted)).problems[0]


def test_requests_between_a_weights_write_and_its_settling_belong_to_no_step() -> None:
    wanted = [Wanted(0.0, {OLD: 100}), Wanted(5.0, {OLD: 50, NEW: 50})]
    answers = [*(answer(number / 10) for number in range(60)), *(answer(6.0 + n / 10, revision=NEW) for n in range(10))]
    assert steps(wanted, answers, settled=1.0) == [Window(1.0, 37, 37), Window(0.5, 10, 0)]


def test_an_answer_over_every_way_has_a_row() -> None:
    found = account(record([answer(number / 10, way=way) for number, way in enumerate([*Way] * 33)]))
    assert set(found.numbers["requests"]) == {*(f"{way}, answers" for way in Way), "all"}
    found.table()
