"""Measures the middleware's cost per chunk and per request, against the same server without it, in one run.

    python tests/bench/middleware.py [--chunks 2000] [--streams 20] [--rounds 7] [--json FILE]

The server is an ASGI application that only sends chunks like vLLM's, called in this process: the cost of a socket would
hide the difference. Rounds alternate; the best of each is reported, as the one that the machine disturbed least. No
test depends on it: times on a shared machine are only comparable within one run.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "hack")]

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from modelsync.middleware.modelsync_middleware import VersionHeader  # noqa: E402
from modelsync.middleware.modelsync_middleware.asgi import App, Message, Receive, Scope, Send  # noqa: E402

CHUNK = (
    b'data: {"id":"cmpl-0123456789abcdef","object":"text_completion","created":1763700000,"model":"chat@v7-3fa9c1d2",'
    b'"choices":[{"index":0,"text":" word","logprobs":null,"finish_reason":null,"stop_reason":null}],"usage":null}\n\n'
)


def server(chunks: int) -> App:
    """Streams the given number of chunks, one per iteration of the event loop."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(chunks):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


async def seconds(app: App, streams: int) -> float:
    """How long that many streams at once take."""
    scope: Scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": [], "state": {}}

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Message) -> None:
        pass

    started = time.perf_counter()
    await asyncio.gather(*(app(dict(scope), receive, send) for _ in range(streams)))
    return time.perf_counter() - started


async def compare(chunks: int, streams: int, rounds: int) -> dict[str, float]:
    """Best of `rounds`, in µs: of a chunk, and of a request that is one chunk."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for what, inner, pieces in (("chunk", server(chunks), chunks), ("request", server(1), 1)):
            calls = streams if what == "chunk" else streams * 100
            for name, app in (("without", inner), ("with", VersionHeader(inner))):
                took = await seconds(app, calls)
                found.setdefault(f"{what}_{name}_us", []).append(took / (calls * pieces) * 1e6)
    best = {name: min(values) for name, values in found.items()}
    for what in ("chunk", "request"):
        best[f"{what}_cost_us"] = best[f"{what}_with_us"] - best[f"{what}_without_us"]
    return best


def main() -> None:
    """Run it and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        os.environ.update(
            MODELSYNC_VERSION="chat llm:v7",
            MODELSYNC_REVISION="v7-3fa9c1d2",
            MODELSYNC_DIGEST="0123456789abcdef",
            MODELSYNC_SERVED_NAMES="chat@v7-3fa9c1d2,chat",
            MODELSYNC_FUSE_SHA256="00" * 32,
            MODELSYNC_STATE_DIR=state,
        )
        best: dict[str, Any] = asyncio.run(compare(options.chunks, options.streams, options.rounds))
    table = Table("", "without", "with", "cost", title="the middleware, in µs")
    for what in ("chunk", "request"):
        table.add_row(f"one {what}", *(f"{best[f'{what}_{name}_us']:.2f}" for name in ("without", "with", "cost")))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps({**vars(options), **best, "json": None}, indent=2) + "\n")


if __name__ == "__main__":
    main()
