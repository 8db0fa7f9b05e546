"""Budgets by address and over all addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsync.registry.budget import MAX_ADDRESSES, Budget, Rate

ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


class Clock:
    """A clock that only moves when the test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_address_has_a_burst_and_then_its_rate_and_waiting_as_told_is_enough() -> None:
    clock = Clock()
    budget = Budget(Rate(3, 2), Rate(100, 100), clock)
    assert [budget.take("10.0.0.1") for _ in range(3)] == [0, 0, 0]
    wait = budget.take("10.0.0.1")
    assert wait == pytest.approx(0.5)
    assert budget.take("10.0.0.2") == 0, "another address has its own"
    clock.now += wait
    assert budget.take("10.0.0.1") == 0
    assert budget.take("10.0.0.1") > 0


def test_all_addresses_together_have_one_too_and_what_is_refused_takes_nothing() -> None:
    budget = Budget(Rate(2, 1), Rate(3, 1), Clock())
    assert [budget.take("10.0.0.1") for _ in range(9)].count(0.0) == 2
    assert budget.take("10.0.0.2") == 0, "the refused ones took nothing from the bucket over all"
    assert budget.take("10.0.0.3") == 1.0


def test_without_an_address_only_the_bucket_over_all_counts() -> None:
    budget = Budget(Rate(1, 1), Rate(5, 1), Clock())
    assert [budget.take(None) for _ in range(6)].count(0.0) == 5


def test_an_amount_above_the_burst_is_there_when_the_bucket_is_full() -> None:
    clock = Clock()
    budget = Budget(Rate(10, 1), Rate(100, 1), clock)
    assert budget.take("a", 50) == 0
    assert budget.take("a", 50) == 10


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("not an address", "another", True),
    ],
)
def test_addresses_that_one_caller_has_count_as_one(one: str, other: str, same: bool) -> None:
    budget = Budget(Rate(1, 1), Rate(9, 1), Clock())
    assert budget.take(one) == 0
    assert (budget.take(other) > 0) is same


def test_a_thousand_addresses_are_remembered_and_not_more() -> None:
    budget = Budget(Rate(1, 1), Rate(1e9, 1), Clock())
    for number in range(3 * MAX_ADDRESSES):
        budget.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(budget._of) == MAX_ADDRESSES


@given(st.lists(st.tuples(st.floats(0, 10), st.sampled_from(ADDRESSES))))
def test_no_order_of_calls_gets_more_than_burst_and_rate(calls: list[tuple[float, str]]) -> None:
    clock = Clock()
    budget = Budget(Rate(4, 1), Rate(6, 2), clock)
    granted = dict.fromkeys(ADDRESSES, 0)
    for pause, source in calls:
        clock.now += pause
        granted[source] += budget.take(source) == 0
        passed = clock.now - 100
        assert all(count <= 4.001 + passed for count in granted.values())
        assert sum(granted.values()) <= 6.001 + 2 * passed
