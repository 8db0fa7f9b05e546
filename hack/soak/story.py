"""The sequence of a soak. It only does what users do, and records when."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from localcluster.contour import OtherGateway
from modelsync.api import kinds
from modelsync.api.requests import ABORT
from soak.route import RouteWatch
from stage import Deployment, Stage, model_deployment
from stage.stage import ENTITY, REGISTRY, condition, stable_version, weight_of
from traffic import Traffic, Way

SETTLE = timedelta(seconds=1)
STEPS: tuple[Mapping[str, Any], ...] = (
    {"setWeight": 10},
    {"pause": {"duration": "2s"}},
    {"setWeight": 30},
    {"pause": {"duration": "2s"}},
    {"setWeight": 60},
    {"pause": {"duration": "2s"}},
)
BEHAVIOUR = {"ttft_seconds": 0.05, "token_seconds": 0.2, "tokens": 100}
"""Few tokens, far apart, for every version, so that streams last seconds and need little CPU."""
STREAM_TOKENS = 20
ANSWER_TOKENS = 2
WAIT_SECONDS = 150.0

PrintLine = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many of each event."""

    promotions: int
    aborts: int
    holds: int
    weight_changes: int
    """Minimum number of changes that must be seen in the route."""
    canary_drains: int = 0
    """In this many promotions, a pod of the canary is deleted, too, at its last weight, when it has several."""
    rate: float = 110.0
    replicas: int = 3
    steps: tuple[Mapping[str, Any], ...] = STEPS


FULL = Plan(promotions=10, aborts=10, holds=5, weight_changes=50, canary_drains=2)
SHORT = Plan(
    promotions=2,
    aborts=2,
    holds=1,
    weight_changes=10,
    replicas=2,
    steps=({"setWeight": 10}, {"pause": {"duration": "2s"}}, {"setWeight": 50}, {"pause": {"duration": "2s"}}),
)


@dataclass(slots=True)
class Held:
    """A hold: on which revision, and when it was set (monotonic seconds)."""

    revision: str
    at: float


@dataclass(slots=True)
class Record:
    """What was done, and what was observed."""

    plan: Plan
    traffic: Traffic
    route: RouteWatch
    started: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    cpu_seconds: float = 0.0
    promotions: int = 0
    aborts: int = 0
    holds: list[Held] = field(default_factory=list)
    deletions: int = 0


async def run(
    stage: Stage,
    plan: Plan,
    namespace: str,
    *,
    print_line: PrintLine,
    gateway: OtherGateway | None = None,
) -> Record:
    """Play `plan` in a new namespace; returns when the last answer has ended.

    `gateway`: instead of the local cluster's own. Raises StageError when an expected state is not reached.
    """
    await stage.namespace(namespace)
    manifest = model_deployment(
        namespace,
        "chat",
        f"{ENTITY}/{REGISTRY}/{namespace}:production",
        server=stage.servers.registry_url,
        replicas=plan.replicas,
        steps=plan.steps,
        keep_previous={"replicas": 2, "duration": "10m"},
    )
    manifest["spec"]["traffic"]["settle"] = f"{SETTLE.total_seconds():g}s"
    if gateway is not None:
        manifest["spec"]["traffic"]["gateway"]["parentRefs"] = [gateway.parent]
    first = _log(stage, namespace)
    stage.add_webhook(namespace)
    _point(stage, namespace, first)
    print_line(f"{first} starts on {plan.replicas} pods")
    deployment = await stage.deploy(manifest)
    await deployment.until_serving(first, WAIT_SECONDS)
    traffic = deployment.traffic(rate=plan.rate, max_tokens=ANSWER_TOKENS, stream_tokens=STREAM_TOKENS, ways=list(Way))
    traffic.url = f"{gateway.url}/v1" if gateway is not None else traffic.url
    async with RouteWatch(namespace, "chat") as route:
        record = Record(plan, traffic, route)
        cpu = time.process_time()
        async with traffic:
            await _Story(stage, deployment, namespace, record, print_line).play()
            print_line("waiting for the last answers")
        record.ended = time.monotonic()
        record.cpu_seconds = time.process_time() - cpu
    return record


