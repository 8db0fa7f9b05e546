"""A vllm_standin process for each test that requests one."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from modelsync.puller.middleware_folder import place_middleware
from vllm_standin.artifact import make_model

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("chat@v7-3fa9c1d2", "chat")
FUSE_TOKEN = "the token of this revision"
SECONDS = 20  # for anything that must happen; on a busy machine a start takes long


class Served:
    """One `vllm_standin serve` process, and a client of it."""

    def __init__(self, process: asyncio.subprocess.Process, client: aiohttp.ClientSession) -> None:
        self.process = process
        self.client = client
        self.url = ""
        self.state = Path()
        self.output: list[str] = []
        self._reader = asyncio.ensure_future(self._read())
        self._news = asyncio.Condition()

    async def logged(self, pattern: str) -> re.Match[str]:
        """Wait for a line of output that matches `pattern`."""
        async with asyncio.timeout(SECONDS), self._news:
            while True:
                for line in self.output:
                    if match := re.search(pattern, line):
                        return match
                if self._reader.done():
                    raise AssertionError(f"ended without logging {pattern!r}:\n" + "".join(self.output))
                await self._news.wait()

    async def listening(self) -> "Served":
        """Wait until the server answers."""
        self.url = (await self.logged(r"Starting vLLM server on (\S+)"))[1]
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    async with self.client.get(self.url + "/health"):
                        return self
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.01)

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        async with self.client.post(self.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def complete(self, **more: Any) -> tuple[int, Any]:
        return await self.post("/v1/completions", {"model": "chat", "prompt": "Hello", "max_tokens": 100, **more})

    async def stream(self, path: str = "/v1/completions", **more: Any) -> list[Any]:
        """The parsed events of a stream; the last is "[DONE]" if the stream is complete."""
        return [event async for event in self.events(path, **more)]

    async def events(self, path: str = "/v1/completions", **more: Any) -> AsyncIterator[Any]:
        body: dict[str, Any] = {"model": "chat", "max_tokens": 100, "stream": True}
        body |= {"messages": [{"role": "user", "content": "Hello"}]} if "chat" in path else {"prompt": "Hello"}
        async with self.client.post(self.url + path, json={**body, **more}) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            async for line in answer.content:
                if line.startswith(b"data: "):
                    data = line.removeprefix(b"data: ").decode().strip()
                    yield data if data == "[DONE]" else json.loads(data)

    async def metrics(self) -> dict[str, float]:
        """The samples of /metrics by series, labels in the order of the page."""
        async with self.client.get(self.url + "/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    async def running(self) -> float:
        samples = await self.metrics()
        return next(value for series, value in samples.items() if series.startswith("vllm:num_requests_running"))

    async def until_running(self, wanted: float) -> None:
        async with asyncio.timeout(SECONDS):
            while await self.running() != wanted:  # noqa: ASYNC110  # waits for the metric itself
                await asyncio.sleep(0.01)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def exit_code(self) -> int:
        async with asyncio.timeout(SECONDS):
            await self._reader
            return await self.process.wait()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._news:
                self.output.append(line.decode())
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()


Serve = Callable[..., Coroutine[Any, Any, Served]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Start `vllm_standin serve` on a model folder, by default one created for the test."""
    placed = tmp_path / "modelsync"
    place_middleware(placed)
    started: list[Served] = []
    client = aiohttp.ClientSession()

    async def start(
        *args: str,
        says: str = "one two three four",
        faults: dict[str, Any] | None = None,
        task: str = "generate",
        folder: Path | None = None,
        names: tuple[str, ...] = NAMES,
        port: int = 0,
        variables: dict[str, str] | None = None,
        state: Path | None = None,
        **content: Any,
    ) -> Served:
        if state is None:
            state = tmp_path / f"state-{len(started)}"
            state.mkdir()
        if folder is None:
            folder = tmp_path / f"model-{len(started)}"
            behaviour = {"ttft_seconds": 0, "token_seconds": 0.001, **(faults or {})}
            make_model(folder, "chat", says, behaviour, task=task, **content)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "vllm_standin", "serve", str(folder), "--host", "127.0.0.1"]
        command += ["--port", str(port), "--served-model-name", *names, *args]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "operator", ROOT / "hack", placed))),
            "MODELSYNC_VERSION": "chat llm:v7",
            "MODELSYNC_REVISION": "v7-3fa9c1d2",
            "MODELSYNC_DIGEST": "0123abcd",
            "MODELSYNC_MODEL_DIR": str(folder),
            "MODELSYNC_SERVED_NAMES": ",".join(names),
            "MODELSYNC_FUSE_SHA256": sha256(FUSE_TOKEN.encode()).hexdigest(),
            "MODELSYNC_STATE_DIR": str(state),
        }
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment | (variables or {}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        started.append(Served(process, client))
        started[-1].state = state
        return started[-1]

    yield start
    await client.close()
    for served in started:
        if served.process.returncode is None:
            served.process.kill()
        await served.exit_code()


@pytest.fixture
async def served(serve: Serve) -> Served:
    """A running server with a good model."""
    return await (await serve()).listening()
