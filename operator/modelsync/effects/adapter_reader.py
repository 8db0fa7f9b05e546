"""Reads the configuration of LoRA adapters, once for each digest, and reports when it is available.

What an adapter's author wrote is read in a process apart (adapter_process.py), a few at a time, and namespaces take
turns: an adapter, or a namespace with many of them, harms nobody else.

A result is only used for the (server, credential) pair that it was read with, like the registry's answers. The
credential is fetched for each read and dropped after it; it must never be kept. Nothing is decided here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

import structlog

from modelsync.api.foreign_text import foreign_text
from modelsync.api.kinds import Key
from modelsync.api.model_ref import CollectionRef
from modelsync.api.pod_contract import EXIT_CONTENT
from modelsync.effects.adapter_process import Order, ReadingFailedError, read_apart
from modelsync.effects.fair_slots import CrowdedError, FairSlots
from modelsync.observe.adapters import Failing, Known, Refused
from modelsync.puller.errors import PullError
from modelsync.puller.locate_artifact import locate_artifact
from modelsync.registry.credential import InvalidCredentialError
from modelsync.registry.errors import RegistryError
from modelsync.registry.graphql import GraphQL, InvalidBaseURLError, InvalidCABundleError, tls, user_agent
from modelsync.registry.poller import Server, Subscription
from modelsync.resources.adapter_config import CONFIG_FILE, AdapterConfig, AdapterRefusedError
from modelsync.resources.revision import Artifact

MAX_CONCURRENT_READS = 2
"""For all namespaces together, one of each. The pod's memory limit covers as many processes at their own limit."""
MAX_WAITING = 64
"""Of a namespace; the others are tried again later."""
READ_TIMEOUT = timedelta(seconds=55)
"""Shorter than a reading process lives."""
BACKOFF = (timedelta(seconds=1), timedelta(minutes=1))
"""The first and the longest delay before a failed read is retried."""
MAX_RESULTS = 4096

log = structlog.get_logger(__name__)

_Pair: TypeAlias = tuple[Server, Hashable]
_Entry: TypeAlias = tuple[_Pair, str]
Read: TypeAlias = Callable[[Subscription, Artifact], Awaitable[AdapterConfig]]
"""Raises what `read_adapter_apart` raises."""


@dataclass(slots=True)
class _Backoff:
    """Consecutive failures of an adapter's reads, and when the next try is allowed (on the event loop's clock)."""

    count: int = 0
    until: float = 0.0


@dataclass(slots=True)
class AdapterReader:
    """Calls `on_change(key)` in the event loop when an adapter that `key` requested was read, or may be read again."""

    on_change: Callable[[Key], None]
    read: Read = field(default_factory=lambda: read_adapter_apart)
    _results: dict[_Entry, AdapterConfig | Refused | Failing] = field(default_factory=dict)
    _backoffs: dict[_Entry, _Backoff] = field(default_factory=dict)
    _tasks: dict[_Entry, asyncio.Task[None]] = field(default_factory=dict)
    _waiting: dict[_Entry, set[Key]] = field(default_factory=dict)
    _slots: FairSlots = field(default_factory=lambda: FairSlots(slots=MAX_CONCURRENT_READS, waiting=MAX_WAITING))

    def known(self, subscription: Subscription) -> Known:
        """Return the results that were read with this subscription's server and credential, by digest."""
        pair = _pair(subscription)
        return {digest: result for (read_with, digest), result in self._results.items() if read_with == pair}

    def request(self, key: Key, subscription: Subscription, artifact: Artifact) -> None:
        """Start a read, unless one is running or has just failed. `on_change(key)` is called afterwards."""
        entry = (_pair(subscription), artifact.digest)
        self._waiting.setdefault(entry, set()).add(key)
        backoff = self._backoffs.get(entry)
        loop = asyncio.get_running_loop()
        if entry in self._tasks or (backoff is not None and loop.time() < backoff.until):
            return
        self._tasks[entry] = loop.create_task(self._read(entry, key.namespace, subscription, artifact))

    async def stop(self) -> None:
        """Cancel all running reads."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, entry: _Entry, tenant: str, subscription: Subscription, artifact: Artifact) -> None:
        try:
            try:
                async with self._slots.turn(tenant):
                    result = await self._result(subscription, artifact)
            except CrowdedError as error:
                result = Failing(f"too many adapters wait to be read: {error}")
        finally:
            del self._tasks[entry]
        self._results[entry] = result
        for kept in (self._results, self._backoffs):
            if len(kept) > MAX_RESULTS:
                del kept[next(iter(kept))]
        if isinstance(result, Failing):
            self._schedule_retry(entry)
            log.warning("adapter.unreadable", artifact=artifact.ref, problem=result.message)
        else:
            self._backoffs.pop(entry, None)
        self._notify(self._waiting.pop(entry, set()))

    async def _result(self, subscription: Subscription, artifact: Artifact) -> AdapterConfig | Refused | Failing:
        try:
            async with asyncio.timeout(READ_TIMEOUT.total_seconds()):
                return await self.read(subscription, artifact)
        except AdapterRefusedError as error:
            return Refused(str(error))
        except TimeoutError:
            return Failing(f"not within {READ_TIMEOUT.total_seconds():.0f} s")
        except ReadingFailedError as error:
            return Failing(str(error))
        except PullError as error:
            return Refused(str(error)) if error.exit_code == EXIT_CONTENT else Failing(str(error))
        except (RegistryError, InvalidCredentialError, InvalidBaseURLError, InvalidCABundleError) as error:
            return Failing(str(error))
        except Exception as error:  # a defect: other adapters must still be read, and this one is retried
            log.exception("adapter.failed", artifact=artifact.ref)
            return Failing(f"{type(error).__name__}: {foreign_text(str(error))}")

    def _schedule_retry(self, entry: _Entry) -> None:
        backoff = self._backoffs.setdefault(entry, _Backoff())
        first, most = (bound.total_seconds() for bound in BACKOFF)
        delay = min(first * 2 ** min(backoff.count, 30), most)
        backoff.count += 1
        loop = asyncio.get_running_loop()
        backoff.until = loop.time() + delay
        keys = frozenset(self._waiting.get(entry, ()))
        loop.call_later(delay, self._notify, keys)

    def _notify(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.on_change(key)


async def read_adapter_apart(subscription: Subscription, artifact: Artifact) -> AdapterConfig:
    """Ask the registry where the adapter's files are, and have them read in a process apart.

    Raises AdapterRefusedError, ReadingFailedError, PullError, RegistryError, and InvalidCredentialError,
    InvalidBaseURLError or InvalidCABundleError.
    """
    server = subscription.server
    context = tls(ca_pem=server.ca_pem) if server.ca_pem is not None else None
    credential = await subscription.credential()
    async with GraphQL(server.base_url, credential, ssl_context=context) as api:
        location = await locate_artifact(
            api,
            artifact_id=artifact.artifact_id,
            digest=artifact.digest,
            ref=CollectionRef(artifact.entity, artifact.project, artifact.collection).at(artifact.version),
            names=[CONFIG_FILE],
        )
    return await read_apart(Order(location, user_agent(), server.ca_pem))


def _pair(subscription: Subscription) -> _Pair:
    return subscription.server, subscription.identity
