"""The local cluster with everything that the pages need; the tests run inside its network."""

from collections.abc import AsyncIterator

import pytest_asyncio

from docs_runner.reader import prepare, remove_operator
from localcluster import current_cluster
from stage import Stage


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage() -> AsyncIterator[Stage]:
    """W&B's stand-in and GPUs; the quickstart installs the operator."""
    opened = await Stage.open(current_cluster(), operator=False)
    prepare(opened)
    yield opened
    remove_operator(opened)
    opened.servers.end()
    await opened.close()
