"""The outcome depends on the bytes of an answer, not on how they are split."""

import pytest

from traffic import Answer, Outcome
from traffic.reading import Reading
from unit.traffic.servers import DONE, GOOD_STREAM, REVISION, chunk, event, whole

HELD = {"error": {"message": "held", "type": "RegulatoryHold", "code": 451}}

VERDICTS = {
    "a complete answer is fine": (False, 200, REVISION, whole(), Outcome.OK, ""),
    "a complete answer that ended at the length limit is fine": (False, 200, REVISION, whole("length"), Outcome.OK, ""),
    "a stream that ends with [DONE] is fine": (True, 200, REVISION, GOOD_STREAM, Outcome.OK, ""),
    "a drain's abort is a loss": (False, 200, REVISION, whole("abort"), Outcome.LOST, "abort"),
    "a drain's abort in a stream is a loss": (True, 200, REVISION, chunk("", "abort") + DONE, Outcome.LOST, "abort"),
    "a stream without [DONE] is a loss": (True, 200, REVISION, chunk("", "stop"), Outcome.LOST, "without [DONE]"),
    "a [DONE] that is cut is a loss": (
        True,
        200,
        REVISION,
        chunk("", "stop") + b"data: [DO",
        Outcome.LOST,
        "not a JSON",
    ),
    "a [DONE] without a newline is fine": (True, 200, REVISION, GOOD_STREAM.strip(), Outcome.OK, ""),
    "an empty stream is a loss": (True, 200, REVISION, b"", Outcome.LOST, "without [DONE]"),
    "a stream without a finish_reason is a loss": (True, 200, REVISION, chunk() + DONE, Outcome.LOST, "finish_reason"),
    "an error event is a loss": (
        True,
        200,
        REVISION,
        chunk() + event({"error": {"code": 500}}) + DONE,
        Outcome.LOST,
        "500",
    ),
    "an error event with only a text is a loss": (
        True,
        200,
        REVISION,
        event({"error": "no"}) + DONE,
        Outcome.LOST,
        "no",
    ),
    "the fuse's event is a refusal": (True, 200, REVISION, chunk() + event(HELD), Outcome.REFUSED, "held"),
    "a 451 is a refusal": (False, 451, REVISION, b"{}", Outcome.REFUSED, ""),
    "a 503 of the gateway is a block": (False, 503, None, b"no available server", Outcome.BLOCKED, "no available"),
    "a 503 of a pod is a loss": (False, 503, REVISION, b"busy", Outcome.LOST, "status 503: busy"),
    "a 502 is a loss": (True, 502, None, b"Bad Gateway", Outcome.LOST, "status 502: Bad Gateway"),
    "a 404 is a loss": (False, 404, None, b"", Outcome.LOST, "status 404"),
    "an answer without choices is a loss": (
        False,
        200,
        REVISION,
        b'{"model": "x", "choices": []}',
        Outcome.LOST,
        "no answer",
    ),
    "an answer that is not an object is a loss": (False, 200, REVISION, b"null", Outcome.LOST, "no answer"),
    "half an answer is a loss": (False, 200, REVISION, whole()[:20], Outcome.LOST, "no answer"),
    "an answer of another revision than in its header is a loss": (
        False,
        200,
        "v8-00000000",
        whole(),
        Outcome.LOST,
        "v8",
    ),
    "an answer without a revision is a loss": (True, 200, None, GOOD_STREAM, Outcome.LOST, "None"),
    "an event that is not JSON is a loss": (True, 200, REVISION, b"data: {oh\n\n" + DONE, Outcome.LOST, "not a JSON"),
}


@pytest.mark.parametrize("piece", [1, 7, 100_000], ids=["byte by byte", "in pieces", "at once"])
@pytest.mark.parametrize("case", VERDICTS)
def test_the_verdict_is_the_same_however_the_bytes_are_cut(case: str, piece: int) -> None:
    stream, status, revision, body, outcome, detail = VERDICTS[case]
    answer = Answer(stream=stream, sent=0.0)
    reading = Reading(answer)
    reading.head(status, {"x-model-revision": revision} if revision else {})
    for start in range(0, len(body), piece):
        reading.data(body[start : start + piece], 1.0 + start)
    reading.end(1e6)
    assert answer.outcome is outcome
    assert detail in answer.detail


def test_a_break_before_the_end_is_a_loss_and_after_it_is_not() -> None:
    for body, outcome in ((chunk(), Outcome.LOST), (GOOD_STREAM, Outcome.OK)):
        answer = Answer(stream=True, sent=0.0)
        reading = Reading(answer)
        reading.head(200, {"x-model-revision": REVISION})
        reading.data(body, 1.0)
        reading.broken("ConnectionResetError")
        assert answer.outcome is outcome


def test_the_last_byte_of_a_version_is_not_the_event_that_refuses_it() -> None:
    answer = Answer(stream=True, sent=0.0)
    reading = Reading(answer)
    reading.head(200, {"x-model-revision": REVISION})
    reading.data(chunk(), 1.0)
    reading.data(event(HELD), 9.0)
    assert (answer.first_byte, answer.last_byte) == (1.0, 1.0)


def test_a_body_without_an_end_is_given_up() -> None:
    answer = Answer(stream=True, sent=0.0)
    reading = Reading(answer)
    reading.head(200, {})
    for _ in range(20):
        reading.data(b"x" * 100_000, 1.0)
    assert answer.outcome is Outcome.LOST
