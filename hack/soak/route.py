"""Follows the weights of one HTTPRoute by a watch: the wanted weights, and since when."""

import asyncio
import json
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from modelsync.api import kinds, names
from modelsync.cluster.connection import Credentials, connect


@dataclass(frozen=True, slots=True)
class Wanted:
    """The weights in the route by revision, from `since` on: when the watch reported them, in monotonic seconds."""

    since: float
    weights: dict[str, int]


class RouteWatch:
    """`async with RouteWatch(namespace, name) as watch:`; `watch.wanted` has an entry for each change, oldest first."""

    def __init__(self, namespace: str, name: str) -> None:
        self._namespace = namespace
        self._name = name
        self.wanted: list[Wanted] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start to watch."""
        credentials = await (await connect()).credentials()
        self._task = asyncio.create_task(self._run(credentials))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        if self._task:
            if self._task.done():
                self._task.result()  # a broken watch must not look like an unchanged route
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @property
    def changes(self) -> int:
        """How often a weight changed."""
        return max(0, len(self.wanted) - 1)

    async def _run(self, credentials: Credentials) -> None:
        headers = {"authorization": credentials.authorization} if credentials.authorization else {}
        url = credentials.server + kinds.HTTP_ROUTE.path(self._namespace)
        query = {"watch": "1", "fieldSelector": f"metadata.name={self._name}"}
        context = ssl.create_default_context(cafile=credentials.ca_path)
        if credentials.certificate_path:
            context.load_cert_chain(credentials.certificate_path, credentials.private_key_path)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            while True:  # the API server ends watches now and then; a new one starts with the current state
                async with session.get(url, params=query, ssl=context) as answer:
                    answer.raise_for_status()
                    async for line in answer.content:
                        self._see(json.loads(line).get("object", {}))

    def _see(self, route: dict[str, Any]) -> None:
        weights = {
            revision: backend.get("weight", 1)
            for rule in route.get("spec", {}).get("rules", [])
            for backend in rule.get("backendRefs", [])
            if (revision := names.revision_of(self._name, backend["name"])) is not None and backend.get("weight", 1)
        }
        if weights and (not self.wanted or self.wanted[-1].weights != weights):
            self.wanted.append(Wanted(time.monotonic(), weights))
