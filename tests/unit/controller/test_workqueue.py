"""The work queue: no key is lost, no key has two workers, urgent keys go first."""

import asyncio
import contextlib
from datetime import timedelta
from itertools import pairwise

import pytest

from modelsync.controller.workqueue import Priority, ShutDownError, WorkQueue


class Clock:
    """A clock that only moves when the test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


async def soon(queue: WorkQueue[str]) -> str:
    async with asyncio.timeout(5):
        return await queue.get()


async def drained(queue: WorkQueue[str]) -> list[str]:
    """Return all keys that are ready now, after finishing each of them."""
    keys = []
    while len(queue):
        key = await soon(queue)
        keys.append(key)
        queue.done(key)
    return keys


async def test_a_key_that_is_added_many_times_is_returned_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(20):
        queue.add("a")
    assert await drained(queue) == ["a"]


async def test_a_key_that_is_added_while_busy_is_returned_again_after_done_and_not_before() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    key = await soon(queue)
    queue.add("a")
    queue.add("b")
    assert await soon(queue) == "b", "no second worker may get the busy key"
    queue.done(key)
    assert await soon(queue) == "a"


async def test_a_hold_goes_before_a_resync_of_everything() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for number in range(100):
        queue.add(f"resync-{number}", Priority.LOW)
    queue.add("held")
    assert await soon(queue) == "held"


async def test_a_waiting_key_moves_up_when_added_with_high_priority_and_is_returned_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for name in ("a", "b", "c"):
        queue.add(name, Priority.LOW)
    queue.add("c")
    assert await drained(queue) == ["c", "a", "b"]


async def test_a_low_add_does_not_move_a_high_key_down() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a", Priority.LOW)
    queue.add("b", Priority.HIGH)
    queue.add("b", Priority.LOW)
    assert await drained(queue) == ["b", "a"]


async def test_a_waiting_worker_wakes_for_a_key() -> None:
    queue: WorkQueue[str] = WorkQueue()
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.add("a")
    done, pending = await asyncio.wait(workers, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result() for task in done] == ["a"]
    assert len(pending) == 2
    for task in pending:
        task.cancel()


async def test_of_several_delays_the_earliest_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", seconds(3600))
    queue.add_after("a", seconds(0.01))
    queue.add_after("a", seconds(1800))
    assert await soon(queue) == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_the_back_off_doubles_up_to_its_cap_and_is_reset_after_a_success() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(base=seconds(1), cap=seconds(10), jitter=lambda: 0.5, clock=clock)
    assert [failed_again(queue, clock) for _ in range(6)] == [seconds(n) for n in (1, 2, 4, 8, 10, 10)]
    queue.succeeded("a")
    assert queue.retry("a") == seconds(1)


async def test_many_failures_do_not_overflow_the_back_off() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(base=seconds(1), cap=seconds(10), jitter=lambda: 0.5, clock=clock)
    for _ in range(5000):
        assert failed_again(queue, clock) <= seconds(10)


async def test_failures_within_the_back_off_do_not_extend_it() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(base=seconds(1), cap=seconds(300), jitter=lambda: 0.5, clock=clock)
    assert queue.retry("a") == seconds(1)
    clock.now += 0.25
    assert [queue.retry("a") for _ in range(10)] == [seconds(0.75)] * 10, "events queued it, and it failed each time"
    clock.now += 0.75
    assert queue.retry("a") == seconds(2)


def failed_again(queue: WorkQueue[str], clock: Clock) -> timedelta:
    """Fail once; return the delay, after waiting for it."""
    wait = queue.retry("a")
    clock.now += wait.total_seconds()
    return wait


async def test_the_back_off_of_many_keys_is_spread() -> None:
    queue: WorkQueue[str] = WorkQueue(base=seconds(10))
    assert len({queue.retry(f"key-{number}") for number in range(50)}) > 10


async def test_a_server_that_asks_for_a_longer_wait_gets_it() -> None:
    queue: WorkQueue[str] = WorkQueue(base=seconds(1), jitter=lambda: 0.5)
    assert queue.retry("a", at_least=seconds(60)) == seconds(60)


async def test_a_forgotten_key_is_not_queued_by_its_timer() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock=clock)
    queue.add_after("gone", seconds(0))
    queue.forget("gone")
    queue.add_after("there", seconds(0))
    assert await soon(queue) == "there"
    assert len(queue) == 0


async def test_shutting_down_waits_for_the_busy_and_drops_the_rest() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("busy")
    queue.add("waiting")
    busy = await soon(queue)
    closing = asyncio.create_task(queue.shut_down(drain=seconds(5)))
    await asyncio.sleep(0)
    assert not closing.done()
    with pytest.raises(ShutDownError):
        await soon(queue)
    queue.done(busy)
    assert await closing is True


async def test_shutting_down_gives_up_on_a_stuck_worker() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("stuck")
    await soon(queue)
    assert await queue.shut_down(drain=seconds(0.01)) is False


async def test_the_longest_running_key_is_reported() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock=clock)
    queue.add("a")
    await soon(queue)
    clock.now += 42
    assert queue.longest_running == seconds(42)
    queue.done("a")
    assert queue.longest_running == seconds(0)


async def test_other_tasks_get_a_turn_after_each_of_a_thousand_keys_whose_passes_never_wait() -> None:
    queue: WorkQueue[int] = WorkQueue()
    done: list[int] = []
    seen: list[int] = []

    async def work() -> None:
        with contextlib.suppress(ShutDownError):
            while True:
                key = await queue.get()
                done.append(key)
                queue.done(key)

    async def renew_the_lease() -> None:
        while len(done) < 1000:
            seen.append(len(done))
            await asyncio.sleep(0)

    workers = [asyncio.create_task(work()) for _ in range(32)]
    for key in range(1000):
        queue.add(key)
    async with asyncio.timeout(60):
        await renew_the_lease()
    await queue.shut_down(drain=seconds(1))
    await asyncio.gather(*workers)
    assert sorted(done) == list(range(1000))
    assert max(after - before for before, after in pairwise(seen)) == 1, "one pass between two turns"
