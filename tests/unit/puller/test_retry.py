from modelsync.puller.retry import CAP_SECONDS, Backoff


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_waits_grow_to_a_cap_and_never_fall_below_what_the_server_asks_for() -> None:
    backoff = Backoff(1e9, now=Clock())
    waits = [backoff.failed() for _ in range(200)]
    assert all(wait is not None and 0 <= wait <= CAP_SECONDS for wait in waits)
    assert max(wait or 0 for wait in waits) > CAP_SECONDS / 2
    assert backoff.failed(retry_after=77.0) == 77.0


def test_patience_ends_after_a_while_without_success_and_begins_anew_with_each() -> None:
    clock = Clock()
    backoff = Backoff(60.0, now=clock)
    assert backoff.failed() is not None
    clock.seconds += 59.9
    backoff.succeeded()
    clock.seconds += 59.9
    assert backoff.failed() is not None
    clock.seconds += 60.1
    assert backoff.failed() is None


def test_no_patience_means_one_attempt() -> None:
    backoff = Backoff(0.0, now=Clock())
    assert backoff.failed(retry_after=1.0) is None


def test_who_is_asked_to_wait_longer_than_allowed_gives_up_at_once() -> None:
    assert Backoff(30.0, now=Clock()).failed(retry_after=31.0) is None
