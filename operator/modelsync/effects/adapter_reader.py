"""Reads the configuration of LoRA adapters, once for each digest, and reports when it is available.

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
from modelsync.observe.adapters import Failing, Known, Refused
from modelsync.puller.errors import PullError
from modelsync.puller.inspect_artifact import InspectedArtifact, inspect_artifact
from modelsync.registry.credential import InvalidCredentialError
from modelsync.registry.errors import RegistryError
from modelsync.registry.graphql import GraphQL, InvalidBaseURLError, InvalidCABundleError, tls
from modelsync.registry.poller import Server, Subscription
from modelsync.resources.adapter_config import CONFIG_FILE, AdapterConfig, AdapterRefusedError, read_adapter
from modelsync.resources.revision import Artifact

MAX_CONCURRENT_READS = 4
READ_TIMEOUT = timedelta(seconds=60)
BACKOFF = (timedelta(seconds=1), timedelta(minutes=1))
"""The first and the longest delay before a failed read is retried."""
MAX_RESULTS = 4096

log = structlog.get_logger(__name__)

_Pair: TypeAlias = tuple[Server, Hashable]
_Entry: TypeAlias = tuple[_Pair, str]
Inspect: TypeAlias = Callable[[Subscription, Artifact], Awaitable[InspectedArtifact]]


@dataclass(slots=True)
class _Backoff:
    """Consecutive failures of an adapter's reads, and when the next try is allowed (on the event loop's clock)."""

    count: int = 0
    until: float = 0.0


@dataclass(slots=True)
class AdapterReader:
    """Calls `on_change(key)` in the event loop when an adapter that `key` requested was read, or may be read again."""

    on_change: Callable[[Key], None]
    inspect: Inspect = field(default_factory=lambda: inspect_adapter)
    _results: dict[_Entry, AdapterConfig | Refused | Failing] = field(default_factory=dict)
    _backoffs: dict[_Entry, _Backoff] = field(default_factory=dict)
    _tasks: dict[_Entry, asyncio.Task[None]] = field(default_factory=dict)
    _waiting: dict[_Entry, set[Key]] = field(default_factory=dict)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_CONCURRENT_READS))

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
        self._tasks[entry] = loop.create_task(self._read(entry, subscription, artifact))

    async def stop(self) -> None:
        """Cancel all running reads."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, entry: _Entry, subscription: Subscription, artifact: Artifact) -> None:
        try:
            async with self._slots:
                result = await self._inspect(subscription, artifact)
        finally:
            del self._tasks[entry]
        self._results[entry] = result
        if len(self._results) > MAX_RESULTS:
            del self._results[next(iter(self._results))]
        if isinstance(result, Failing):
            self._schedule_retry(entry)
            log.warning("adapter.unreadable", artifact=artifact.ref, problem=result.message)
        else:
            self._backoffs.pop(entry, None)
        self._notify(self._waiting.pop(entry, set()))

    async def _inspect(self, subscription: Subscription, artifact: Artifact) -> AdapterConfig | Refused | Failing:
        try:
            async with asyncio.timeout(READ_TIMEOUT.total_seconds()):
                inspected = await self.inspect(subscription, artifact)
            if CONFIG_FILE not in inspected.contents:
                return Refused(f"it has no {CONFIG_FILE}; log the folder that PEFT's save_pretrained writes")
            return read_adapter(inspected.files, inspected.contents[CONFIG_FILE])
        except AdapterRefusedError as error:
            return Refused(str(error))
        except TimeoutError:
            return Failing(f"not within {READ_TIMEOUT.total_seconds():.0f} s")
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


async def inspect_adapter(subscription: Subscription, artifact: Artifact) -> InspectedArtifact:
    """Read an adapter's file list and configuration from the registry and its object store.

    Raises PullError, RegistryError, and InvalidCredentialError, InvalidBaseURLError or InvalidCABundleError.
    """
    server = subscription.server
    context = tls(ca_pem=server.ca_pem) if server.ca_pem is not None else None
    credential = await subscription.credential()
    async with GraphQL(server.base_url, credential, ssl_context=context) as api:
        return await inspect_artifact(
            api,
            artifact_id=artifact.artifact_id,
            digest=artifact.digest,
            ref=CollectionRef(artifact.entity, artifact.project, artifact.collection).at(artifact.version),
            names=[CONFIG_FILE],
            ssl_context=context,
        )


def _pair(subscription: Subscription) -> _Pair:
    return subscription.server, subscription.identity
