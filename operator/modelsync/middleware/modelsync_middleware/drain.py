"""The drain: kubelet's preStop hook is answered once the pod has no requests in flight, so SIGTERM interrupts none.

vLLM drains at SIGTERM itself, but with several server processes it drops all running requests (measured on 0.32,
docs/design/vllm.md). The drain must never refuse or end a request: routing traffic away happens elsewhere.
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
    """Counts the requests in flight in this process, and shares the count once a drain has started.

    `GET /modelsync/drain` waits MODELSYNC_SETTLE_SECONDS, for the data plane to stop routing to the pod, and then until
    no process of the pod has a request, at most MODELSYNC_DRAIN_SECONDS.
    """

    def __init__(self, shared: SharedState) -> None:
        self._shared = shared
        self._settle = _seconds("MODELSYNC_SETTLE_SECONDS")
        self._longest = _seconds("MODELSYNC_DRAIN_SECONDS")
        self._shared_count: int | None = None
        self.open = 0

    def share(self) -> None:
        """Share the count of open requests, once some process has started to drain; called periodically."""
        if self._shared_count != self.open and self._shared.marked(_DRAINING):
            self._shared_count = self.open
            self._shared.publish(open=self.open)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, and respond whether the pod became idle."""
        if scope["method"] != "GET":
            await send_json(send, 405, {"idle": False, "reason": "only GET is allowed"})
            return
        await asyncio.sleep(self._settle)
        self._shared.mark(_DRAINING)
        self.share()
        until = time.monotonic() + self._longest
        quiet_since: float | None = None
        while True:
            now = time.monotonic()
            # A process that has not shared its count yet may have requests.
            quiet = self.open == 0 and all(process.get("open", 1) == 0 for process in self._shared.published())
            quiet_since = (now if quiet_since is None else quiet_since) if quiet else None
            idle = quiet_since is not None and now - quiet_since >= QUIET_SECONDS
            if idle or now >= until:
                await send_json(send, 200, {"idle": idle, "reason": "" if idle else "the drain timed out"})
                return
            await asyncio.sleep(LOOK_SECONDS)
            self.share()


def _seconds(variable: str) -> float:
    try:
        return max(0.0, float(os.environ.get(variable, "0")))
    except ValueError:
        return 0.0
