import asyncio
import threading

import pytest

from modelsync.puller import network_pull


async def test_a_thread_whose_answer_nobody_waits_for_any_more_ends_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(threading, "excepthook", complaints.append)
    begun, go_on = threading.Event(), threading.Event()
    thread: list[threading.Thread] = []

    def work() -> None:
        thread.append(threading.current_thread())
        begun.set()
        go_on.wait(10)

    waiting = asyncio.ensure_future(network_pull._in_thread(work))
    await asyncio.to_thread(begun.wait, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.to_thread(thread[0].join, 10)
    assert complaints == []
