"""Whether the server has received SIGTERM. It must never keep the signal from the handlers installed before."""

from __future__ import annotations

import signal
from typing import Any


class Shutdown:
    """Records SIGTERM, once `watch` was called, and passes it on to the previous handler.

    vLLM keeps listening while it drains but fails new requests, so a pod that still reported ready would lose requests.
    """

    def __init__(self) -> None:
        self.started = False
        self._watching = False

    def watch(self) -> None:
        """Called with the first event, when vLLM's own handlers are installed: asyncio and uvloop are woken by the
        signal itself, not by the handler that is replaced here."""
        if self._watching:
            return
        self._watching = True
        try:
            previous = signal.getsignal(signal.SIGTERM)

            def handle(number: int, frame: Any) -> None:
                self.started = True
                if callable(previous):
                    previous(number, frame)

            if callable(previous):
                signal.signal(signal.SIGTERM, handle)
        except ValueError:
            pass  # not the main thread: signals belong to someone else
