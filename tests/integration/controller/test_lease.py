"""There is one leader at a time, by a Lease on a real API server."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from modelsync.api import kinds
from modelsync.cluster.client import WRITE_TIMEOUT, Cluster
from modelsync.cluster.errors import ConflictError, NotFoundError, NotLeadingError, UnavailableError
from modelsync.cluster.lease import Elector

QUICK = timedelta(milliseconds=50)


class Clock:
    """A clock that only moves when the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def elector(cluster: Cluster, namespace: str, identity: str, **options: Any) -> Elector:
    return Elector(cluster, namespace=namespace, name="test", identity=identity, retry=QUICK, **options)


async def lease(cluster: Cluster, namespace: str) -> dict[str, Any]:
    return await cluster.get(kinds.LEASE, namespace, "test")


async def test_the_first_one_leads_and_may_write(cluster: Cluster, namespace: str) -> None:
    one = elector(cluster, namespace, "one")
    await one.acquire()
    one.fence()
    assert one.remaining > WRITE_TIMEOUT
    assert (await lease(cluster, namespace))["spec"]["holderIdentity"] == "one"
    await one.release()
    with pytest.raises(NotLeadingError):
        one.fence()


async def test_a_released_lease_is_taken_at_once_and_starts_a_new_term(cluster: Cluster, namespace: str) -> None:
    one, two = elector(cluster, namespace, "one"), elector(cluster, namespace, "two")
    await one.acquire()
    waiting = asyncio.create_task(two.acquire())
    await asyncio.sleep(0)
    assert not waiting.done()
    await one.release()
    async with asyncio.timeout(5):
        await waiting
    assert (await lease(cluster, namespace))["spec"]["leaseTransitions"] == 1
    assert two.epoch != one.epoch
    await two.release()


async def test_the_epoch_differs_after_the_lease_was_deleted(cluster: Cluster, namespace: str) -> None:
    one, two = elector(cluster, namespace, "one"), elector(cluster, namespace, "two")
    await one.acquire()
    await one.release()
    await cluster.delete(kinds.LEASE, namespace, "test")
    async with asyncio.timeout(5):
        await two.acquire()
    assert (await lease(cluster, namespace))["spec"]["leaseTransitions"] == 0
    assert two.epoch != one.epoch, "otherwise it would take the stamps of the other for its own, and stamp nothing"
    await two.release()


async def test_a_holder_that_renews_is_not_replaced(cluster: Cluster, namespace: str) -> None:
    one, two = elector(cluster, namespace, "one"), elector(cluster, namespace, "two")
    await one.acquire()
    waiting = asyncio.create_task(two.acquire())

    async def renewed(times: int) -> None:
        seen: set[str] = set()
        while len(seen) < times:
            seen.add((await lease(cluster, namespace))["spec"]["renewTime"])
            await asyncio.sleep(0.01)

    async with asyncio.timeout(20):
        await renewed(5)
    assert not waiting.done()
    waiting.cancel()
    await one.release()


async def test_a_holder_that_stopped_renewing_is_replaced_when_its_lease_has_expired(
    cluster: Cluster, namespace: str
) -> None:
    clock = Clock()
    silent = elector(cluster, namespace, "silent")
    await silent.acquire()
    assert silent._task is not None
    silent._task.cancel()  # like a process that was killed

    two = elector(cluster, namespace, "two", clock=clock)
    waiting = asyncio.create_task(two.acquire())
    await asyncio.sleep(0.5)
    assert not waiting.done(), "its duration starts when we saw it first"
    clock.now += 16
    async with asyncio.timeout(5):
        await waiting
    assert (await lease(cluster, namespace))["spec"]["leaseTransitions"] == 1
    await two.release()


async def test_a_lease_that_cannot_be_renewed_is_lost_and_no_write_may_be_sent(
    cluster: Cluster, namespace: str
) -> None:
    clock = Clock()

    class Cut(Cluster):
        down = False

        async def replace(self, kind: kinds.Kind, space: str | None, body: kinds.Object) -> kinds.Object:
            if self.down:
                raise UnavailableError("the API server is away")
            return await super().replace(kind, space, body)

    cut = Cut(cluster._api)
    one = elector(cut, namespace, "one", clock=clock)
    await one.acquire()
    cut.down = True
    clock.now += 10.5
    with pytest.raises(NotLeadingError):
        one.fence()
    async with asyncio.timeout(5):
        await one.lost.wait()
    assert one.remaining == timedelta(0)


async def test_a_lease_taken_by_another_process_is_lost(cluster: Cluster, namespace: str) -> None:
    one = elector(cluster, namespace, "one")
    await one.acquire()

    async def take() -> None:
        while not one.lost.is_set():
            found = await lease(cluster, namespace)
            found["spec"]["holderIdentity"] = "thief"
            with suppress(ConflictError):  # it was renewed just then
                await cluster.replace(kinds.LEASE, namespace, found)
            await asyncio.sleep(0.01)

    async with asyncio.timeout(10):
        await take()
    with pytest.raises(NotLeadingError):
        one.fence()


async def test_a_missing_namespace_is_reported_at_once(cluster: Cluster) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        await elector(cluster, "nowhere", "one").acquire()


async def test_a_waiting_process_knows_the_address_of_the_leader_until_it_releases_the_lease(
    cluster: Cluster, namespace: str
) -> None:
    one = elector(cluster, namespace, "one", address="10.0.0.1:9443")
    two = elector(cluster, namespace, "two")
    await one.acquire()
    waiting = asyncio.create_task(two.acquire())
    async with asyncio.timeout(5):
        while two.leader_address is None:  # noqa: ASYNC110  # set by the next read of the lease
            await asyncio.sleep(0.02)
        assert two.leader_address == "10.0.0.1:9443"
        await one.release()
        await waiting
    assert two.leader_address is None, "it must not be the address of the previous leader"
    await two.release()
