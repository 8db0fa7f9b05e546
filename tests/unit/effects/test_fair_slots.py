"""Tenants take turns, and none of them gets more than its turn."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from modelsync.effects.fair_slots import CrowdedError, FairSlots


class Work:
    """Pieces of work that hold a slot until they are told to end; `order` is the order in which they got one."""

    def __init__(self, slots: FairSlots) -> None:
        self._slots = slots
        self._ends: dict[str, asyncio.Event] = {}
        self.order: list[str] = []
        self.running: set[str] = set()
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, *names: str) -> None:
        for name in names:
            self._ends[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._run(name))
        await settle()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        async with asyncio.timeout(10):
            await self.tasks[name]
        await settle()

    async def _run(self, name: str) -> None:
        async with self._slots.turn(name[0]):
            self.order.append(name)
            self.running.add(name)
            await self._ends[name].wait()
            self.running.discard(name)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest_asyncio.fixture
async def work() -> AsyncIterator[Work]:
    found = Work(FairSlots(slots=2, waiting=3))
    yield found
    for task in found.tasks.values():
        task.cancel()
    await asyncio.gather(*found.tasks.values(), return_exceptions=True)


async def test_a_tenant_holds_one_slot_and_leaves_the_other_to_others(work: Work) -> None:
    await work.start("a1", "a2", "a3")
    assert work.running == {"a1"}
    await work.start("b1")
    assert work.running == {"a1", "b1"}


async def test_tenants_take_turns_however_many_one_of_them_has_waiting(work: Work) -> None:
    await work.start("a1", "b1", "a2", "a3", "a4", "c1", "c2")
    await work.end("a1")
    await work.end("b1")
    await work.end("a2")
    assert work.order[:5] == ["a1", "b1", "a2", "c1", "a3"]


async def test_with_one_slot_a_tenant_that_has_had_it_is_last_in_the_row() -> None:
    work = Work(FairSlots(slots=1, waiting=3))
    await work.start("a1", "a2", "a3", "b1", "b2")
    for name in ("a1", "a2", "b1", "a3", "b2"):
        await work.end(name)
    assert work.order == ["a1", "a2", "b1", "a3", "b2"]


async def test_a_tenant_with_too_much_waiting_is_told_and_others_are_not(work: Work) -> None:
    await work.start("a1", "a2", "a3", "a4")
    await work.start("a5")
    with pytest.raises(CrowdedError, match="3 of namespace a are waiting already"):
        await work.tasks["a5"]
    await work.start("b1")
    assert "b1" in work.running


async def test_work_that_is_cancelled_while_it_waits_leaves_its_place(work: Work) -> None:
    await work.start("a1", "a2", "a3")
    work.tasks["a2"].cancel()
    await settle()
    await work.end("a1")
    assert work.running == {"a3"}


async def test_work_that_is_cancelled_when_it_was_just_granted_a_slot_gives_it_back() -> None:
    slots = FairSlots(slots=1, waiting=3)
    work = Work(slots)
    async with slots.turn("a"):
        await work.start("a2", "b1")
    work.tasks["a2"].cancel()  # it has the slot, and has not run since
    await settle()
    assert work.order == ["b1"]
    await work.end("b1")
