"""How long a gateway takes from a weight's write to the first request by it: Traefik, and Contour with Envoy.

    python tests/bench/gateway.py [--rounds 100] [--json FILE]

Runs inside the local cluster (`make bench-gateway`). Each gateway has one HTTPRoute with two backends, servers in this
process behind Services with endpoints of their own. In each round the route's weights, 100 and 0, are swapped, and a
client that sends requests continuously sees when the answers change. The clock starts when the API server has
acknowledged the write. The gateways alternate in one run, and rounds start at random intervals, since both batch
changes that are close together. No test depends on it: times on a shared machine are only comparable within one run.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "hack")]

import aiohttp  # noqa: E402
from aiohttp import web  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from localcluster import Cluster, ClusterError, Progress  # noqa: E402
from localcluster.contour import OtherGateway, end_contour, start_contour  # noqa: E402
from modelsync.api import kinds  # noqa: E402
from modelsync.cluster.client import Cluster as Kube  # noqa: E402
from modelsync.cluster.connection import connect  # noqa: E402

NAMESPACE = "bench-gateway"
PORTS = {"a": 18081, "b": 18082}
OTHER = {"a": "b", "b": "a"}
APART_SECONDS = (0.3, 1.0)
LONGEST_SECONDS = 30.0
STEADY = 20
"""So many answers in a row by the new backend end a round."""


@dataclass
class Contender:
    """One gateway: where it answers, by which host name its route goes, and what was measured, in seconds."""

    gateway: OtherGateway
    route: str
    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    lost: int = 0

    @property
    def host(self) -> str:
        return f"{self.route}.bench.example.com"


async def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    arguments = parser.parse_args()
    cluster, progress = Cluster.current(), Progress()
    traefik = OtherGateway("Traefik", {"name": "models", "namespace": "gateways"}, cluster.gateway_url)
    async with AsyncExitStack() as stack:
        stack.callback(end_contour, cluster)
        contenders = [Contender(traefik, "traefik"), Contender(start_contour(cluster, progress), "contour")]
        kube = Kube((await connect(cluster.kubeconfig)).client())
        stack.push_async_callback(kube.close)
        for name, port in PORTS.items():
            await stack.enter_async_context(served(cluster.node_address, name, port))
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, *services(cluster))
        stack.callback(cluster.kubectl, "delete", "namespace", NAMESPACE, "--wait=false")
        with progress.step(f"{arguments.rounds} rounds of {len(contenders)} gateways") as note:
            await measure(kube, contenders, arguments.rounds, note)
    numbers = {
        contender.gateway.name: {
            "rounds": len(contender.first),
            **{f"first_{name}_ms": value for name, value in percentiles(contender.first).items()},
            **{f"last_of_the_old_{name}_ms": value for name, value in percentiles(contender.last).items()},
            "requests_lost": contender.lost,
        }
        for contender in contenders
    }
    show(numbers)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n")


@asynccontextmanager
async def served(host: str, name: str, port: int) -> AsyncIterator[None]:
    """A backend that returns its name."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=name)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=3600)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    try:
        yield
    finally:
        await runner.cleanup()


def services(cluster: Cluster) -> list[dict[str, Any]]:
    """A Service without a selector for each backend, and its one endpoint."""
    found: list[dict[str, Any]] = []
    for name, port in PORTS.items():
        ports = [{"name": "http", "port": port, "protocol": "TCP"}]
        meta = {"name": name, "namespace": NAMESPACE}
        found.append({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": ports}})
        found.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**meta, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [cluster.node_address], "conditions": {"ready": True}}],
                "ports": ports,
            }
        )
    return found


async def measure(kube: Kube, contenders: list[Contender], rounds: int, note: Any) -> None:
    """Let the gateways take turns."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as client:
        for contender in contenders:
            await write(kube, contender, "a")
            await until_steady(client, contender, "a", time.monotonic())
            contender.lost = 0  # before the route was there
        serving = "a"
        for number in range(rounds):
            serving = OTHER[serving]
            for contender in contenders:
                note(f"round {number + 1}, {contender.gateway.name}")
                await asyncio.sleep(random.uniform(*APART_SECONDS))
                await write(kube, contender, serving)
                first, last = await until_steady(client, contender, serving, time.monotonic())
                contender.first.append(first)
                contender.last.append(last)


async def write(kube: Kube, contender: Contender, serving: str) -> None:
    """Give all weight to one backend; the other stays with weight 0, as the operator does it."""
    backends = [
        {"group": "", "kind": "Service", "name": name, "port": port, "weight": 100 if name == serving else 0}
        for name, port in PORTS.items()
    ]
    match = {"path": {"type": "PathPrefix", "value": "/"}}
    body = {
        "apiVersion": kinds.HTTP_ROUTE.api_version,
        "kind": kinds.HTTP_ROUTE.kind,
        "metadata": {"name": contender.route, "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [contender.gateway.parent],
            "hostnames": [contender.host],
            "rules": [{"matches": [match], "backendRefs": backends}],
        },
    }
    await kube.apply(kinds.HTTP_ROUTE, NAMESPACE, body)


async def until_steady(
    client: aiohttp.ClientSession, contender: Contender, serving: str, written: float
) -> tuple[float, float]:
    """Send requests until only the new backend answers.

    Returns the seconds to its first answer and to the old one's last, 0 without one.
    """
    first, last, row = 0.0, 0.0, 0
    while row < STEADY:
        sent = time.monotonic()
        if sent - written > LONGEST_SECONDS:
            raise ClusterError(f"{contender.gateway.name} did not follow its route within {LONGEST_SECONDS:g} s")
        try:
            async with client.get(contender.gateway.url, headers={"host": contender.host}) as response:
                body = await response.text()
        except (aiohttp.ClientError, TimeoutError):
            body = ""
        now = time.monotonic() - written
        if body == serving:
            first = first or now
            row += 1
        else:
            row = 0
            last = now if body == OTHER[serving] else last
            contender.lost += body not in OTHER
    return first, last


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50, p99 and the greatest, in milliseconds, each one of the measured values (nearest rank)."""
    ordered = sorted(seconds)
    ranks = {"p50": 50, "p99": 99, "max": 100}
    return {name: round(1000 * ordered[max(0, -(-len(ordered) * rank // 100) - 1)], 1) for name, rank in ranks.items()}


def show(numbers: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(title="weight acknowledged → first request by it (last one by the old), milliseconds")
    for column in ("", "p50", "p99", "max", "old p50", "old p99", "rounds", "requests lost"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in numbers.items():
        first = [f"{row[f'first_{part}_ms']:.0f}" for part in ("p50", "p99", "max")]
        last = [f"{row[f'last_of_the_old_{part}_ms']:.0f}" for part in ("p50", "p99")]
        table.add_row(name, *first, *last, str(row["rounds"]), str(row["requests_lost"]))
    Console().print(table)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except ClusterError as problem:
        sys.exit(str(problem))
