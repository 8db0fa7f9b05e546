"""The drain: kubelet's preStop hook is answered when the pod has nothing under way any more; SIGTERM then cuts nothing.

vLLM drains by itself at SIGTERM, but with several server processes it loses everything that runs (measured on 0.32,
docs/design/vllm.md). It must never refuse or end a request: who stops sending is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import time

from .asgi import Receive, Scope, Send, send_json
from .shared_state import SharedState

DRAIN_PATH = "/modelsync/drain"
LOOK_SECONDS = 0.1
QUIET_SECONDS = 0.5  # a request may be on its way from one process's socket to its first line of Python

_DRAINING = "draining"


class Drain:
    """Counts the requests under way in this process, and from a drain's beginning on tells the others.

    `GET /modelsync/drain` waits MODELSYNC_SETTLE_SECONDS, for the data plane to forget the pod, and then until no
    process of the pod has a request, at most MODELSYNC_DRAIN_SECONDS.
    """

    def __init__(self, shared: SharedState) -> None:
        self._shared = shared
        self._settle = _seconds("MODELSYNC_SETTLE_SECONDS")
        self._longest = _seconds("MODELSYNC_DRAIN_SECONDS")
        self._said: int | None = None
        self.open = 0

    def tell(self) -> None:
        """Say how many are under way, once some process has begun to drain; called every so often."""
        if self._said != self.open and self._shared.marked(_DRAINING):
            self._said = self.open
            self._shared.publish(open=self.open)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, and say whether the pod became idle."""
        if scope["method"] != "GET":
            await send_json(send, 405, {"idle": False, "reason": "only GET is answered here"})
            return
        await asyncio.sleep(self._settle)
        self._shared.mark(_DRAINING)
        self.tell()
        until = time.monotonic() + self._longest
        quiet_since: float | None = None
        while True:
            now = time.monotonic()
            # A process that has not told yet may have requests.
            quiet = self.open == 0 and all(process.get("open", 1) == 0 for process in self._shared.published())
            quiet_since = (now if quiet_since is None else quiet_since) if quiet else None
            idle = quiet_since is not None and now - quiet_since >= QUIET_SECONDS
            if idle or now >= until:
                await send_json(send, 200, {"idle": idle, "reason": "" if idle else "the time for the drain is over"})
                return
            await asyncio.sleep(LOOK_SECONDS)
            self.tell()


def _seconds(variable: str) -> float:
    try:
        return max(0.0, float(os.environ.get(variable, "0")))
    except ValueError:
        return 0.0
