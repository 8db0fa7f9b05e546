"""Regular expressions of a spec: what RE2 reads is accepted, and nothing that a tenant writes takes long or raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsync.policy.patterns import pattern_problem


@pytest.mark.parametrize(
    "pattern",
    ["^internal$", "^(a|b)-[0-9]+$", r"^a\++$", "^(?i:beta).*$", "^(?P<x>a)?$", "[[:alpha:]]+", "(a+)+$", r"\pL+"],
)
def test_what_gateways_read_is_accepted(pattern: str) -> None:
    assert pattern_problem(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("^(a$", "missing ): ^(a$"),
        ("^(?=a)b$", "invalid perl operator: (?="),
        (r"^(a)\1$", r"invalid escape sequence: \1"),
        ("^(?<!a)b$", "invalid perl operator: (?<!"),
        ("^a++$", "bad repetition operator: ++"),
        ("^(?>a)$", "invalid perl operator: (?>"),
        ("a{1001}", "invalid repetition size: {1001}"),
        ("((a{100}){100}){100}", "invalid repetition size: {100}"),
        (r"\pL{500}", "pattern too large - compile failed"),
    ],
)
def test_what_no_gateway_reads_is_named(pattern: str, problem: str) -> None:
    assert pattern_problem(pattern) == problem


@pytest.mark.parametrize(
    "pattern",
    ["(?i:[\u0000-\uffff])" * 50, "^a{4294967296}$", "(" * 511 + "a" + ")" * 511, "(?:" * 341 + ")" * 341],
    ids=["wide classes", "a huge count", "deep groups", "deep empty groups"],
)
def test_what_python_chokes_on_is_checked_like_any_other(pattern: str) -> None:
    """Python's `re` takes minutes for the first, and raises OverflowError and RecursionError for others."""
    assert pattern_problem(pattern) is None or isinstance(pattern_problem(pattern), str)


@given(st.text(max_size=200))
def test_any_text_has_an_answer(pattern: str) -> None:
    assert pattern_problem(pattern) is None or pattern_problem(pattern)
