"""The puller's result as a termination message: it round-trips, and any other text is harmless."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsync.api.pod_contract import MAX_TERMINATION_BYTES, PULLED, TerminationMessage

whole = st.integers(0, 2**63 - 1)
words = st.text(max_size=20)
successes = st.builds(
    TerminationMessage,
    outcome=words,
    digest=words,
    files=whole,
    bytes=whole,
    reused_bytes=whole,
    seconds=st.integers(0, 10**6).map(lambda milliseconds: milliseconds / 1000),
    ref=words,
)
failures = st.builds(
    TerminationMessage, outcome=words, digest=words, message=st.text(min_size=1, max_size=20), file=words
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(successes | failures)
def test_a_message_is_read_back_as_it_was_written(message: TerminationMessage) -> None:
    assert TerminationMessage.parse(json.dumps(message.document())) == message


@given(st.dictionaries(st.sampled_from(TerminationMessage.__slots__), JSON_VALUES))
def test_whatever_the_fields_hold_each_is_of_its_type(fields: dict[str, object]) -> None:
    message = TerminationMessage.parse(json.dumps(fields))
    assert message is not None
    for name in ("outcome", "digest", "ref", "message", "file"):
        assert isinstance(getattr(message, name), str)
    for name in ("files", "bytes", "reused_bytes"):
        assert type(getattr(message, name)) is int
        assert 0 <= getattr(message, name) < 2**63
    assert 0 <= message.seconds < 2**63
    assert set(message.wrong) <= fields.keys()


@pytest.mark.parametrize(
    "text",
    [None, 7, "", "no JSON", "[]", "{", "[" * 100_000, '{"digest":"x","files":' + "1" * 5000 + "}", "1e999"],
)
def test_what_the_puller_did_not_write_is_no_message(text: object) -> None:
    assert TerminationMessage.parse(text) is None


@pytest.mark.parametrize("number", ["1e999", "-1", "NaN", "true", "1" * 401, "[1]", '"1"'])
@pytest.mark.parametrize("field", ["files", "bytes", "reused_bytes", "seconds"])
def test_a_number_that_no_pull_has_is_left_out(field: str, number: str) -> None:
    message = TerminationMessage.parse(f'{{"outcome":"Pulled","{field}":{number}}}')
    assert message == TerminationMessage(outcome=PULLED, wrong=(field,))


def test_a_message_that_no_container_can_leave_is_not_read() -> None:
    assert TerminationMessage.parse(json.dumps({"message": "x" * 5 * MAX_TERMINATION_BYTES})) is None
