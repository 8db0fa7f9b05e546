"""Real vLLM on this machine: as a process beside its stand-in, and as pods of the local cluster.

Only `make e2e-vllm` runs these tests, since vLLM's packages are 5 GB.
"""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from localcluster.progress import Progress
from modelsync import middleware
from realvllm import model, packages
from realvllm.pods import pods_arguments, revision_record
from vllm_standin.faults import FAULTS_FILE, make_faults

ROOT = Path(__file__).resolve().parents[2]
FUSE_TOKEN = "the token of this revision"
START_SECONDS = 400
SECONDS = 60

_ports = itertools.count(18_600)


class Server:
    """One `vllm serve` process, real or a stand-in, started like in a pod."""

    def __init__(self, kind: str, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
        self.kind = kind
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self.client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS))

    async def listening(self) -> "Server":
        """Wait until the server answers."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    async with self.client.get(self.url + "/health") as answer:
                        assert answer.status == 200
                        return self
                except aiohttp.ClientConnectionError:
                    assert self.process.returncode is None, f"{self.kind} ended:\n{self.log.read_text()[-3000:]}"
                    await asyncio.sleep(0.2)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], str]:
        """Status, headers in lower case, and text of an answer; `body` is sent as JSON unless it is bytes."""
        options: dict[str, Any] = {"headers": headers, "skip_auto_headers": ["content-type"]}
        options |= {"data": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
        if body is not None and "content-type" not in headers:
            options["headers"] = {"content-type": "application/json", **headers}
        async with self.client.request(method, self.url + path, **options) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.text()

    async def stream(self, tokens: int, *, begun: asyncio.Event | None = None) -> list[str]:
        """The events of a streamed completion; `begun` is set at the first one."""
        events: list[str] = []
        body = {"model": "chat", "prompt": "Hello", "max_tokens": tokens, "stream": True}
        async with self.client.post(self.url + "/v1/completions", json=body) as answer:
            async for line in answer.content:
                if line.startswith(b"data: "):
                    events.append(line[6:].decode().strip())
                    if begun is not None:
                        begun.set()
        return events

    def terminate(self) -> None:
        """Send SIGTERM, as the kubelet does after preStop."""
        self.process.send_signal(signal.SIGTERM)

    async def ended(self, seconds: float = SECONDS) -> int:
        """Wait for the process's end; returns its exit code."""
        return await asyncio.wait_for(self.process.wait(), seconds)


Serve = Callable[..., Awaitable[Server]]


@pytest.fixture(scope="session")
def vllm_packages() -> Path:
    """The folder of vLLM's packages; installed if necessary."""
    return packages.packages(Progress())


@pytest.fixture(scope="session")
def python() -> str:
    """The Python that runs them."""
    return packages.interpreter(Progress())


@pytest.fixture
async def serve(vllm_packages: Path, python: str, tmp_path: Path) -> AsyncIterator[Serve]:
    """Start a server of `kind` (`real` or `stand-in`) with the pod's own command line and middleware."""
    started: list[Server] = []

    async def start(kind: str, *args: str, shutdown_timeout: str = "20s") -> Server:
        folder = tmp_path / f"model-{len(started)}"
        model.make_model(folder, "version1")
        port = next(_ports)
        made = revision_record(shutdown_timeout)
        arguments = [*pods_arguments(made, folder, port), *packages.CPU_ARGUMENTS, *args]
        placed = Path(middleware.__file__).parent
        revision = made.revision
        environment = {
            "MODELSYNC_VERSION": "chat llm:v7",
            "MODELSYNC_REVISION": revision,
            "MODELSYNC_DIGEST": "0123abcd",
            "MODELSYNC_SERVED_NAMES": f"chat@{revision},chat",
            "MODELSYNC_FUSE_SHA256": sha256(FUSE_TOKEN.encode()).hexdigest(),
            "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "3900",
        }
        if kind == "real":
            command = packages.command(python, *arguments)
            environment |= packages.environment(vllm_packages, placed, home=tmp_path)
        else:
            # At the pace of the real one, which must generate thousands of tokens for a stream that lasts seconds.
            (folder / FAULTS_FILE).write_bytes(make_faults({"token_seconds": 0.02, "tokens": 200}).encode())
            command = [str(ROOT / ".venv" / "bin" / "python"), "-m", "vllm_standin", *arguments]
            paths = (ROOT / "operator", ROOT / "hack", placed)
            environment |= {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PATH": os.environ["PATH"]}
        log = tmp_path / f"{kind}-{len(started)}.log"
        with log.open("w") as output:
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, stdout=output, stderr=asyncio.subprocess.STDOUT, start_new_session=True
            )
        started.append(Server(kind, process, port, log))
        return started[-1]

    yield start
    for server in started:
        await server.client.close()
        if server.process.returncode is None:
            os.killpg(server.process.pid, signal.SIGKILL)  # its own session, so that no engine is left behind
            await server.ended()
