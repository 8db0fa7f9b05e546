"""Kubernetes quantities as exact numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsync.api import quantity


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1", "1"),
        ("1000m", "1"),
        ("1e0", "1"),
        ("1500m", "1.5"),
        ("1.5", "1.5"),
        ("1.", "1"),
        ("1Gi", "1073741824"),
        ("1024Mi", "1073741824"),
        ("1G", "1000000000"),
        ("1e9", "1000000000"),
        ("1E9", "1000000000"),
        ("2E", "2000000000000000000"),
        ("100n", "0.0000001"),
        ("0.1n", "0.000000001"),
        ("0", "0"),
        ("0Gi", "0"),
    ],
)
def test_every_way_to_write_an_amount_is_the_same_text(text: str, canonical: str) -> None:
    assert quantity.canonical(text) == canonical


@pytest.mark.parametrize("text", ["", "Gi", "1GB", "1 Gi", "-1", "1,5", "1gi", "one", "1e", "1e999", "9" * 40])
def test_refuses_what_kubernetes_refuses_and_negative_amounts(text: str) -> None:
    with pytest.raises(
        ValueError, match="is not a Kubernetes quantity; write a number with or without a suffix, such as 500m"
    ):
        quantity.parse(text)


@given(st.integers(min_value=0, max_value=10**12))
def test_milli_units_and_units_agree(amount: int) -> None:
    assert quantity.parse(f"{amount * 1000}m") == quantity.parse(str(amount))


@given(st.integers(min_value=0, max_value=10**6), st.integers(min_value=0, max_value=10**6))
def test_canonical_texts_are_equal_exactly_when_the_amounts_are(one: int, other: int) -> None:
    same = quantity.canonical(f"{one}Ki") == quantity.canonical(f"{other}m")
    assert same == (one * 1024 * 1000 == other)
