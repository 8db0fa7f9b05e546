"""The operator in a process of its own, as `modelsync run` starts it, with what the suite measures about it.

Reads commands from standard input, a line each: `reset` starts to measure anew, `step SECONDS` sets the wall clock that
the operator reads, and `measure` answers with one line of JSON. It ends when standard input does.
"""

import asyncio
import contextlib
import json
import re
import sys
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

from modelsync.api.settings import OperatorSettings
from modelsync.controller.logs import configure
from modelsync.controller.options import Options, Webhook
from modelsync.controller.run import run_until

TICK = 0.01
MIB = 1 << 20


class _SteppedType(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, datetime)


class Stepped(datetime, metaclass=_SteppedType):
    """`datetime` by a wall clock that somebody has set."""

    step = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """The time that the stepped clock shows."""
        return datetime.now(tz) + cls.step  # type: ignore[return-value]  # the operator must get plain datetimes


def step_clock(seconds: float) -> None:
    """Set the wall clock of all modules of the operator by this much. Monotonic clocks go on."""
    Stepped.step = timedelta(seconds=seconds)
    for name, module in list(sys.modules.items()):
        if name.startswith("modelsync") and getattr(module, "datetime", None) is datetime:
            module.datetime = Stepped  # type: ignore[attr-defined]  # not a name that every module has


class Lag:
    """How late the event loop runs what is due."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def watch(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK
            await asyncio.sleep(TICK)
            self.worst = max(self.worst, loop.time() - due)


def peak_bytes() -> int:
    """The most resident memory since the last reset."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def reset_peak() -> None:
    """Forget the peak: proc(5), clear_refs."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


async def main(options: Options) -> int:
    """Run the operator until standard input ends; return its exit code."""
    lag, stop = Lag(), asyncio.Event()
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    watching = asyncio.create_task(lag.watch())
    operator = asyncio.create_task(run_until(stop, options))

    async def obey() -> None:
        while line := (await commands.readline()).decode():
            command, _, argument = line.strip().partition(" ")
            if command == "reset":
                reset_peak()
                lag.worst = 0.0
            elif command == "step":
                step_clock(float(argument))
            answer = {"peak": peak_bytes(), "lag": lag.worst}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()

    obeying = asyncio.create_task(obey())
    await asyncio.wait((obeying, operator), return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    watching.cancel()
    obeying.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return await operator


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    configure("json")
    sys.exit(
        asyncio.run(
            main(
                Options(
                    settings=OperatorSettings.model_validate(given["settings"]),
                    lease_namespace=given["namespaces"][0],
                    namespaces=tuple(given["namespaces"]),
                    webhook=Webhook("127.0.0.1", given["webhookPort"], given["webhookToken"]),
                    health_port=given["healthPort"],
                    metrics_port=given["metricsPort"],
                )
            )
        )
    )
