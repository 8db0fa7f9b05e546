"""Blows the fuse of a held revision: its pods then respond with 451 and close their open streams.

Best effort, with a short timeout: the pods are deleted right after, whether they acknowledged or not. The token must
never get into a log line or an error. See docs/design/README.md, "Holds".
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

import aiohttp
import structlog

from modelsync.api import names
from modelsync.api.kinds import Object, name_of, uid_of
from modelsync.api.pod_contract import FUSE_PATH
from modelsync.observe.fuse import MAX_BYTES, Acknowledgement, read_acknowledgement

TIMEOUT = timedelta(seconds=1)
"""Longer than the middleware waits for all server processes of its pod before it responds."""

log = structlog.get_logger(__name__)


async def blow(
    pods: Iterable[Object], token: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Mapping[str, Acknowledgement | None]:
    """Send the request to all `pods` that have an address, concurrently.

    Returns the acknowledgements by pod uid; None for a pod that did not acknowledge.
    """
    addresses = {uid_of(pod): (name_of(pod), ip) for pod in pods if (ip := (pod.get("status") or {}).get("podIP"))}
    if not addresses:
        return {}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT.total_seconds())
    # Without proxies: pods are never behind one, and the token must not go through one.
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        answers = await asyncio.gather(*(_blow(session, name, ip, token, now) for name, ip in addresses.values()))
    return dict(zip(addresses, answers, strict=True))


async def _blow(
    session: aiohttp.ClientSession, name: str, ip: str, token: str, now: Callable[[], datetime]
) -> Acknowledgement | None:
    host = f"[{ip}]" if ":" in ip else ip
    url = f"http://{host}:{names.PORT}{FUSE_PATH}"
    problem = ""
    try:
        async with session.post(url, headers={"Authorization": f"Bearer {token}"}, allow_redirects=False) as answer:
            if answer.ok:
                return read_acknowledgement(await answer.content.read(MAX_BYTES), now())
            problem = f"HTTP {answer.status}"
    except TimeoutError:
        problem = f"no answer within {TIMEOUT.total_seconds():g} s"
    except (aiohttp.ClientError, OSError) as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
    log.info("fuse.not_acknowledged", pod=name, problem=problem)
    return None
