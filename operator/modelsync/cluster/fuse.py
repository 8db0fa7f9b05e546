"""Blows the fuse of a held revision: its pods answer 451 from then on and end their open streams (DESIGN §4).

Best effort and short: the pods are deleted right after, whether they acknowledged or not. The token must never reach
a log line or an error.
"""

import asyncio
from collections.abc import Iterable
from datetime import timedelta

import aiohttp
import structlog

from modelsync.api import names
from modelsync.cluster.kinds import Object, name_of
from modelsync.middleware import FUSE_PATH

TIMEOUT = timedelta(seconds=1)
"""Twice what the middleware gives the answers under way before it acknowledges."""

log = structlog.get_logger(__name__)


async def blow(pods: Iterable[Object], token: str) -> int:
    """Tell every one of `pods` that has an address, all at once. Returns how many acknowledged."""
    addresses = {name_of(pod): ip for pod in pods if (ip := (pod.get("status") or {}).get("podIP"))}
    if not addresses:
        return 0
    timeout = aiohttp.ClientTimeout(total=TIMEOUT.total_seconds())
    # Without proxies: pods are never behind one, and the token must not pass one.
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        answers = await asyncio.gather(*(_blow(session, name, ip, token) for name, ip in addresses.items()))
    return sum(answers)


async def _blow(session: aiohttp.ClientSession, name: str, ip: str, token: str) -> bool:
    host = f"[{ip}]" if ":" in ip else ip
    url = f"http://{host}:{names.PORT}{FUSE_PATH}"
    problem = ""
    try:
        async with session.post(url, headers={"Authorization": f"Bearer {token}"}, allow_redirects=False) as answer:
            if answer.ok:
                return True
            problem = f"HTTP {answer.status}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        problem = type(error).__name__
    log.info("fuse.not_acknowledged", pod=name, problem=problem)
    return False
