from modelsync.puller.connection_scaling import EVERY_SECONDS, ConnectionScaling


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_nothing_is_added_before_anything_is_known() -> None:
    clock = Clock()
    pace = ConnectionScaling(now=clock)
    clock.seconds += 10
    assert not pace.may_add()


def test_waiting_threads_get_company_one_at_a_time() -> None:
    clock = Clock()
    pace = ConnectionScaling(now=clock)
    pace.record(waited=0.3, worked=0.1)
    assert not pace.may_add()
    clock.seconds += 2 * EVERY_SECONDS
    assert pace.may_add()
    assert not pace.may_add()
    clock.seconds += 2 * EVERY_SECONDS
    assert pace.may_add()


def test_busy_threads_do_not() -> None:
    clock = Clock()
    pace = ConnectionScaling(now=clock)
    clock.seconds += 10
    pace.record(waited=0.15, worked=0.1)
    assert not pace.may_add()


def test_what_was_long_ago_does_not_count() -> None:
    clock = Clock()
    pace = ConnectionScaling(now=clock)
    clock.seconds += 10
    pace.record(waited=100.0, worked=0.0)
    for _ in range(100):
        pace.record(waited=0.0, worked=0.1)
    assert not pace.may_add()
