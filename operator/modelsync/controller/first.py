"""Waits for the first of several things."""

import asyncio
from collections.abc import Awaitable


async def first(*awaitables: Awaitable[object]) -> None:
    """Wait for the first of them; those that are no tasks yet are cancelled."""
    tasks = [each if isinstance(each, asyncio.Task) else asyncio.ensure_future(each) for each in awaitables]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    made = [task for task in tasks if task not in awaitables]
    for task in made:
        task.cancel()
    await asyncio.gather(*made, return_exceptions=True)
