"""The test of shares rejects wrong shares, and accepts chance and round robin."""

import math
import random

from traffic.shares import FALSE_ALARM, Window, doubt


def drawn(chance: random.Random, wanted: float, asked: int) -> Window:
    return Window(wanted, asked, sum(chance.random() < wanted for _ in range(asked)))


def test_the_bound_is_at_least_the_exact_tail() -> None:
    """For one window the exact tail can be summed up; the bound must never be below it."""
    for n, p in ((30, 0.05), (50, 0.5), (200, 0.2), (10, 0.3)):
        weight = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        for got in range(n + 1):
            mine = Window(p, n, got)
            far = [k for k in range(n + 1) if divergence(k, n, p) >= divergence(got, n, p) - 1e-9]
            assert doubt([mine]) >= sum(weight[k] for k in far) - 1e-9


def divergence(k: int, n: int, p: float) -> float:
    return sum(a * math.log(a / b) for a, b in ((k, n * p), (n - k, n * (1 - p))) if a)


def test_chance_raises_an_alarm_in_fewer_than_one_of_a_thousand_runs() -> None:
    chance = random.Random(4)
    steps = [(0.05, 60), (0.1, 80), (0.3, 40), (0.5, 120), (0.6, 30)]
    alarms = sum(doubt([drawn(chance, wanted, asked) for wanted, asked in steps]) < FALSE_ALARM for _ in range(1000))
    assert alarms <= 2


def test_turns_taken_exactly_raise_no_doubt() -> None:
    assert doubt([Window(0.1, 200, 20), Window(0.3, 101, 30), Window(0.5, 77, 39)]) > 0.9


def test_a_share_that_is_off_by_a_quarter_is_found() -> None:
    """25 % instead of 20 % may be chance in one step of 200 requests, but not in thirty."""
    assert doubt([Window(0.2, 200, 50)]) > FALSE_ALARM
    assert doubt([Window(0.2, 200, 50)] * 30) < FALSE_ALARM


def test_a_deviation_that_kserves_test_accepts_is_rejected() -> None:
    """KServe's own test accepts 10 % to 55 % for 30 %."""
    assert doubt([Window(0.3, 200, 100)]) < FALSE_ALARM
    assert doubt([Window(0.3, 200, 25)]) < FALSE_ALARM


def test_a_request_to_a_backend_without_weight_is_never_chance() -> None:
    assert doubt([Window(0.0, 1000, 1)]) == 0.0
    assert doubt([Window(1.0, 1000, 999)]) == 0.0
    assert doubt([Window(0.0, 1000, 0), Window(1.0, 50, 50)]) == 1.0


def test_no_requests_are_no_evidence() -> None:
    assert doubt([]) == 1.0
    assert doubt([Window(0.3, 0, 0)]) == 1.0
