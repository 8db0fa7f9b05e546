"""The short soak: everything that shifts traffic, at more than 100 requests per second over three transports. `make
soak` is the full one."""

import pytest

from soak import SHORT, account, run
from stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_nothing_is_lost_under_load_and_every_share_is_as_wanted(stage: Stage, fresh_namespace: str) -> None:
    record = await run(stage, SHORT, fresh_namespace, print_line=print)
    found = account(record)
    assert found.problems == [], record.traffic.explain(found.failures)
