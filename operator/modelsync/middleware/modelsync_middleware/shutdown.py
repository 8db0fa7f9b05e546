"""Whether the server has been told to stop. It must never keep the signal from those who wait for it."""

from __future__ import annotations

import signal
from typing import Any


class Shutdown:
    """Notices SIGTERM, from `watch` on, and hands it on to whoever was there before.

    vLLM goes on to listen while it drains and fails new requests, so a pod that still called itself ready would be
    given requests to lose.
    """

    def __init__(self) -> None:
        self.begun = False
        self._watching = False

    def watch(self) -> None:
        """Called with the first event, when vLLM's own handlers are in place: asyncio and uvloop are woken by the
        signal itself and not by the handler that stands here."""
        if self._watching:
            return
        self._watching = True
        try:
            previous = signal.getsignal(signal.SIGTERM)

            def handle(number: int, frame: Any) -> None:
                self.begun = True
                if callable(previous):
                    previous(number, frame)

            if callable(previous):
                signal.signal(signal.SIGTERM, handle)
        except ValueError:
            pass  # not the main thread: signals belong to someone else