class _Story:
    def __init__(
        self, stage: Stage, deployment: Deployment, collection: str, record: Record, print_line: PrintLine
    ) -> None:
        self._stage = stage
        self._deployment = deployment
        self._collection = collection
        self._record = record
        self._plan = record.plan
        self._print = print_line

    async def play(self) -> None:
        """Abort, promotion and hold in turn, deleting a pod of the stable in each."""
        await self._record.traffic.until(lambda traffic: len(traffic.answers) >= 3 * self._plan.rate)
        for number in range(max(self._plan.promotions, self._plan.aborts)):
            if number < self._plan.aborts:
                await self._abort(number)
            if number < self._plan.promotions:
                promoted = await self._promote(number)
                if len(self._record.holds) < self._plan.holds and number % 2 == (self._plan.promotions - 1) % 2:
                    await self._hold(promoted)

    async def _promote(self, number: int) -> str:
        version = await self._next()
        drain = number < self._plan.canary_drains
        self._report(f"promotion: the alias moves to {version}{', and one of its pods is deleted' if drain else ''}")
        await self._point(version)
        status = await self._deployment.until_weight(version, self._weights[0], WAIT_SECONDS)
        await self._delete_a_pod(status["promoted"][-1])
        if drain:
            status = await self._deployment.until_weight(version, self._weights[-1], WAIT_SECONDS)
            await self._delete_a_pod(status["canary"]["revision"])
        await self._deployment.until_serving(version, WAIT_SECONDS)
        self._record.promotions += 1
        return version

    async def _abort(self, number: int) -> None:
        """Alternately at the first and second step, and alternately by moving the alias and by a request."""
        before = stable_version(await self._deployment.status()) or ""
        version = await self._next()
        by_alias = number % 2 == 0
        self._report(f"abort of {version}, {'by moving the alias back' if by_alias else 'by request'}")
        await self._point(version)
        wanted = self._weights[min(len(self._weights) - 1, (number // 2) % 2)]
        status = await self._deployment.until_weight(version, wanted, WAIT_SECONDS)
        canary = status["canary"]["revision"]
        await self._delete_a_pod(status["promoted"][-1])
        if by_alias:
            await self._point(before)
        else:
            await self._deployment.annotate(ABORT.annotation, canary)
        await self._deployment.until(
            f"{version} is rolled back",
            lambda status: weight_of(status, version) == 0 and not status.get("canary"),
            WAIT_SECONDS,
        )
        self._record.aborts += 1

    async def _hold(self, version: str) -> None:
        status = await self._deployment.status()
        revision = status["promoted"][-1]
        self._report(f"hold on {version}, which serves")
        self._record.holds.append(Held(revision, time.monotonic()))
        await asyncio.to_thread(self._stage.registry.add_tag, f"{self._path}:{version}", "regulatory-hold")
        await self._deployment.until(
            "the previous version has all traffic and all its pods",
            lambda status: (
                weight_of(status, version) == 0
                and condition(status, "OnHold").get("status") == "True"
                and stable_version(status) != version
                and (status.get("readyReplicas") or 0) >= self._plan.replicas
            ),
            WAIT_SECONDS,
        )

    async def _delete_a_pod(self, revision: str) -> None:
        """Delete gracefully, like a node drain. The Deployment creates another one."""
        pods = await self._deployment.pods(revision)
        serving = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        name = serving[self._record.deletions % len(serving)]["metadata"]["name"]
        await self._stage.kube.delete(kinds.POD, self._collection, name)
        self._record.deletions += 1

    @property
    def _weights(self) -> list[int]:
        return [step["setWeight"] for step in self._plan.steps if "setWeight" in step]

    @property
    def _path(self) -> str:
        return f"{ENTITY}/{REGISTRY}/{self._collection}"

    async def _next(self) -> str:
        """Log a new version; in a thread, since it must not delay the client."""
        return await asyncio.to_thread(_log, self._stage, self._collection)

    async def _point(self, version: str) -> None:
        await asyncio.to_thread(_point, self._stage, self._collection, version)

    def _report(self, what: str) -> None:
        record, traffic = self._record, self._record.traffic
        self._print(
            f"{time.monotonic() - record.started:4.0f} s  {len(traffic.answers):6} requests, "
            f"{len(traffic.unserved())} not served, {record.route.changes:2} weight changes  {what}"
        )


def _log(stage: Stage, collection: str) -> str:
    return stage.log_version(collection, f"I was logged at {time.time()}", faults=BEHAVIOUR).version


def _point(stage: Stage, collection: str, version: str) -> None:
    stage.registry.set_alias(f"{ENTITY}/{REGISTRY}/{collection}:{version}", "production")
