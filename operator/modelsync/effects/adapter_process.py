"""A process that reads one adapter and ends: what its author wrote never enters the operator's process.

`read_apart` starts it, from the operator; `main` is what runs in it. It gets signed URLs and no key, and limits on
memory and time that it cannot lift, so that a manifest, a configuration or an object store that takes too much harms
this one reading only. Its answer is one short line of JSON.
"""

import asyncio
import json
import os
import resource
import signal
import ssl
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelsync.api.foreign_json import ForeignJSONError, read_object
from modelsync.api.pod_contract import EXIT_CONTENT
from modelsync.puller.digests import Algorithm
from modelsync.puller.errors import PullError
from modelsync.puller.inspect_artifact import Location, inspect
from modelsync.resources.adapter_config import CONFIG_FILE, AdapterConfig, AdapterRefusedError, read_adapter

MEMORY_BYTES = 256 * 2**20
"""Address space, of which Python takes a quarter. The largest manifest that is read needs about 100 MiB at worst."""
CPU_SECONDS = 20
SECONDS = 60
"""Also ends a process that the operator has left behind."""
MAX_MESSAGE = 500
MAX_ANSWER_BYTES = 8 * 2**10

_START = "import sys; sys.path.insert(0, sys.argv[1]); from modelsync.effects.adapter_process import main; main()"
_PACKAGES = Path(__file__).resolve().parents[2]
_ENVIRONMENT = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "PATH", "LANG", "TZ"}
)


@dataclass(frozen=True, slots=True)
class Order:
    """What to read, and how."""

    location: Location
    user_agent: str
    ca_pem: str | None = None

    def encode(self) -> bytes:
        """As a line for the process."""
        where = self.location
        return json.dumps(
            {
                "digest": where.digest,
                "algorithm": where.algorithm,
                "manifest": where.manifest_url,
                "urls": dict(where.urls),
                "agent": self.user_agent,
                "ca": self.ca_pem,
            }
        ).encode()

    @staticmethod
    def decode(line: bytes) -> "Order":
        """Read what `encode` wrote."""
        found = json.loads(line)
        where = Location(found["digest"], Algorithm(found["algorithm"]), found["manifest"], found["urls"])
        return Order(where, found["agent"], found["ca"])


class ReadingFailedError(Exception):
    """The adapter could not be read this time; the message says why."""


# --- in the operator -------------------------------------------------------------------------------------------------


async def read_apart(order: Order) -> AdapterConfig:
    """Read an adapter in a process of its own, which is ended when this is cancelled.

    Raises AdapterRefusedError for content that can never be served, and ReadingFailedError.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-IB",
        "-c",
        _START,
        str(_PACKAGES),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name.upper() in _ENVIRONMENT},
    )
    try:
        answer = await _exchange(process, order.encode())
        status = await process.wait()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return _result(answer, status)


async def _exchange(process: asyncio.subprocess.Process, order: bytes) -> bytes:
    """Send the order, and return the answer: at most MAX_ANSWER_BYTES and a byte."""
    assert process.stdin is not None  # noqa: S101 both are pipes
    assert process.stdout is not None  # noqa: S101
    with suppress(ConnectionError):
        process.stdin.write(order)
        await process.stdin.drain()
        process.stdin.close()
    answer = b""
    while len(answer) <= MAX_ANSWER_BYTES and (more := await process.stdout.read(MAX_ANSWER_BYTES)):
        answer += more
    return answer


def _result(answer: bytes, status: int) -> AdapterConfig:
    if status == -signal.SIGXCPU:
        raise AdapterRefusedError(f"reading it took more than {CPU_SECONDS} s of a processor; log a smaller adapter")
    try:
        found = read_object(answer, max_bytes=MAX_ANSWER_BYTES)
    except ForeignJSONError:
        how = f"signal {-status}" if status < 0 else f"status {status}"
        raise ReadingFailedError(f"the process that reads it ended with {how}") from None
    if isinstance(rank := found.get("rank"), int):
        return AdapterConfig(rank)
    if "refused" in found:
        raise AdapterRefusedError(str(found["refused"]))
    raise ReadingFailedError(str(found.get("failing")))


# --- in the process --------------------------------------------------------------------------------------------------


def main() -> None:
    """Read the order from standard input, and write the answer to standard output."""
    _limit()
    order = Order.decode(sys.stdin.buffer.read())
    sys.stdout.write(json.dumps(answer(order)))
    sys.stdout.flush()
    os._exit(0)


def _limit() -> None:
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most + 1 if what == resource.RLIMIT_CPU else most))
    signal.alarm(SECONDS)
    with suppress(OSError):  # where memory is short, this process goes before the operator
        Path("/proc/self/oom_score_adj").write_text("1000")


def answer(order: Order) -> Mapping[str, Any]:
    """Read the adapter: its `rank`, or why it is `refused` for good, or is `failing` this time."""
    try:
        return {"rank": _read(order).rank}
    except AdapterRefusedError as error:
        return {"refused": _line(str(error))}
    except PullError as error:
        return {"refused" if error.exit_code == EXIT_CONTENT else "failing": _line(str(error))}
    except MemoryError:
        return {"refused": f"reading it needs more than {MEMORY_BYTES >> 20} MiB of memory; log a smaller adapter"}
    except Exception as error:  # a defect, or a CA bundle that is none
        return {"failing": _line(f"{type(error).__name__}: {error}")}


def _read(order: Order) -> AdapterConfig:
    context = ssl.create_default_context()
    if order.ca_pem is not None:
        context.load_verify_locations(cadata=order.ca_pem)
    inspected = inspect(order.location, names=[CONFIG_FILE], user_agent=order.user_agent, ssl_context=context)
    if CONFIG_FILE not in inspected.contents:
        raise AdapterRefusedError(f"it has no {CONFIG_FILE}; log the folder that PEFT's save_pretrained writes")
    return read_adapter(inspected.files, inspected.contents[CONFIG_FILE])


def _line(text: str) -> str:
    printable = "".join(letter if letter.isprintable() else " " for letter in text[: 2 * MAX_MESSAGE])
    return printable if len(printable) <= MAX_MESSAGE else f"{printable[: MAX_MESSAGE - 1]}…"
