"""A request round-trips, and has a person only if the value names one."""

import pytest

from modelsync.api.requests import MAX_LENGTH, Request

REVISION = "v7-3fa9c1d2"


@pytest.mark.parametrize(
    ("value", "request_"),
    [
        (REVISION, Request(REVISION)),
        (f"{REVISION}/2", Request(REVISION, "2")),
        (f"{REVISION}/2/alice@example.com", Request(REVISION, "2", "alice@example.com")),
        (f"{REVISION}//alice", Request(REVISION, "", "alice")),
        (f"{REVISION}/2/https://id.example.com#alice", Request(REVISION, "2", "https://id.example.com#alice")),
    ],
)
def test_a_value_is_read_as_it_was_written(value: str, request_: Request) -> None:
    assert Request.parse(value) == request_
    assert request_.render() == value


@pytest.mark.parametrize(
    "request_", [Request("v7/8"), Request(REVISION, "2/3"), Request(REVISION, "2", "a" * MAX_LENGTH)], ids=str
)
def test_what_could_not_be_read_back_is_not_written(request_: Request) -> None:
    with pytest.raises(ValueError, match="use no slash in revision and token, and at most 256 characters in all"):
        request_.render()


def test_a_request_without_a_name_is_from_a_person() -> None:
    assert Request.parse(REVISION).who == "a person"
    assert Request.parse(f"{REVISION}/2/alice").who == "alice"
