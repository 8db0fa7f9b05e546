"""Shares a few slots among tenants, so that none of them can keep the others waiting for longer than a turn.

At most one slot is held by a tenant at a time, and tenants take turns. What waits is bounded for each of them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class CrowdedError(Exception):
    """The tenant has as much waiting as it may have; the message says how much."""


class FairSlots:
    """`slots` for all together, of which a tenant holds at most one. `waiting`: how many of a tenant may wait."""

    def __init__(self, *, slots: int, waiting: int) -> None:
        self._slots = slots
        self._most = waiting
        self._holding: set[str] = set()
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        """What waits, by tenant; the tenant whose turn was longest ago is first."""

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Wait for a slot and hold it while the block runs. Raises CrowdedError."""
        queue = self._queues.setdefault(tenant, deque())
        if sum(not each.done() for each in queue) >= self._most:
            raise CrowdedError(f"{self._most} of namespace {tenant} are waiting already")
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(granted)
        self._grant()
        try:
            await granted
            yield
        finally:
            if granted.done() and not granted.cancelled():
                self._holding.discard(tenant)
            self._grant()

    def _grant(self) -> None:
        for tenant in [*self._queues]:
            queue = self._queues[tenant]
            while queue and queue[0].done():  # cancelled while it waited
                queue.popleft()
            if not queue:
                del self._queues[tenant]
            elif len(self._holding) < self._slots and tenant not in self._holding:
                queue.popleft().set_result(None)
                self._holding.add(tenant)
                del self._queues[tenant]
                if queue:
                    self._queues[tenant] = queue  # last in the row
